-- A link between two profiles that was not refused, or a refused link nothing shows.
{{ config(meta={'dagster': {'ref': {'name': 'identity_edges'}}}) }}

with

edges as (

    select left_type, left_value, right_type, right_value
    from {{ ref('identity_edges') }}

),

refused as (

    select left_type, left_value, right_type, right_value
    from {{ ref('identity_conflicts') }}

),

nodes as (

    select * from {{ ref('identity_nodes') }}

),

between_profiles as (

    select edges.*
    from edges
    inner join nodes as lefts
        on
            edges.left_type = lefts.identifier_type
            and edges.left_value = lefts.identifier_value
    inner join nodes as rights
        on
            edges.right_type = rights.identifier_type
            and edges.right_value = rights.identifier_value
    where lefts.profile_id <> rights.profile_id

)

(
    select * from between_profiles
    except
    select * from refused
)
union all
(
    select * from refused
    except
    select * from edges
)
