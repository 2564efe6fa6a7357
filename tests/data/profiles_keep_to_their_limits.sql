-- A profile that holds more values of a type than max_per_profile allows.
{{ config(meta={'dagster': {'ref': {'name': 'identity_nodes'}}}) }}

with

held as (

    select profile_id, identifier_type, count(*) as count_values
    from {{ ref('identity_nodes') }}
    group by profile_id, identifier_type

)

select held.*, types.max_per_profile
from held
inner join {{ ref('identifier_types') }} as types on held.identifier_type = types.identifier_type
where held.count_values > types.max_per_profile
