{#-
    Creates a temporary table from the query in the call block. Replaces a table of the
    same name, which the query may read.

        {% call temp_table('hubs') %} select … {% endcall %}
-#}
{% macro temp_table(name) %}
    {{ return(adapter.dispatch('temp_table', 'loomline')(name, caller())) }}
{% endmacro %}

{% macro default__temp_table(name, query) %}
    {% call statement() %}
        create or replace temporary table {{ name }} as {{ query }}
    {% endcall %}
{% endmacro %}

{#- Adds pairs of numbers to a temporary table. -#}
{% macro insert_pairs(name, pairs) %}
    {% for some in pairs | batch(10000) %}
        {% call statement() %}
            insert into {{ name }} values
            {% for a, b in some %}({{ a }}, {{ b }}){{ ', ' if not loop.last }}{% endfor %}
        {% endcall %}
    {% endfor %}
{% endmacro %}

{#- The number of rows of a table, or of a query in parentheses. -#}
{% macro row_count(relation) %}
    {{ return(query_value('select count(*) from ' ~ relation) | int) }}
{% endmacro %}

{#- The single value of a query. Text that looks like a number or date becomes one. -#}
{% macro query_value(query) %}
    {{ return(run_query(query).rows[0][0]) }}
{% endmacro %}

{#-
    The table `<relation>__<name>`, which a materialization keeps beside its model.
    SQLMesh stores a relation under another name, which its adapter resolves.
-#}
{% macro side_table(relation, name) -%}
    {%- set schema, identifier = relation.schema, relation.identifier -%}
    {%- if adapter.resolve_identifier is defined -%}
        {%- set schema = adapter.resolve_schema(relation) -%}
        {%- set identifier = adapter.resolve_identifier(relation) -%}
    {%- endif -%}
    {{ return(api.Relation.create(
        database=relation.database,
        schema=schema,
        identifier=identifier ~ '__' ~ name,
    )) }}
{%- endmacro %}
