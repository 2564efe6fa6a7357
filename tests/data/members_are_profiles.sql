-- A member of an audience evaluated now whose id is no profile's.
{{ config(meta={'dagster': {'ref': {'name': 'audience_members'}}}) }}
{%- set audiences = audience_models() %}
select *
from {{ ref('audience_members') }}
where
    left_at is null
    and profile_id not in (select profile_id from {{ ref('profiles') }})
    {%- if env_var('LOOMLINE_ONLY', '') %}
    and audience in (
        {%- for audience in audiences if is_due(audience) %}
        '{{ audience }}',{% endfor %} ''
    )
    {%- endif %}
