{{ config(materialized='view', alias='dispositions') }}

select message_id, source, path, received_at, disposition, reason, event
from {{ ref('int_dispositions') }}
