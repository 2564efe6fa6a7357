-- A source and hour in which admission counted other items than it disposed of.
{{ config(meta={'dagster': {'ref': {'name': 'raw_received_counts'}}}) }}

with

received as (

    select source, hour, sum(items) as count_received
    from {{ ref('raw_received_counts') }}
    group by source, hour

),

disposed as (

    select
        source,
        date_trunc('hour', received_at) as hour,
        count(*) as count_disposed
    from {{ ref('raw_dispositions') }}
    group by source, date_trunc('hour', received_at)

)

select *
from received
full outer join disposed using (source, hour)
where coalesce(count_received, 0) <> coalesce(count_disposed, 0)
