-- Identifiers as events carried them, without placeholders. Append-only: when an
-- earlier arrival replaces a message, the old rows stay but no longer match int_events,
-- so that their links can be found and withdrawn.
{{ config(materialized='incremental', incremental_strategy='append') }}

with

events as (

    select message_key, message_id, received_at, identifiers, load_seq
    from {{ ref('int_events') }}
    {%- if is_incremental() %}
    where load_seq > {{ watermark() }}
    {%- endif %}

),

carried as (

    select
        * exclude (identifiers, identifier),
        identifier.type as identifier_type,
        identifier.value as value,
        -- Clients also send placeholders in quotes.
        trim(identifier.value, '"'' ') as bare_value
    from (select *, unnest(identifiers) as identifier from events)

),

blocked as (

    select * from {{ ref('blocked_identifiers') }}

)

select * exclude (bare_value)
from carried
where
    not exists (
        select 1 from blocked
        where
            blocked.match = 'exact'
            and blocked.value = carried.bare_value
            and blocked.identifier_type in ('*', carried.identifier_type)
    )
    and not exists (
        select 1 from blocked
        where
            blocked.match = 'casefold'
            and lower(blocked.value) = lower(carried.bare_value)
            and blocked.identifier_type in ('*', carried.identifier_type)
    )
    and not exists (
        select 1 from blocked
        where
            blocked.match = 'regex'
            and regexp_matches(carried.bare_value, blocked.value)
            and blocked.identifier_type in ('*', carried.identifier_type)
    )
