-- One row of metrics about the quality of identity resolution.
{{ config(materialized='table') }}

with

nodes as (

    select profile_id, count(*) as count_identifiers
    from {{ ref('identity_nodes') }}
    group by profile_id

),

profiles as (

    select
        count(*) as count_profiles,
        cast(coalesce(sum(count_identifiers), 0) as bigint) as count_identifiers,
        coalesce(max(count_identifiers), 0) as count_identifiers_largest
    from nodes

),

links as (

    select count(*) as count_links from {{ ref('identity_edges') }}

),

refused as (

    select
        count(*) as count_conflicts,
        count(distinct case when rule = 'hub' then left_type || ':' || left_value end)
            as count_hubs
    from {{ ref('identity_conflicts') }}

),

recent as (

    -- since the last delivery
    select count(*) as count_merges
    from {{ ref('profile_merges') }}
    where
        undone_at is null
        and merged_at > (select max(run_at) from {{ ref('raw_runs') }})

)

select
    profiles.count_profiles,
    profiles.count_identifiers,
    profiles.count_identifiers_largest,
    refused.count_hubs,
    refused.count_hubs * 1.0 / greatest(profiles.count_identifiers, 1) as hub_share,
    refused.count_conflicts,
    refused.count_conflicts
    * 1.0
    / greatest(links.count_links, refused.count_conflicts, 1) as conflict_rate,
    recent.count_merges,
    recent.count_merges * 1.0 / greatest(profiles.count_profiles, 1) as merge_rate
from profiles
cross join links
cross join refused
cross join recent
