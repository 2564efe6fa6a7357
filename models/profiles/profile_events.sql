-- Sorted by name and time, so that a query for an event in a window reads only that
-- part. Missing JSON is an empty object; int_events explains why it is not null.
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

    -- event
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
