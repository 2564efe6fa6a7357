{{ config(materialized='view') }}

select
    rule,
    left_type,
    left_value,
    right_type,
    right_value,
    message_id,
    received_at
from {{ side_table(ref('int_nodes'), 'conflicts') }}
