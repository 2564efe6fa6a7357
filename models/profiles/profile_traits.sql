-- The last statement wins: by the event's time, then its arrival.
with

stated as (

    select profile_id, message_id, source, timestamp, received_at, traits
    from {{ ref('profile_events') }}
    where type <> 'group' and traits is not null

),

named as (

    {{ json_members(
        'stated', 'traits',
        ['profile_id', 'message_id', 'source', 'timestamp', 'received_at']
    ) }}

),

latest as (

    select
        profile_id,
        name as trait,
        value,
        source,
        timestamp as updated_at
    from named
    qualify row_number() over (
        partition by profile_id, name
        order by timestamp desc, received_at desc, message_id desc, source desc
    ) = 1

)

select * from latest
