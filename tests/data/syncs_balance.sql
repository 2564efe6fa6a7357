-- A sync of a run whose eligible people are not the sum of what became of them.
select *
from {{ ref('sync_runs') }}
where
    eligible is distinct from unchanged + added + resent + invalid + refused + pending
    or least(unchanged, added, removed, resent, invalid, refused, pending) < 0
