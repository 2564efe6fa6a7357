"""Rate limits: token buckets shared by all worker processes of a machine.

A bucket is stored as the instant at which it is full again (the generic cell rate
algorithm): one number, so a worker that dies while writing leaves either the old state
or the new one. The buckets are slots of a memory-mapped file, each with its own lock,
which the kernel releases when its holder dies.
"""

import math
import mmap
import os
import threading
import time
from collections.abc import Callable
from fcntl import LOCK_EX, LOCK_UN, lockf
from hashlib import blake2b
from itertools import chain
from pathlib import Path

from connectors.errors import LoomlineError
from connectors.landing.manifest import replace_file
from connectors.locks import exclusive

__all__ = ["Buckets", "BucketsFull"]

SECOND_NS = 1_000_000_000
LONGEST_NS = 1 << 61  # 73 years: the sum of two does not overflow

# A slot is three 64-bit numbers, each written in one store.
NAME, FULL_AT, TAKEN_AT = range(3)  # a hash of the bucket's name; instants in ns
SLOT = 3
UNUSED = 0


class BucketsFull(LoomlineError):
    """More buckets owe tokens at the same time than there are slots."""


class Buckets:
    """Token buckets in a file.

    Create one object per process and file: the kernel's locks belong to the process,
    so two objects would not wait for each other. It may be forked.
    """

    def __init__(
        self,
        path: Path,
        slots: int = 4096,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """`clock_ns` is shared by all processes; it may restart with the machine."""
        size_bytes = slots * SLOT * 8
        with exclusive(path.with_name(f"{path.name}.lock")):
            # Another number of slots needs a new file: workers may still have this one
            # mapped and would crash if it shrank.
            if not path.exists() or path.stat().st_size != size_bytes:
                replace_file(path, bytes(size_bytes))
            self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._map = mmap.mmap(self._file, size_bytes)
        self._numbers = memoryview(self._map).cast("q")
        self._slots = slots
        self._clock_ns = clock_ns
        self._threads = threading.Lock()
        self._known: dict[str, tuple[int, int]] = {}

    def take(self, bucket: str, rate: float, burst: float, n: int) -> float:
        """Take `n` events from the bucket; return 0.0, or the seconds to wait.

        A batch is taken whole if the bucket is not empty, and may leave it owing;
        otherwise nothing is taken. So in any time t at most burst + rate * t events
        and one batch pass. `rate` is events per second; it and `burst` are greater
        than 0.

        Raises:
            BucketsFull: more buckets owe tokens at the same time than there are slots.
        """
        numbers, file = self._numbers, self._file
        with self._threads:
            while True:
                name, slot = self._known.get(bucket) or self._place(bucket)
                # Inlined: a context manager would cost as much as everything else.
                lockf(file, LOCK_EX, 1, slot)
                try:
                    if numbers[slot + NAME] != name:  # was full, and reassigned
                        del self._known[bucket]
                        continue
                    now = self._clock_ns()
                    owed_ns = 0
                    if numbers[slot + TAKEN_AT] <= now:  # otherwise the clock restarted
                        owed_ns = max(numbers[slot + FULL_AT] - now, 0)
                    over_ns = owed_ns - min(burst * SECOND_NS / rate, LONGEST_NS)
                    if over_ns >= 0:
                        return (over_ns + 1) / SECOND_NS
                    owed_ns += math.ceil(n * SECOND_NS / rate)
                    numbers[slot + FULL_AT] = now + min(owed_ns, LONGEST_NS)
                    numbers[slot + TAKEN_AT] = now
                    return 0.0
                finally:
                    lockf(file, LOCK_UN, 1, slot)

    def close(self) -> None:
        self._numbers.release()
        self._map.close()
        os.close(self._file)

    def _place(self, bucket: str) -> tuple[int, int]:
        """Return the bucket's name and slot, which are the same in all processes."""
        digest = blake2b(bucket.encode(), digest_size=8).digest()
        name = int.from_bytes(digest, "little", signed=True) or 1
        lockf(self._file, LOCK_EX, 1, self._slots * SLOT)  # serializes placing
        try:
            slot = self._search(name)
        finally:
            lockf(self._file, LOCK_UN, 1, self._slots * SLOT)
        known = self._known[bucket] = (name, slot)
        return known

    def _search(self, name: int) -> int:
        """Search by open addressing: from the hash's slot to the first unused one.

        If none is unused, take the slot of a full bucket, which equals a new one. A
        slot never becomes unused again, so no search ends too early.
        """
        end = self._slots * SLOT
        first = name * SLOT % end
        for slot in chain(range(first, end, SLOT), range(0, first, SLOT)):
            holder = self._numbers[slot + NAME]
            if holder == name:
                return slot
            if holder == UNUSED:
                self._numbers[slot + NAME] = name
                return slot
        for slot in range(0, end, SLOT):
            if self._give(slot, name):
                return slot
        raise BucketsFull(
            f"{self._slots:,} rate limits are in use at once, and there is no room for "
            "more."
        )

    def _give(self, slot: int, name: int) -> bool:
        """Assign the slot to `name`, unless its bucket owes tokens."""
        lockf(self._file, LOCK_EX, 1, slot)
        try:
            taken_at = self._numbers[slot + TAKEN_AT]
            if taken_at <= self._clock_ns() < self._numbers[slot + FULL_AT]:
                return False
            self._numbers[slot + NAME] = name
            return True
        finally:
            lockf(self._file, LOCK_UN, 1, slot)
