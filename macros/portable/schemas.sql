{#- Schemas have the layers' names on every engine: no prefix, no target name. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ custom_schema_name or target.schema }}
{%- endmacro %}

{#- A query of all columns of a schema's tables: (table_name, column_name). -#}
{% macro catalog_columns(schema) -%}
    {{ return(adapter.dispatch('catalog_columns', 'loomline')(schema)) }}
{%- endmacro %}

{% macro default__catalog_columns(schema) -%}
    select table_name, column_name
    from duckdb_columns()
    where database_name = current_database() and schema_name = {{ literal(schema) }}
{%- endmacro %}

{#- A query of the row counts of a schema's tables: (table_name, count_rows). -#}
{% macro catalog_rows(schema) -%}
    {{ return(adapter.dispatch('catalog_rows', 'loomline')(schema)) }}
{%- endmacro %}

{% macro default__catalog_rows(schema) -%}
    select table_name, estimated_size as count_rows
    from duckdb_tables()
    where database_name = current_database() and schema_name = {{ literal(schema) }}
{%- endmacro %}
