-- One row per sync: its numbers of people, before anything is sent.
with

settings as (

    select distinct destination, audience from {{ ref('int_sync_settings') }}

),

eligible as (

    select audience, count(distinct profile_id) as eligible
    from {{ ref('audience_members') }}
    where left_at is null
    group by audience

),

sendable as (

    select destination, audience, count(distinct profile_id) as sendable
    from {{ ref('int_sync_identifiers') }}
    group by destination, audience

),

held as (

    select destination, audience, count(distinct profile_id) as held
    from {{ ref('int_delivered') }}
    group by destination, audience

)

select
    settings.destination,
    settings.audience,
    coalesce(eligible.eligible, 0) as eligible,
    coalesce(sendable.sendable, 0) as sendable,
    coalesce(held.held, 0) as held
from settings
left join eligible using (audience)
left join sendable using (destination, audience)
left join held using (destination, audience)
