-- An identifier in no or several profiles, or a profile without identifiers.
{{ config(meta={'dagster': {'ref': {'name': 'identity_nodes'}}}) }}

with

nodes as (

    select * from {{ ref('identity_nodes') }}

),

profiles as (

    select profile_id from {{ ref('profiles') }}

),

lost as (

    select
        nodes.identifier_type,
        nodes.identifier_value,
        coalesce(nodes.profile_id, profiles.profile_id) as profile_id
    from nodes
    full outer join profiles on nodes.profile_id = profiles.profile_id
    where nodes.profile_id is null or profiles.profile_id is null

),

torn as (

    select identifier_type, identifier_value, max(profile_id) as profile_id
    from nodes
    group by identifier_type, identifier_value
    having count(*) > 1

)

select * from lost
union all
select * from torn
