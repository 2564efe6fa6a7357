{{ config(materialized='view') }}

select distinct destination, audience, profile_id, identifier_kind
from {{ ref('int_sync_identifiers') }}
