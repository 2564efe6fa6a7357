-- A group's own traits are kept beside it. An event that describes a group without
-- naming a person has no profile.
{%- set event = [
    'profile_id', 'message_id', 'source', 'group_type', 'group_id', 'timestamp',
    'received_at'
] %}

with

calls as (

    select
        nodes.profile_id,
        events.message_id,
        events.source,
        events.group_type,
        events.group_id,
        events.timestamp,
        events.received_at,
        case
            when events.type = 'group' then nullif(events.traits, '')
            when events.type = 'identify'
                then {{ json_object_member("nullif(events.properties, '')", '$group') }}
        end as group_traits
    from {{ ref('int_events') }} as events
    left join {{ ref('int_event_identities') }} using (message_key)
    left join {{ ref('int_nodes') }} as nodes using (identifier_type, identifier_value)
    where events.group_id is not null

),

listed as (

    -- an identify may name several groups
    select * from calls where json_type(group_traits) = 'ARRAY'

),

members as (

    {{ json_values('listed', 'group_traits', event) }}

)

select
    {{ event | join(',\n    ') }},
    -- each member of a list is described below
    case when json_type(group_traits) = 'OBJECT' then group_traits end as group_traits
from calls

union all

select
    profile_id,
    message_id,
    source,
    coalesce(nullif({{ json_member('value', '$group_type') }}, ''), 'company')
        as group_type,
    {{ json_member('value', '$group_id') }} as group_id,
    timestamp,
    received_at,
    value as group_traits
from members
where json_type(value) = 'OBJECT' and {{ json_member('value', '$group_id') }} <> ''
