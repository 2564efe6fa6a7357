{{ config(materialized='view') }}

select
    changed_at,
    event,
    table_name,
    column_name,
    former_name,
    old_type,
    new_type,
    property
from {{ side_table(ref('event_columns'), 'changes') }}
