{#- A table of this session only, replaced when it is there; may read its former self. -#}
{% macro scratch(name, query) %}
    {{ return(adapter.dispatch('scratch', 'loomline')(name, query)) }}
{% endmacro %}

{% macro default__scratch(name, query) %}
    {% call statement() %}
        create or replace temporary table {{ name }} as {{ query }}
    {% endcall %}
{% endmacro %}

{% macro scratch_count(relation) %}
    {{ return(scratch_value('select count(*) from ' ~ relation) | int) }}
{% endmacro %}

{#- The one value of a query. Text may come back as a number or a date it looks like. -#}
{% macro scratch_value(query) %}
    {{ return(run_query(query).rows[0][0]) }}
{% endmacro %}

{#- Add pairs of numbers to a scratch table. -#}
{% macro scratch_fill(name, pairs) %}
    {% for some in pairs | batch(10000) %}
        {% call statement() %}
            insert into {{ name }} values
            {% for a, b in some %}({{ a }}, {{ b }}){{ ', ' if not loop.last }}{% endfor %}
        {% endcall %}
    {% endfor %}
{% endmacro %}
