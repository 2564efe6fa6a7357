{{ config(materialized='view', alias='dispositions') }}

select message_id, source, channel, received_at, disposition, reason, event
from {{ ref('int_dispositions') }}
