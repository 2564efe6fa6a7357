-- A profile id that an audience evaluated now selects twice, or that is null or no
-- profile.
{{ config(meta={'dagster': {'ref': {'name': 'audience_members'}}}) }}
{%- set audiences = audience_models() %}
{%- set due = due_audiences(audiences) %}
with

members as (

    {% for audience in due -%}
    select '{{ audience }}' as audience, profile_id from {{ ref(audience) }}
    union all
    {% endfor -%}
    select cast(null as varchar) as audience, cast(null as varchar) as profile_id
    where false

)

select members.audience, members.profile_id, count(*) as count_rows
from members
left join {{ ref('profiles') }} as profiles using (profile_id)
group by members.audience, members.profile_id, profiles.profile_id
having count(*) > 1 or profiles.profile_id is null
