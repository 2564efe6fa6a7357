{#-
    Limits of the event tables. What has no room is in staging.events.properties alone,
    and costs a run nothing. Whatever was received first has its column.
-#}

{#- Columns for properties in one event table. -#}
{% macro most_event_columns() -%}
    {{ return(500) }}
{%- endmacro %}

{#- Properties of one event that are known at all, so that names can go on for ever. -#}
{% macro most_event_properties() -%}
    {{ return(2 * most_event_columns()) }}
{%- endmacro %}

{#-
    Columns of all event tables together. A run that adds rows to each of them takes
    about 40 KB of memory a column, whether 12 tables or 450 share them.
-#}
{% macro most_columns_in_all() -%}
    {{ return(6000) }}
{%- endmacro %}
