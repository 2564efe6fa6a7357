-- A table that does not hold each accepted event of its name once.
{%- set columns = ref('event_columns') %}
{%- set events = ref('int_events') %}
{%- set tables = [] %}
{#- SQLMesh asks for the SQL before there is anything to ask, as does `dbt docs
    generate` before the first run. -#}
{%- if execute and adapter.resolve_identifier is not defined and load_relation(columns) %}
{%- set tables = fromjson(query_value(
    "select coalesce(cast(to_json(list(distinct table_name)) as varchar), '[]') from "
    ~ columns ~ " where table_name is not null"
)) %}
{%- endif %}

with

accepted as (

    select named.table_name, count(*) as count_events
    from {{ events }} as events
    inner join (select distinct event, table_name from {{ columns }}) as named
        using (event)
    where events.type = 'track' and named.table_name is not null
    group by named.table_name

),

held as (

    {% for name in tables | sort -%}
    select
        {{ literal(name) }} as table_name,
        count(*) as count_rows,
        count(distinct (scope, message_id)) as count_messages
    from {{ api.Relation.create(columns.database, columns.schema, name) }}
    union all
    {% endfor -%}
    select '' as table_name, 0 as count_rows, 0 as count_messages

)

select held.*, accepted.count_events
from held
left join accepted using (table_name)
where
    held.count_rows <> coalesce(accepted.count_events, 0)
    or held.count_messages <> held.count_rows
