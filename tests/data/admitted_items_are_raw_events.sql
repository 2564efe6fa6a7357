-- An item that was admitted more or less often than it is in the raw events.
{{ config(meta={'dagster': {'ref': {'name': 'raw_events'}}}) }}

with

admitted as (

    select source, channel, message_id, received_at, count(*) as count_admitted
    from {{ ref('raw_dispositions') }}
    where disposition = 'admitted'
    group by source, channel, message_id, received_at

),

landed as (

    select source, channel, message_id, received_at, count(*) as count_landed
    from {{ ref('raw_events') }}
    group by source, channel, message_id, received_at

)

select *
from admitted
full outer join landed using (source, channel, message_id, received_at)
where coalesce(count_admitted, 0) <> coalesce(count_landed, 0)
