-- A profile that an audience selects and that is not its member, or the reverse.
{{ config(meta={'dagster': {'ref': {'name': 'audience_members'}}}) }}
{%- set audiences = audience_models() %}
{%- set due = due_audiences(audiences) %}
with

selected as (

    {% for audience in due -%}
    select '{{ audience }}' as audience, profile_id from {{ ref(audience) }}
    union all
    {% endfor -%}
    select cast(null as varchar) as audience, cast(null as varchar) as profile_id
    where false

),

members as (

    select audience, profile_id
    from {{ ref('audience_members') }}
    where
        left_at is null
        {%- if due | length < audiences | length %}
        and audience in (
            {%- for audience in due %}
            '{{ audience }}',{% endfor %} ''
        )
        {%- endif %}

)

(
    select * from selected
    except
    select * from members
)
union all
(
    select * from members
    except
    select * from selected
)
