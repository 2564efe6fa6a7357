-- The last value set wins, by the event's time, then its arrival. A value set once
-- applies only if none is set, or since the last removal, and then the earliest wins.
{%- set event = ['profile_id', 'message_id', 'source', 'timestamp', 'received_at'] %}

with

stated as (

    select profile_id, message_id, source, timestamp, received_at, traits
    from {{ ref('profile_events') }}
    where type <> 'group' and json_type(traits) = 'OBJECT'

),

members as (

    {{ json_entries('stated', 'traits', event) }}

),

set_once as (

    select * from members where name = '$set_once' and type = 'OBJECT'

),

set_once_members as (

    {{ json_entries('set_once', 'value', event) }}

),

unset_list as (

    select * from members where name = '$unset' and type = 'ARRAY'

),

unset_names as (

    {{ json_values('unset_list', 'value', event) }}

),

unset_object as (

    select * from members where name = '$unset' and type = 'OBJECT'

),

unset_members as (

    {{ json_entries('unset_object', 'value', event) }}

),

statements as (

    -- the order in which operations of one event apply
    select {{ event | join(', ') }}, 1 as step, name as trait, value
    from set_once_members

    union all

    select {{ event | join(', ') }}, 2, name, value
    from members
    where
        not (name = '$set_once' and type = 'OBJECT')
        and not (name = '$unset' and type in ('ARRAY', 'OBJECT'))

    union all

    select {{ event | join(', ') }}, 3, {{ json_text('value') }}, null
    from unset_names

    union all

    select {{ event | join(', ') }}, 3, name, null
    from unset_members

),

ordered as (

    select
        *,
        row_number() over (
            partition by profile_id, trait
            order by timestamp, received_at, message_id, source, step, value
        ) as place
    from statements
    where trait is not null

),

compared as (

    select
        *,
        max(case when step > 1 then place end) over (
            partition by profile_id, trait
        ) as last_place
    from ordered

),

standing as (

    select *
    from compared
    qualify row_number() over (
        partition by profile_id, trait
        order by
            case when place = last_place and step = 2 then 0 else 1 end,
            case when step = 1 and place > coalesce(last_place, 0) then 0 else 1 end,
            case when step = 1 then place else -place end
    ) = 1

)

select
    profile_id,
    trait,
    {{ json_text('value') }} as value,
    cast(value as varchar) as value_json,
    source,
    timestamp as updated_at
from standing
