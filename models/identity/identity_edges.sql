{{ config(materialized='view') }}

select
    left_type,
    left_value,
    right_type,
    right_value,
    first_received_at,
    first_message_id,
    last_received_at,
    count_events
from {{ ref('int_links') }}
where count_events > 0 and (left_type, left_value) <> (right_type, right_value)
