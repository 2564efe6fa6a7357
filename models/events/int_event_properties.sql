-- What was ever seen where in an event, also in arrivals that repeat or contradict an
-- accepted one: it only grows, so nothing depends on which arrival was read first.
-- depends_on: {{ ref('int_events') }}
{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key=['event', 'path', 'kind'],
) }}
{%- set deepest = 6 %}
{%- set kept = ['event', 'received_at', 'load_seq', 'path', 'property'] %}

with

tracked as (

    select
        event,
        received_at,
        load_seq,
        properties as value,
        '' as path,
        '' as property
    from ({{ raw_stream('events', watermark()) }})
    where type = 'track' and event is not null

),

{% for depth in range(1, deepest + 1) -%}
{%- set objects = 'tracked' if loop.first
    else '(select * from level_' ~ (depth - 1) ~ " where type = 'OBJECT')" %}
entries_{{ depth }} as (

    {{ json_entries(objects, 'value', kept) | indent(4) }}

),

level_{{ depth }} as (

    select
        event,
        received_at,
        load_seq,
        -- A pointer (RFC 6901); properties of two levels may be read the same.
        path || '/' || replace(replace(name, '~', '~0'), '/', '~1') as path,
        {{ "name" if loop.first else "property || '.' || name" }} as property,
        value,
        type
    from entries_{{ depth }}
    where type <> 'NULL'

),

{% endfor -%}

found as (

    select
        event,
        received_at,
        load_seq,
        path,
        property,
        'event' as kind
    from tracked
    {%- for depth in range(1, deepest + 1) %}
    union all
    select
        event,
        received_at,
        load_seq,
        path,
        property,
        {{ json_kind('type', 'value', 'text' if loop.last else 'object') }} as kind
    from level_{{ depth }}
    {%- endfor %}

),

arrived as (

    select
        event,
        path,
        property,
        kind,
        min(received_at) as first_received_at,
        max(load_seq) as load_seq
    from found
    group by event, path, property, kind

),

known as (

    select * from arrived
    {%- if is_incremental() %}

    union all by name

    select *
    from {{ this }}
    where (event, path, kind) in (select (event, path, kind) from arrived)
    {%- endif %}

)

select
    event,
    path,
    property,
    kind,
    min(first_received_at) as first_received_at,
    max(load_seq) as load_seq
from known
group by event, path, property, kind
