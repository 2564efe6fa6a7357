-- One row per event that puts a person into a group; the group's own traits beside it.
select
    profile_id,
    message_id,
    source,
    group_type,
    group_id,
    timestamp,
    received_at,
    case
        when type = 'group' then traits
        else {{ json_object_member('properties', '$group') }}
    end as group_traits
from {{ ref('profile_events') }}
where group_id is not null
