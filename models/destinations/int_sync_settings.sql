-- One row per audience, destination and identifier type sent there.
{{ config(materialized='view') }}

{% for sync in syncs() -%}
{%- for identifier_type in sync.identifiers -%}
select
    {{ literal(sync.destination) }} as destination,
    {{ literal(sync.audience) }} as audience,
    {{ literal(identifier_type) }} as identifier_type,
    {{ sync.resend_after_days or 'null' }} as resend_after_days
union all
{% endfor -%}
{%- endfor -%}
select
    cast(null as varchar) as destination,
    cast(null as varchar) as audience,
    cast(null as varchar) as identifier_type,
    cast(null as integer) as resend_after_days
where false
