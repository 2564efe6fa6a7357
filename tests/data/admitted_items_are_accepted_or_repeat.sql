-- A source and hour in which admitted is not accepted + duplicate + conflict.
{{ config(meta={'dagster': {'ref': {'name': 'stg_dispositions'}}}) }}

with

admitted as (

    select
        source,
        date_trunc('hour', received_at) as hour,
        count(*) as count_admitted
    from {{ ref('raw_dispositions') }}
    where disposition = 'admitted'
    group by source, date_trunc('hour', received_at)

),

split as (

    select
        source,
        date_trunc('hour', received_at) as hour,
        count(*) as count_split
    from {{ ref('stg_dispositions') }}
    where disposition in ('accepted', 'duplicate', 'conflict')
    group by source, date_trunc('hour', received_at)

)

select *
from admitted
full outer join split using (source, hour)
where coalesce(count_admitted, 0) <> coalesce(count_split, 0)
