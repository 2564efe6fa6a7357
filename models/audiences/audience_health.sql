-- One row per audience: its size, compared with its size at the last sync.
{%- set audiences = audience_models() %}
with

audiences as (

    {% for audience in audiences -%}
    select '{{ audience }}' as audience
    union all
    {% endfor -%}
    select cast(null as varchar) as audience where false

),

members as (

    select audience, count(distinct profile_id) as count_members
    from {{ ref('audience_members') }}
    where left_at is null
    group by audience

),

pushed as (

    select audience, eligible as count_members_pushed
    from {{ ref('raw_runs') }}
    qualify row_number() over (
        partition by audience order by run_at desc, load_seq desc, destination
    ) = 1

),

sizes as (

    select
        audiences.audience,
        coalesce(members.count_members, 0) as count_members,
        pushed.count_members_pushed
    from audiences
    left join members using (audience)
    left join pushed using (audience)

)

select
    *,
    count_members * 1.0 / nullif(count_members_pushed, 0) as size_ratio
from sizes
