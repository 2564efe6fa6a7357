-- The identifier an event belongs to: the one of the highest priority it carries.
{{ config(materialized='table') }}

with

carried as (

    select
        identifiers.message_key,
        identifiers.value,
        case
            when identifiers.identifier_type
                not in ('distinct_id', 'previous_id', 'mentioned_id')
                then identifiers.identifier_type
            when users.identifier_value is not null then 'user_id'
            else 'anonymous_id'
        end as identifier_type
    from {{ ref('int_identifiers') }} as identifiers
    inner join {{ ref('int_events') }} using (message_key, load_seq)
    left join {{ ref('int_nodes') }} as users
        on
            users.identifier_type = 'user_id'
            and identifiers.value = users.identifier_value

),

ranked as (

    select
        carried.message_key,
        carried.identifier_type,
        carried.value as identifier_value
    from carried
    inner join {{ ref('identifier_types') }} as types using (identifier_type)
    qualify row_number() over (
        partition by carried.message_key
        order by types.priority, carried.identifier_type, carried.value
    ) = 1

)

select * from ranked
