-- A source and hour in which other items were accepted than there are events.
{{ config(meta={'dagster': {'ref': {'name': 'stg_events'}}}) }}

with

accepted as (

    select
        source,
        date_trunc('hour', received_at) as hour,
        count(*) as count_accepted
    from {{ ref('stg_dispositions') }}
    where disposition = 'accepted'
    group by source, date_trunc('hour', received_at)

),

events as (

    select
        source,
        date_trunc('hour', received_at) as hour,
        count(*) as count_events
    from {{ ref('stg_events') }}
    group by source, date_trunc('hour', received_at)

)

select *
from accepted
full outer join events using (source, hour)
where coalesce(count_accepted, 0) <> coalesce(count_events, 0)
