-- An audience whose members before the latest run + added - removed are not those now.
{{ config(meta={'dagster': {'ref': {'name': 'audience_members'}}}) }}

with

changes as (

    -- people go by the id they have today
    select
        changes.audience,
        changes.profile_id as stored_id,
        coalesce(aliases.profile_id, changes.profile_id) as profile_id,
        case changes.change when 'enter' then 1 else -1 end as step,
        changes.run_number
            = max(changes.run_number) over (partition by changes.audience) as is_latest
    from {{ ref('int_membership_changes') }} as changes
    left join {{ ref('profile_aliases') }} as aliases
        on changes.profile_id = aliases.old_profile_id

),

stored as (

    select
        audience,
        profile_id,
        stored_id,
        sum(case when is_latest then 0 else step end) as count_before,
        sum(step) as count_after
    from changes
    group by audience, profile_id, stored_id

),

people as (

    -- two ids that have become one person since are one before and after
    select
        audience,
        profile_id,
        max(count_before) as is_before,
        max(count_after) as is_after
    from stored
    group by audience, profile_id

),

counted as (

    select
        audience,
        sum(is_before) as count_before,
        sum(case when is_after > is_before then 1 else 0 end) as count_added,
        sum(case when is_after < is_before then 1 else 0 end) as count_removed
    from people
    group by audience

),

members as (

    select audience, count(distinct profile_id) as count_members
    from {{ ref('audience_members') }}
    where left_at is null
    group by audience

)

select counted.*, coalesce(members.count_members, 0) as count_members
from counted
left join members using (audience)
where
    counted.count_before + counted.count_added - counted.count_removed
    <> coalesce(members.count_members, 0)
