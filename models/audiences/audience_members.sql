-- Resolves aliases: the memberships of two merged profiles become one.
{{ config(materialized='view') }}

with

changes as (

    select * from {{ ref('int_membership_changes') }}

),

entries as (

    select
        audience,
        profile_id as stored_id,
        change,
        changed_at as entered_at,
        lead(changed_at) over (
            partition by audience, profile_id order by run_number
        ) as left_at
    from changes

),

aliased as (

    select
        entries.audience,
        coalesce(aliases.profile_id, entries.stored_id) as profile_id,
        entries.entered_at,
        entries.left_at
    from entries
    left join {{ ref('profile_aliases') }} as aliases
        on entries.stored_id = aliases.old_profile_id
    where entries.change = 'enter'

)

select
    audience,
    profile_id,
    min(entered_at) as entered_at,
    left_at
from aliased
group by audience, profile_id, left_at
