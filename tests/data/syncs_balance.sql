-- A sync of a run whose eligible people are not the sum of what became of them.
select *
from {{ ref('sync_runs') }}
where
    eligible is distinct from unchanged + added + refreshed + invalid + refused + pending
    or least(unchanged, added, removed, refreshed, invalid, refused, pending) < 0
