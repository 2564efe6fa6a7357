-- An event that identifies a profile but is not one row of profile_events, or the reverse.
{{ config(meta={'dagster': {'ref': {'name': 'profile_events'}}}) }}

with

identified as (

    select distinct events.scope, events.message_id
    from {{ ref('int_events') }} as events
    inner join {{ ref('int_identifiers') }} using (message_key, load_seq)

),

counted as (

    select scope, message_id, count(*) as count_rows
    from {{ ref('profile_events') }}
    group by scope, message_id

)

select
    scope,
    message_id,
    identified.message_id is not null as is_identified,
    coalesce(counted.count_rows, 0) as count_rows
from identified
full outer join counted using (scope, message_id)
where identified.message_id is null or coalesce(counted.count_rows, 0) <> 1
