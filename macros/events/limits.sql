{#-
    Limits of the event tables. Properties beyond them are only in
    staging.events.properties, and cost a run nothing. The first ones received get
    columns.
-#}

{#- Caps the number of columns for properties per event table. -#}
{% macro most_event_columns() -%}
    {{ return(500) }}
{%- endmacro %}

{#- Caps the number of known properties per event, because names may be unlimited. -#}
{% macro most_event_properties() -%}
    {{ return(2 * most_event_columns()) }}
{%- endmacro %}

{#-
    Caps the columns of all event tables together. A run that adds rows to each of them
    takes about 40 KB of memory per column, whether 12 tables or 450 share them.
-#}
{% macro most_columns_in_all() -%}
    {{ return(6000) }}
{%- endmacro %}
