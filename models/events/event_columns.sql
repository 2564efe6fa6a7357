-- One row per column of the event tables, from which the materialization builds them. A
-- pure function of everything ever seen: data received later never makes a column
-- exceed a limit and disappear.
-- depends_on: {{ ref('int_events') }}, {{ ref('int_dispositions') }}
{{ config(materialized='event_tables') }}
{%- set standard = standard_columns() %}

with

seen as (

    select * from {{ ref('int_event_properties') }}

),

events as (

    select event, min(first_received_at) as since
    from seen
    where kind = 'event'
    group by event

),

tables as (

    select event, since, named as table_name
    from (
        {{ with_names(
            'events', [], 'event', 'event', 'since',
            """base in ('event_columns', 'schema_changes')
                or starts_with(base, 'int_')""",
            'event'
        ) | indent(8) }}
    )

),

properties as (

    select
        event,
        path,
        property,
        min(first_received_at) as since,
        {{ column_type('kind') | indent(8) }} as type
    from seen
    where kind not in ('event', 'object')
    group by event, path, property

),

objects as (

    select event, path from seen where kind = 'object'

),

ranked as (

    select
        *,
        row_number() over (partition by event order by since, path) as position
    from properties

),

columns as (

    {{ with_names(
        'ranked', ['event'], 'property', 'path', 'since',
        "base in ('" ~ (reserved_words() + (standard | list)) | join("', '") ~ "')",
        'property'
    ) | indent(4) }}

),

wanted as (

    select event, '' as path, since, {{ standard | length }} as count_columns
    from events
    union all
    select event, path, since, 1 as count_columns
    from ranked
    where position <= {{ most_event_columns() }}

),

counted as (

    select
        event,
        path,
        sum(count_columns) over (order by since, event, path) as count_columns
    from wanted

),

with_room as (

    select event, path from counted where count_columns <= {{ most_columns_in_all() }}

),

standard as (

    {%- for name, type in standard.items() %}
    {{ 'union all' if not loop.first }}
    select
        '{{ name }}' as column_name,
        '{{ type }}' as type,
        {{ loop.index }} as position
    {%- endfor %}

),

properties_and_columns as (

    select
        tables.event,
        columns.property,
        tables.table_name,
        case when with_room.path is not null then columns.named end as column_name,
        case when with_room.path is not null then columns.type end as type,
        columns.since,
        columns.path,
        objects.path is not null as is_also_object,
        {{ standard | length }} + columns.position as position
    from tables
    inner join with_room as table_room on tables.event = table_room.event
    inner join columns on tables.event = columns.event
    left join with_room
        on columns.event = with_room.event and columns.path = with_room.path
    left join objects
        on columns.event = objects.event and columns.path = objects.path
    where table_room.path = ''

),

standard_columns as (

    select
        tables.event,
        null as property,
        tables.table_name,
        standard.column_name,
        standard.type,
        tables.since,
        null as path,
        false as is_also_object,
        standard.position
    from tables
    inner join with_room on tables.event = with_room.event
    cross join standard
    where with_room.path = ''

),

events_without_table as (

    select
        event,
        null as property,
        null as table_name,
        null as column_name,
        null as type,
        since,
        null as path,
        false as is_also_object,
        1 as position
    from tables
    where event not in (select event from with_room)

),

combined as (

    select * from properties_and_columns
    union all
    select * from standard_columns
    union all
    select * from events_without_table

)

select * from combined
