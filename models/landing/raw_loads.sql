{{ config(alias='loads') }}

-- One row per file of the raw streams, in landing order.
select
    load_seq,
    stream,
    path,
    rows,
    sha256,
    names,
    {{ epoch_timestamp("landed_at") }} as landed_at,
    tier
from {{ manifest() }}
where load_seq <= {{ newest_load() }}
