-- A person is in one group of a type at a time: a call that names another moves them.
with

calls as (

    select * from {{ ref('int_group_calls') }}

),

moves as (

    select
        *,
        lag(group_id) over (
            partition by profile_id, group_type
            order by timestamp, received_at, message_id, source
        ) as former_group_id
    from calls

),

arrivals as (

    select
        group_type,
        group_id,
        profile_id,
        timestamp as valid_from,
        lead(timestamp) over (
            partition by profile_id, group_type
            order by timestamp, received_at, message_id, source
        ) as valid_to
    from moves
    where group_id is distinct from former_group_id

)

select * from arrivals
