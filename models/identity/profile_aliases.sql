-- A profile id is the hash of one of its identifiers, so an old id stands for the
-- profile that has this identifier today.
{{ config(materialized='view') }}

with

nodes as (

    select
        {{ hash_text("identifier_type || ':' || identifier_value") }} as old_profile_id,
        profile_id
    from {{ ref('int_nodes') }}

),

changes as (

    select *
    from {{ side_table(ref('int_nodes'), 'changes') }}
    where change <> 'split'
    qualify row_number() over (
        partition by from_profile_id order by load_seq desc, into_profile_id
    ) = 1

)

select
    nodes.old_profile_id,
    nodes.profile_id,
    changes.changed_at as aliased_at,
    changes.change || ' by ' || coalesce(changes.rule, 'evidence') as why
from nodes
inner join changes on nodes.old_profile_id = changes.from_profile_id
where nodes.old_profile_id <> nodes.profile_id
