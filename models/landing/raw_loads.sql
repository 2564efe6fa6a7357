{{ config(alias='loads') }}

-- Every file of the raw streams, in the order they landed.
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
