-- Every property ever seen in an event, also in duplicate or conflicting arrivals. Per
-- event only a fixed number is kept, the first received, so that neither this table nor
-- a run grows with an unlimited number of names.
-- depends_on: {{ ref('int_events') }}
{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key='event',
) }}
{%- set deepest = 6 %}
{%- set most_known = most_event_properties() %}
{%- set kept = ['event', 'received_at', 'load_seq', 'path', 'property'] %}
{#-
    A full event forgets the properties it drops. An import may bring an arrival from
    before its last known property; a dropped one may then be among the first after all,
    so the whole event is read again.
-#}
{%- set reopened -%}
    select full_events.event
    from (
        select event, max(since) as last_since
        from (
            select event, path, min(first_received_at) as since
            from {{ this }}
            where kind <> 'event'
            group by event, path
        )
        group by event
        having count(*) >= {{ most_known }}
    ) as full_events
    inner join ({{ raw_stream('events', watermark()) }}) as arrivals using (event)
    where arrivals.received_at <= full_events.last_since
{%- endset %}
{%- set rereads = is_incremental() and row_count('(' ~ reopened ~ ')') %}

with

tracked as (

    select
        event,
        received_at,
        load_seq,
        properties as value,
        '' as path,
        '' as property
    from ({{ raw_stream('events', -1 if rereads else watermark()) }})
    where
        type = 'track'
        and event is not null
        {%- if rereads %}
        and (load_seq > {{ watermark() }} or event in ({{ reopened }}))
        {%- endif %}

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
        -- A pointer (RFC 6901); properties on two levels may get the same one.
        path || '/' || replace(replace(name, '~', '~0'), '/', '~1') as path,
        {{ "name" if loop.first else "property || '.' || name" }} as property,
        value,
        type
    from entries_{{ depth }}
    where type <> 'NULL'

),

{% endfor -%}

properties_seen as (

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
    from properties_seen
    group by event, path, property, kind

),

known as (

    select * from arrived
    {%- if is_incremental() %}

    union all by name

    select * from {{ this }} where event in (select event from arrived)
    {%- endif %}

),

dated as (

    select
        event,
        path,
        property,
        kind,
        min(first_received_at) as first_received_at,
        max(load_seq) as load_seq,
        min(min(first_received_at)) over (partition by event, path) as since
    from known
    group by event, path, property, kind

),

ranked as (

    -- 0 for the event itself: its path is the shortest, and it came with the first
    select
        *,
        dense_rank() over (partition by event order by since, path) - 1 as place
    from dated

)

select * exclude (since, place)
from ranked
where place <= {{ most_known }}
