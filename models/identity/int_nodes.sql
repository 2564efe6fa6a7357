-- Every identifier and the profile it belongs to. The materialization works out the
-- profiles of what changed since the last run, and keeps two tables beside this one:
-- refused links (…__conflicts) and what happened to profiles (…__changes).
-- depends_on: {{ ref('identifier_types') }}
{{ config(materialized='resolved_identity') }}

select * from {{ ref('int_links') }}
