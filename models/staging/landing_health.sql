-- One row per source: how much it sends, how recently, and in what quality.
{{ config(materialized='table') }}
{%- set now = run_instant() %}

with

arrivals as (

    select source, hour, items from {{ ref('raw_received_counts') }}

),

dispositions as (

    select source, received_at, disposition from {{ ref('int_dispositions') }}

),

events as (

    select
        source,
        coalesce(user_id, anonymous_id, distinct_id) is null as is_unidentified
    from {{ ref('int_events') }}

),

volumes as (

    select
        source,
        cast(sum(items) as bigint) as count_received,
        cast(
            sum(
                case
                    when hour >= {{ days_before(now, 1) }} and hour < {{ now }}
                        then items
                    else 0
                end
            ) as bigint
        ) as count_last_day,
        sum(
            case
                when
                    hour >= {{ days_before(now, 8) }}
                    and hour < {{ days_before(now, 1) }}
                    then items
                else 0
            end
        ) / 7.0 as count_usual_day,
        count(distinct cast(hour as date)) as count_active_days
    from arrivals
    group by source

),

arrived as (

    select
        source,
        max(received_at) as last_received_at,
        sum(case when disposition in ('rejected', 'quarantined') then 1 else 0 end)
        * 1.0
        / count(*) as share_refused
    from dispositions
    group by source

),

shapes as (

    select
        source,
        sum(case when is_unidentified then 1 else 0 end)
        * 1.0
        / count(*) as share_unidentified
    from events
    group by source

),

measured as (

    select
        volumes.source,
        volumes.count_received,
        volumes.count_last_day,
        volumes.count_usual_day,
        volumes.count_active_days,
        arrived.last_received_at,
        {{ hours_between('arrived.last_received_at', now) }} as age_hours,
        arrived.share_refused,
        shapes.share_unidentified
    from volumes
    left join arrived using (source)
    left join shapes using (source)

)

select
    *,
    -- A single export does not predict more; neither does a source that ended long ago,
    -- unless no other source sends either.
    count_active_days >= 7
    and (age_hours <= 720 or age_hours = min(age_hours) over ()) as is_expected
from measured
