{{ config(materialized='view') }}

select
    run_at,
    destination,
    audience,
    eligible,
    sendable,
    unchanged,
    added,
    removed,
    resent,
    invalid,
    refused,
    pending,
    matched
from {{ ref('raw_runs') }}
