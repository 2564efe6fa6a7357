-- One row per destination, audience, profile and identifier to add or remove: the
-- desired list compared with the confirmed one.
with

desired as (

    select * from {{ ref('int_sync_identifiers') }}

),

delivered as (

    select * from {{ ref('int_delivered') }}

),

missing as (

    select desired.*
    from desired
    left join delivered using (destination, audience, identifier_hash)
    where delivered.identifier_hash is null

),

left_over as (

    select delivered.*
    from delivered
    left join desired using (destination, audience, identifier_hash)
    where desired.identifier_hash is null

),

forgetting as (

    -- resend before the destination forgets it
    select desired.*
    from desired
    inner join delivered using (destination, audience, identifier_hash)
    inner join {{ ref('int_sync_settings') }} as settings
        on
            desired.destination = settings.destination
            and desired.audience = settings.audience
            and desired.identifier_type = settings.identifier_type
    where
        delivered.run_at
        < {{ run_instant() }} - settings.resend_after_days * interval '1 day'

),

changes as (

    select
        destination,
        audience,
        profile_id,
        'add' as identifier_operation,
        identifier_type,
        identifier_value as identifier_sent
    from missing
    union all
    select destination, audience, profile_id, 'add', identifier_type, identifier_value
    from forgetting
    union all
    select destination, audience, profile_id, 'remove', identifier_type, identifier_sent
    from left_over

),

known as (

    select distinct destination, audience, profile_id from delivered

),

wanted as (

    select distinct destination, audience, profile_id from desired

)

select
    changes.*,
    case
        when known.profile_id is null then 'add'
        when wanted.profile_id is null then 'remove'
        else 'resend'
    end as operation
from changes
left join known using (destination, audience, profile_id)
left join wanted using (destination, audience, profile_id)
