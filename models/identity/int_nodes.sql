-- Every identifier and its profile. The materialization resolves the profiles that
-- changed since the last run, and keeps two side tables: refused links (…__conflicts)
-- and changes of profiles (…__changes).
-- depends_on: {{ ref('identifier_types') }}
{{ config(materialized='resolved_identity') }}

select * from {{ ref('int_links') }}
