-- One row per pair of identifiers that events carried together, with first time and
-- count; a row whose two ends are equal is the identifier's own evidence.
{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key=['left_type', 'left_value', 'right_type', 'right_value'],
) }}
{%- set events = ref('int_events') %}
{%- set identifiers = ref('int_identifiers') %}
{%- set types = ref('identifier_types') %}

{% if is_incremental() -%}
with

latest as (

    select max(load_seq) as load_seq from {{ events }}

),

scope as (

    {{ link_scope(events, identifiers, types, since=watermark()) }}

),

events_in_scope as (

    select message_key, load_seq
    from {{ events }}
    where message_key in (
        select message_key
        from {{ identifiers }}
        where value in (
            select left_value from scope union select right_value from scope
        )
    )

),

links as (

    {{ links_of('events_in_scope', events, identifiers, types) }}

)

-- A link that no event shows any longer stays with count_events = 0, so that readers of
-- changes by load_seq see it disappear.
select
    scope.*,
    links.first_received_at,
    links.first_message_id,
    links.last_received_at,
    coalesce(links.count_events, 0) as count_events,
    latest.load_seq
from scope
left join links using (left_type, left_value, right_type, right_value)
cross join latest
{%- else -%}
with

latest as (

    select max(load_seq) as load_seq from {{ events }}

),

links as (

    {{ links_of(events, events, identifiers, types) }}

)

select links.*, latest.load_seq
from links
cross join latest
{%- endif %}
