-- Sorted by name and time: a question about an event in a window reads only its part.
-- What was not sent is an empty object; int_events says why it is not null.
with

events as (

    select * from {{ ref('int_events') }}

),

identities as (

    select * from {{ ref('int_event_identities') }}

),

nodes as (

    select * from {{ ref('int_nodes') }}

)

select
    -- ids
    nodes.profile_id,
    events.message_id,
    events.scope,

    -- what happened
    events.type,
    coalesce(events.event, events.type) as event,
    events.name,
    events.group_type,
    events.group_id,
    coalesce(nullif(events.properties, ''), '{}') as properties,
    coalesce(nullif(events.traits, ''), '{}') as traits,
    events.source,

    -- times
    events.timestamp,
    events.received_at

from events
inner join identities using (message_key)
inner join nodes using (identifier_type, identifier_value)
order by event, events.timestamp
