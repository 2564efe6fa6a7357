-- Every identifier and the profile it belongs to. The materialization resolves the
-- profiles that changed since the last run, and keeps two side tables: refused links
-- (…__conflicts) and what happened to profiles (…__changes).
-- depends_on: {{ ref('identifier_types') }}
{{ config(materialized='resolved_identity') }}

select * from {{ ref('int_links') }}
