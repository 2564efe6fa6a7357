"""One worker's share of the rates that all workers' senders have in common."""

from connectors.sources.rate_limits import Buckets
from connectors.sources.write_keys import WriteKey

__all__ = ["TokenLease"]

AHEAD_S = 0.01


class TokenLease:
    """Takes tokens from shared buckets, those of the next moment with them.

    A bucket is asked under a lock of the kernel, for which the interpreter turns to the
    commit thread: asking for every request is a sixth of what a request costs. So a
    worker takes what is due in a hundredth of a second at once, unless that is more
    than a hundredth of the burst. Tokens are taken before they are used, so over any
    time no more pass than that many a worker beyond what the buckets promise.
    """

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets
        self._held: dict[str, int] = {}

    def take(self, key: WriteKey, n: int, bucket: str | None = None) -> float:
        """Take `n` events from the key's rate: 0.0, or the seconds to wait for some.

        The bucket is the source's, or one of another name.
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
