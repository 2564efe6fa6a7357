{{ config(materialized='view') }}

select distinct destination, audience, profile_id, identifier_type
from {{ ref('int_sync_identifiers') }}
