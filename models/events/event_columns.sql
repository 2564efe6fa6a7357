-- What each column of the event tables holds. A pure function of what was ever seen:
-- the materialization then makes the tables so.
-- depends_on: {{ ref('int_events') }}, {{ ref('int_dispositions') }}
{{ config(materialized='event_tables') }}
{%- set most_columns = 2000 %}
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

    select
        event,
        path,
        property,
        since,
        type,
        position,
        -- Who invents names without end does not widen the table without end.
        case when position <= {{ most_columns }} then named end as column_name
    from (
        {{ with_names(
            'ranked', ['event'], 'property', 'path', 'since',
            "base in ('" ~ (reserved_words() + (standard | list)) | join("', '") ~ "')",
            'property'
        ) | indent(8) }}
    )

),

standard as (

    {%- for name, type in standard.items() %}
    {{ 'union all' if not loop.first }}
    select
        '{{ name }}' as column_name,
        '{{ type }}' as type,
        {{ loop.index }} as position
    {%- endfor %}

)

select
    tables.event,
    columns.property,
    tables.table_name,
    columns.column_name,
    case when columns.column_name is not null then columns.type end as type,
    columns.since,
    columns.path,
    objects.path is not null as is_also_object,
    {{ standard | length }} + columns.position as position
from tables
inner join columns using (event)
left join objects using (event, path)

union all

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
cross join standard
