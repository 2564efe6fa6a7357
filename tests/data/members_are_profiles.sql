-- A member of an audience evaluated now whose id is no profile's.
{{ config(meta={'dagster': {'ref': {'name': 'audience_members'}}}) }}
{%- set audiences = audience_models() %}
{%- set due = due_audiences(audiences) %}
select *
from {{ ref('audience_members') }}
where
    left_at is null
    and profile_id not in (select profile_id from {{ ref('profiles') }})
    {%- if due | length < audiences | length %}
    and audience in (
        {%- for audience in due %}
        '{{ audience }}',{% endfor %} ''
    )
    {%- endif %}
