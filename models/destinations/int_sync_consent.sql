-- One row per destination and required consent category.
{{ config(materialized='view') }}

{% for name, settings in var('destinations', {}).items() -%}
{%- for category in settings.consent -%}
select {{ literal(name) }} as destination, {{ literal(category) }} as category
union all
{% endfor -%}
{%- endfor -%}
select cast(null as varchar) as destination, cast(null as varchar) as category
where false
