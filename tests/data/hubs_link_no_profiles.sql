-- A link of a value with too many links that was not refused.
{{ config(meta={'dagster': {'ref': {'name': 'identity_conflicts'}}}) }}

with

hubs as (

    select identifier_type, identifier_value
    from {{ ref('int_nodes') }}
    where is_hub

),

refused as (

    select left_type, left_value, right_type, right_value
    from {{ ref('identity_conflicts') }}

)

select *
from {{ ref('identity_edges') }}
where
    (
        (left_type, left_value) in (select * from hubs)
        or (right_type, right_value) in (select * from hubs)
    )
    and (left_type, left_value, right_type, right_value) not in (select * from refused)
