{#-
    The event tables: one per event name, one typed column per property.

    The model is a query of the columns the tables should have. They are compared with
    the existing ones: a table is rebuilt from the events' JSON if a column changed its
    type, name or position; otherwise it only gains columns and rows, in a copy if it is
    small, and only new loads are read. A value is always cast from the JSON that was
    sent, never from a narrower column.

    Everything is one transaction, which ends by updating the registry.
-#}
{% materialization event_tables, default %}
    {#- As in resolved_identity, SQLMesh's loader also runs this. -#}
    {%- set registry = api.Relation.create(
        database=database,
        schema=schema,
        identifier=identifier | default(model['alias']),
        type='table',
    ) -%}
    {%- set existing = adapter.get_relation(
        database, schema, registry.identifier
    ) -%}
    {%- set is_full = (
        existing is none or should_full_refresh() or (is_first_insert | default(false))
    ) -%}

    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}

    {%- set events_schema = generate_schema_name(config.get('schema'), none) -%}

    {% call temp_table('wanted_columns') %}{{ sql }}{% endcall %}
    {% if existing is none %}
        {#- SQLMesh puts the registry into another schema; all tables share one. -#}
        {% do adapter.create_schema(event_table(events_schema, 'any')) %}
        {% do create_event_registry(registry) %}
    {% endif %}
    {%- set since = -1 if is_full else query_value(
        'select coalesce(max(load_seq), -1) from ' ~ side_table(registry, 'loaded')
    ) | int -%}
    {% do find_replaced_rows(registry, since) %}
    {% do find_table_work(registry, events_schema, since, is_full) %}
    {%- set work = fromjson(query_value(
        "select coalesce(cast(to_json(list(table_work order by table_name)) as varchar),"
        ~ " '[]') from table_work"
    )) -%}
    {% do drop_obsolete_tables(registry, events_schema) %}
    {% if work %}
        {% call temp_table('changed_events') %}
            select {{ (standard_columns() | list) | join(', ') }}, load_seq,
                coalesce(nullif(properties, ''), '{}') as properties
            from {{ ref('int_events') }}
            where type = 'track' and (
                load_seq > {{ since }}
                or event in (select event from table_work where action = 'build')
            )
            order by event
        {% endcall %}
    {% endif %}
    {% for table in work %}
        {%- set relation = event_table(events_schema, table.table_name) -%}
        {% if table.action == 'build' %}
            {% do build_event_table(relation, table) %}
        {% elif table.action == 'copy' %}
            {% do copy_event_table(relation, table, since) %}
        {% else %}
            {% do extend_event_table(relation, table, since) %}
        {% endif %}
    {% endfor %}
    {% if row_count(difference('wanted_columns', registry)) %}
        {% do record_schema_changes(registry) %}
        {% do replace_registry(registry) %}
    {% endif %}
    {% if work %}
        {#- It may be large, and the connection stays open. -#}
        {% call temp_table('changed_events') %}select null as event limit 0{% endcall %}
    {% endif %}
    {% do remember_load(registry) %}

    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {% if adapter.commit is defined %}{% do adapter.commit() %}{% endif %}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{ return({'relations': [registry]}) }}
{% endmaterialization %}


{% macro event_table(schema, name) -%}
    {{ return(api.Relation.create(
        database=database, schema=schema, identifier=name, type='table'
    )) }}
{%- endmacro %}


{% macro create_event_registry(registry) %}
    {% call statement() %}
        create table {{ registry }} as select * from wanted_columns limit 0
    {% endcall %}
    {% call statement() %}
        create table if not exists {{ side_table(registry, 'changes') }} (
            changed_at timestamp,
            event varchar,
            table_name varchar,
            column_name varchar,
            former_name varchar,
            old_type varchar,
            new_type varchar,
            property varchar
        )
    {% endcall %}
    {% call statement() %}
        create table if not exists {{ side_table(registry, 'loaded') }} (load_seq bigint)
    {% endcall %}
{% endmacro %}


{#-
    Rows of messages of which an earlier arrival has landed since. It may have another
    event name, so the row is in the table of its previous name. Leaves:
    replaced_rows (table_name, scope, message_id).
-#}
{% macro find_replaced_rows(registry, since) %}
    {% call temp_table('replaced_rows') %}
        select distinct named.table_name, events.scope, events.message_id
        from {{ ref('int_events') }} as events
        inner join {{ ref('int_dispositions') }} as previous using (message_key)
        inner join (
            select distinct event, table_name
            from {{ registry }}
            where table_name is not null
        ) as named on previous.event = named.event
        where events.load_seq > {{ since }}
            and previous.load_seq <= {{ since }}
            and previous.disposition <> 'accepted'
    {% endcall %}
{% endmacro %}


{#-
    The work per table. Leaves: table_work (event, table_name, columns, count_had,
    has_replaced, action), where action is `build` (from all rows), or `extend` or
    `copy` (add the columns after the first count_had, and the rows of new loads).

    A small table is copied, because DuckDB keeps 256 KiB for each column to which a
    transaction adds a row: one row in each of 500 tables of 20 columns takes 2.8 GB,
    and 0.4 GB with copying. From 2,000 rows on copying takes longer.

    The registry knows a table's columns, the catalog whether the table exists: one that
    was dropped manually is rebuilt. So is one that gains more than 200 columns at once:
    adding 2,000 one by one takes DuckDB 6 s, and reading the statements as long again.
-#}
{% macro find_table_work(registry, schema, since, is_full) %}
    {% call temp_table('table_work') %}
        with
        wanted as (
            select
                event,
                table_name,
                list(
                    struct_pack(
                        name := column_name,
                        type := type,
                        path := coalesce(path, ''),
                        is_also_object := is_also_object
                    )
                    order by position
                ) as columns,
                list([column_name, type, coalesce(path, '')] order by position) as made
            from wanted_columns
            where column_name is not null
            group by event, table_name
        ),
        had as (
            select
                event,
                table_name,
                list([column_name, type, coalesce(path, '')] order by position) as made
            from {{ registry }}
            where column_name is not null
            group by event, table_name
        ),
        there as (
            select table_name, count(*) as count_columns, any_value(count_rows) as count_rows
            from ({{ catalog_columns(schema) }})
            inner join ({{ catalog_rows(schema) }}) using (table_name)
            group by table_name
        ),
        news as (
            select distinct event
            from {{ ref('int_events') }}
            where load_seq > {{ since }} and type = 'track'
        ),
        decided as (
            select
                wanted.event,
                wanted.table_name,
                wanted.columns,
                len(had.made) as count_had,
                replaced.table_name is not null as has_replaced,
                case
                    when {{ is_full }}
                        or had.made is null
                        or there.count_columns is distinct from len(had.made)
                        or list_slice(wanted.made, 1, len(had.made)) <> had.made
                        or len(wanted.made) > len(had.made) + 200
                        then 'build'
                    when len(wanted.made) > len(had.made)
                        or wanted.event in (select event from news)
                        or replaced.table_name is not null
                        then case when there.count_rows < 2000 then 'copy' else 'extend' end
                end as action
            from wanted
            left join had using (event, table_name)
            left join there using (table_name)
            left join (select distinct table_name from replaced_rows) as replaced
                on wanted.table_name = replaced.table_name
        )
        select * from decided where action is not null
    {% endcall %}
{% endmacro %}


{#- Drops the tables of event names that no longer exist. -#}
{% macro drop_obsolete_tables(registry, schema) %}
    {%- set names = fromjson(query_value(
        "select coalesce(cast(to_json(list(distinct table_name)) as varchar), '[]') from "
        ~ registry
        ~ " where table_name not in ("
        ~ "select table_name from wanted_columns where table_name is not null)"
    )) -%}
    {% for name in names | sort %}
        {% call statement() %}
            drop table if exists {{ event_table(schema, name) }}
        {% endcall %}
    {% endfor %}
{% endmacro %}


{#- Ordered, so that one thread writes: several need twice the memory per column. -#}
{% macro build_event_table(relation, table) %}
    {% call statement() %}
        create or replace table {{ relation }} as
        {{ event_rows(table) }}
        order by received_at
    {% endcall %}
{% endmacro %}


{% macro copy_event_table(relation, table, since) %}
    {% call statement() %}
        create or replace table {{ relation }} as
        select
            *
            {%- for column in table.columns[table.count_had:] %},
            cast(null as {{ column.type }}) as "{{ column.name }}"
            {%- endfor %}
        from {{ relation }}
        {%- if table.has_replaced %}
        where (scope, message_id) not in ({{ replaced_messages(table) }})
        {%- endif %}
        union all
        {{ event_rows(table, since) }}
        order by received_at
    {% endcall %}
{% endmacro %}


{% macro extend_event_table(relation, table, since) %}
    {#- DuckDB cannot alter a table in a transaction that deleted rows from it. -#}
    {% for column in table.columns[table.count_had:] %}
        {% call statement() %}
            alter table {{ relation }} add column "{{ column.name }}" {{ column.type }}
        {% endcall %}
    {% endfor %}
    {% if table.has_replaced %}
        {% call statement() %}
            delete from {{ relation }}
            where (scope, message_id) in ({{ replaced_messages(table) }})
        {% endcall %}
    {% endif %}
    {% call statement() %}
        insert into {{ relation }} {{ event_rows(table, since) }}
    {% endcall %}
{% endmacro %}


{% macro replaced_messages(table) -%}
    select (scope, message_id)
    from replaced_rows
    where table_name = {{ literal(table.table_name) }}
{%- endmacro %}


{#- The rows of an event in loads after `since`, with its table's columns. -#}
{% macro event_rows(table, since=-1) -%}
    {%- set properties = table.columns | selectattr('path') | list -%}
    select
        {%- for column in table.columns if not column.path %}
        "{{ column.name }}",
        {%- endfor %}
        {%- for column in properties %}
        {%- set value = 'extracted[' ~ loop.index ~ ']' %}
        {%- if column.is_also_object %}
        {%- set value %}
            case
                when json_type(properties, {{ text_literal(column.path) }}) <> 'OBJECT'
                    then {{ value }}
            end
        {%- endset %}
        {%- endif %}
        {{ as_column(value, column.type) }} as "{{ column.name }}",
        {%- endfor %}
    from (
        select
            *,
            json_extract_string(
                properties,
                cast([
                    {%- for column in properties -%}
                    {{ ', ' if not loop.first }}{{ text_literal(column.path) }}
                    {%- endfor -%}
                ] as varchar[])
            ) as extracted
        from changed_events
        where event = {{ text_literal(table.event) }} and load_seq > {{ since }}
    )
{%- endmacro %}


{#- One row per table and column that was added, removed, retyped or renamed. -#}
{% macro record_schema_changes(registry) %}
    {% call statement() %}
        insert into {{ side_table(registry, 'changes') }}
        with
        wanted as (
            select event, path, property, table_name, column_name, type
            from wanted_columns
            where path is not null and column_name is not null
            union all
            select distinct event, '', null, table_name, null, null
            from wanted_columns
            where table_name is not null
        ),
        had as (
            select event, path, property, table_name, column_name, type
            from {{ registry }}
            where path is not null and column_name is not null
            union all
            select distinct event, '', null, table_name, null, null
            from {{ registry }}
            where table_name is not null
        )
        select
            {{ run_instant() }},
            event,
            coalesce(wanted.table_name, had.table_name),
            coalesce(wanted.column_name, had.column_name),
            case
                when path = '' and had.table_name <> wanted.table_name
                    then had.table_name
                when had.column_name <> wanted.column_name then had.column_name
            end,
            had.type,
            wanted.type,
            coalesce(wanted.property, had.property)
        from wanted
        full outer join had using (event, path)
        where
            had.table_name is null
            or wanted.table_name is null
            or had.column_name <> wanted.column_name
            or had.type <> wanted.type
            or (path = '' and had.table_name <> wanted.table_name)
    {% endcall %}
{% endmacro %}


{% macro replace_registry(registry) %}
    {% call statement() %}
        delete from {{ registry }}
    {% endcall %}
    {% call statement() %}
        insert into {{ registry }} select * from wanted_columns
    {% endcall %}
{% endmacro %}


{% macro remember_load(registry) %}
    {% call statement() %}
        delete from {{ side_table(registry, 'loaded') }}
    {% endcall %}
    {% call statement('main') %}
        insert into {{ side_table(registry, 'loaded') }}
        select coalesce(max(load_seq), -1) from {{ ref('int_events') }}
    {% endcall %}
{% endmacro %}


{% macro difference(left, right) -%}
    (
        (select * from {{ left }} except all select * from {{ right }})
        union all
        (select * from {{ right }} except all select * from {{ left }})
    )
{%- endmacro %}
