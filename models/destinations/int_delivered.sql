-- One row per destination, audience and identifier that the destination has confirmed,
-- as it was sent, under today's profile id.
with

latest as (

    select *
    from {{ ref('raw_acks') }}
    qualify row_number() over (
        partition by destination, audience, identifier_hash
        order by acked_at desc, load_seq desc, operation, profile_id
    ) = 1

),

held as (

    select
        latest.destination,
        latest.audience,
        coalesce(aliases.profile_id, latest.profile_id) as profile_id,
        latest.identifier_type,
        latest.identifier_hash,
        latest.identifier_sent,
        latest.run_at
    from latest
    left join {{ ref('profile_aliases') }} as aliases
        on latest.profile_id = aliases.old_profile_id
    where latest.operation = 'add'

)

select * from held
