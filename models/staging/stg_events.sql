{{ config(materialized='view', alias='events') }}

select
    -- ids
    message_id,
    scope,
    type,
    event,
    event_text,
    name,
    user_id,
    anonymous_id,
    distinct_id,
    previous_id,
    group_type,
    group_id,

    -- times
    timestamp,
    original_timestamp,
    sent_at,
    received_at,
    skew_ms,

    -- payload
    nullif(properties, '') as properties,
    nullif(traits, '') as traits,
    nullif(context, '') as context,
    nullif(integrations, '') as integrations,
    nullif(consent, '') as consent,
    identifiers,

    -- origin
    source,
    channel,
    contract_version,
    violations

from {{ ref('int_events') }}
