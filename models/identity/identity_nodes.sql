{{ config(materialized='view') }}

select identifier_type, identifier_value, profile_id, first_received_at
from {{ ref('int_nodes') }}
