with

nodes as (

    select * from {{ ref('int_nodes') }}

),

links as (

    select
        left_type as identifier_type,
        left_value as identifier_value,
        last_received_at
    from {{ ref('int_links') }}
    where (left_type, left_value) = (right_type, right_value)

),

users as (

    -- the profile's first user id
    select profile_id, identifier_value as user_id
    from nodes
    where identifier_type = 'user_id'
    qualify row_number() over (
        partition by profile_id
        order by first_received_at, first_message_id, identifier_value
    ) = 1

),

stated_emails as (

    select
        profile_id,
        {{ email_text("coalesce(
            max(value) filter (where trait = '$email'),
            max(value) filter (where trait = 'email')
        )") }} as email
    from {{ ref('profile_traits') }}
    where trait in ('email', '$email')
    group by profile_id

),

emails as (

    -- the system field's address, else the trait's, else the last one seen; none if the
    -- stated one was removed
    select nodes.profile_id, nodes.identifier_value as email
    from nodes
    inner join links using (identifier_type, identifier_value)
    left join stated_emails as stated using (profile_id)
    where
        nodes.identifier_type = 'email'
        and (stated.profile_id is null or stated.email is not null)
    qualify row_number() over (
        partition by nodes.profile_id
        order by
            nodes.identifier_value is distinct from stated.email,
            links.last_received_at desc,
            nodes.identifier_value
    ) = 1

),

activity as (

    select
        profile_id,
        min(timestamp) as first_seen_at,
        max(timestamp) as last_seen_at,
        count(*) as count_events
    from {{ ref('profile_events') }}
    group by profile_id

),

traits as (

    select
        profile_id,
        {{ json_object_agg('trait', 'value_json') }} as traits
    from {{ ref('profile_traits') }}
    where value_json is not null
    group by profile_id

),

people as (

    select
        profile_id,
        min(first_received_at) as first_received_at,
        count(*) as count_identifiers
    from nodes
    group by profile_id

)

select
    -- ids
    people.profile_id,
    users.user_id,
    emails.email,

    -- numbers
    coalesce(activity.count_events, 0) as count_events,
    people.count_identifiers,

    -- times
    coalesce(activity.first_seen_at, people.first_received_at) as first_seen_at,
    coalesce(activity.last_seen_at, people.first_received_at) as last_seen_at,

    -- traits
    coalesce(traits.traits, '{}') as traits

from people
left join users using (profile_id)
left join emails using (profile_id)
left join activity using (profile_id)
left join traits using (profile_id)
