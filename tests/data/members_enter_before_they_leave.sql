-- A change of membership that repeats the one before it, or leaves an audience that was not entered.
with

changes as (

    select
        *,
        lag(change, 1, 'leave') over (
            partition by audience, profile_id order by run_number
        ) as change_before
    from {{ ref('int_membership_changes') }}

)

select * from changes
where change = change_before
