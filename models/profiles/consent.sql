-- The latest statement of each identifier; across a profile's identifiers the most
-- restrictive, until one of them makes a new statement after they were joined.
with

statements as (

    select
        scope,
        message_id,
        stated_at,
        received_at,
        categories,
        identifiers
    from {{ ref('raw_consent') }}

),

nodes as (

    select * from {{ ref('int_nodes') }}

),

carried as (

    select
        scope,
        message_id,
        received_at,
        unnest(identifiers).type as identifier_type,
        unnest(identifiers).value as value
    from statements

),

speakers as (

    -- the identifier of the highest priority; filtered events count here, too
    select
        carried.scope,
        carried.message_id,
        carried.received_at,
        nodes.profile_id,
        nodes.identifier_type,
        nodes.identifier_value,
        nodes.first_received_at
    from carried
    inner join nodes
        on
            carried.value = nodes.identifier_value
            and (
                carried.identifier_type = nodes.identifier_type
                or carried.identifier_type in ('distinct_id', 'previous_id')
                and nodes.identifier_type in ('user_id', 'anonymous_id')
            )
    inner join {{ ref('identifier_types') }} as types
        on nodes.identifier_type = types.identifier_type
    qualify row_number() over (
        partition by carried.scope, carried.message_id, carried.received_at
        order by types.priority, nodes.identifier_type, nodes.identifier_value
    ) = 1

),

accepted_links as (

    select edges.*, left_types.class as left_class, right_types.class as right_class
    from {{ ref('identity_edges') }} as edges
    inner join {{ ref('identifier_types') }} as left_types
        on edges.left_type = left_types.identifier_type
    inner join {{ ref('identifier_types') }} as right_types
        on edges.right_type = right_types.identifier_type
    left join {{ ref('identity_conflicts') }} as conflicts
        using (left_type, left_value, right_type, right_value)
    where conflicts.rule is null

),

anchors as (

    -- the strong identifier a weak one belongs to, and since when
    select
        right_type as identifier_type,
        right_value as identifier_value,
        left_type || ':' || left_value as anchor,
        first_received_at as anchored_at
    from accepted_links
    where left_class = 'strong' and right_class = 'weak'
    qualify row_number() over (
        partition by right_type, right_value
        order by first_received_at, first_message_id, left_type, left_value
    ) = 1

),

joinings as (

    -- the last time strong identifiers of a profile were joined
    select nodes.profile_id, max(links.first_received_at) as joined_at
    from accepted_links as links
    inner join nodes
        on
            links.left_type = nodes.identifier_type
            and links.left_value = nodes.identifier_value
    where links.left_class = 'strong' and links.right_class = 'strong'
    group by nodes.profile_id

),

named as (

    {{ json_members(
        'statements', 'categories', ['scope', 'message_id', 'stated_at', 'received_at']
    ) }}

),

placed as (

    select
        speakers.profile_id,
        speakers.identifier_type,
        speakers.identifier_value,
        named.name as category,
        named.value = 'true' as granted,
        named.stated_at,
        named.received_at,
        named.message_id,
        coalesce(
            anchors.anchor,
            speakers.identifier_type || ':' || speakers.identifier_value
        ) as anchor,
        anchors.anchored_at,
        coalesce(joinings.joined_at, speakers.first_received_at) as joined_at
    from named
    inner join speakers using (scope, message_id, received_at)
    left join anchors using (identifier_type, identifier_value)
    left join joinings using (profile_id)

),

latest as (

    select *
    from placed
    qualify row_number() over (
        partition by profile_id, identifier_type, identifier_value, category
        order by stated_at desc, received_at desc, granted, message_id
    ) = 1

),

newest as (

    select *
    from latest
    qualify row_number() over (
        partition by profile_id, category
        order by stated_at desc, granted, identifier_type, identifier_value
    ) = 1

),

counting as (

    -- statements made before the identifiers were joined still count
    select latest.profile_id, latest.category, latest.granted, newest.stated_at
    from latest
    inner join newest using (profile_id, category)
    where
        latest.stated_at = newest.stated_at
        or newest.stated_at <= greatest(
            coalesce(latest.anchored_at, timestamp '1970-01-01'),
            coalesce(newest.anchored_at, timestamp '1970-01-01'),
            case
                when latest.anchor <> newest.anchor then latest.joined_at
                else timestamp '1970-01-01'
            end
        )

)

select
    profile_id,
    category,
    bool_and(granted) as granted,
    max(stated_at) as stated_at
from counting
group by profile_id, category
