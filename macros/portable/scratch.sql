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
    {{ return(run_query('select count(*) from ' ~ relation).rows[0][0] | int) }}
{% endmacro %}
