-- The desired lists: one row per destination, audience, profile and identifier.
with

settings as (

    select * from {{ ref('int_sync_settings') }}

),

members as (

    select audience, profile_id
    from {{ ref('audience_members') }}
    where left_at is null

),

refusing as (

    select needed.destination, consent.profile_id
    from {{ ref('int_sync_consent') }} as needed
    inner join {{ ref('consent') }} as consent using (category)
    where not consent.granted

),

identifiers as (

    select
        profile_id,
        identifier_type as identifier_type,
        identifier_value
    from {{ ref('identity_nodes') }}
    union all
    select distinct profile_id, 'profile_id', profile_id
    from {{ ref('identity_nodes') }}

)

select
    settings.destination,
    members.audience,
    members.profile_id,
    identifiers.identifier_type,
    identifiers.identifier_value,
    {{ sha256_text("identifier_type || ':' || identifiers.identifier_value") }}
        as identifier_hash
from members
inner join settings using (audience)
inner join identifiers using (profile_id, identifier_type)
where
    (settings.destination, members.profile_id) not in (
        select destination, profile_id from refusing
    )
