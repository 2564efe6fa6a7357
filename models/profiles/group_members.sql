-- A call names all groups of a type the person is in from then on: naming another group
-- is a move, a list names several.
with

calls as (

    select distinct
        profile_id,
        group_type,
        group_id,
        timestamp,
        dense_rank() over (
            partition by profile_id, group_type
            order by timestamp, received_at, message_id, source
        ) as place
    from {{ ref('int_group_calls') }}
    where profile_id is not null

),

runs as (

    -- consecutive calls that name the group have the same difference
    select
        *,
        place - row_number() over (
            partition by profile_id, group_type, group_id order by place
        ) as run
    from calls

),

stays as (

    select
        profile_id,
        group_type,
        group_id,
        min(timestamp) as valid_from,
        max(place) + 1 as left_place
    from runs
    group by profile_id, group_type, group_id, run

),

moves as (

    select distinct profile_id, group_type, place, timestamp from calls

)

select
    stays.group_type,
    stays.group_id,
    stays.profile_id,
    stays.valid_from,
    moves.timestamp as valid_to
from stays
left join moves
    on
        stays.profile_id = moves.profile_id
        and stays.group_type = moves.group_type
        and stays.left_place = moves.place
-- Of calls at the same instant the last counts.
where moves.timestamp is distinct from stays.valid_from
