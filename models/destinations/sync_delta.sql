{{ config(materialized='view') }}

select distinct destination, audience, profile_id, operation
from {{ ref('int_sync_changes') }}
