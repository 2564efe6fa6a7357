"""One worker's share of the rate limits that all workers enforce together."""

from connectors.sources.rate_limits import Buckets
from connectors.sources.write_keys import WriteKey

__all__ = ["TokenLease"]

AHEAD_S = 0.01


class TokenLease:
    """Takes tokens from shared buckets, a few ahead of time.

    Each call to a bucket takes a kernel lock, during which the interpreter switches to
    the commit thread: one call per request would be a sixth of its cost. So a worker
    takes the tokens of the next hundredth of a second at once, unless they exceed a
    hundredth of the burst. Tokens are taken before they are used, so at most that many
    per worker pass beyond the buckets' limit.
    """

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets
        self._held: dict[str, int] = {}

    def take(self, key: WriteKey, n: int, bucket: str | None = None) -> float:
        """Take `n` events from the key's rate; return 0.0, or the seconds to wait.

        Uses the source's bucket unless `bucket` names another.
        """
        name = bucket or key.name
        left = self._held.get(name, 0) - n
        if left >= 0:
            self._held[name] = left
            return 0.0
        ahead = int(min(key.rate, key.burst) * AHEAD_S)
        wait_s = self._buckets.take(name, key.rate, key.burst, ahead - left)
        if not wait_s:
            self._held[name] = ahead
        return wait_s
