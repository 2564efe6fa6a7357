{{ config(materialized='view') }}

select distinct destination, audience, profile_id, change as operation
from {{ ref('int_sync_changes') }}
