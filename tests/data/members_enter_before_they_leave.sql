-- A change of membership that repeats the one before it, or leaves what nobody entered.
with

changes as (

    select
        *,
        lag(change, 1, 'leave') over (
            partition by audience, profile_id order by run_number
        ) as former_change
    from {{ ref('int_membership_changes') }}

)

select * from changes
where change = former_change
