"""How much one worker process reads, unpacks and looks up at a time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from connectors.sources.http_api.answers import Refused, error
from connectors.sources.http_api.bodies import Budget, Crowded, read_body
from connectors.sources.http_api.requests import Request

__all__ = ["LARGE_BYTES", "Workload", "beside_the_loop"]

_Result = TypeVar("_Result")

UNFINISHED_BYTES = 64 << 20
"""Of all bodies that are arriving, or wait to be unpacked, at once."""

LARGE_BYTES = 256 << 10
"""A body of more, decompressed, is unpacked in a thread, one at a time: as decoded
values it is many times its size."""

LOOKUP_THREADS = 16
"""Of one worker: so many requests wait for another server at a time; others queue, as
long as their bodies come to less than UNFINISHED_BYTES, each counted as LARGE_BYTES at
least."""

_CROWDED = error(503, "too_busy", "Too much arrives at once.", retry_after_s=1)


class Workload:
    """The unfinished requests of one worker process; what is too much is refused."""

    def __init__(self) -> None:
        self._budget = Budget(UNFINISHED_BYTES)
        self._gate = asyncio.Semaphore(1)
        self._lookups = ThreadPoolExecutor(LOOKUP_THREADS, "lookup")
        self._looking_up = Budget(UNFINISHED_BYTES)

    async def read(self, request: Request, limit: int) -> bytes | None:
        """The body as it came; None when the client went away."""
        announced = request.headers.get(b"content-length")
        try:
            return await read_body(request.receive, announced, limit, self._budget)
        except Crowded:
            raise Refused(_CROWDED) from None

    @asynccontextmanager
    async def alone(self, size_bytes: int) -> AsyncIterator[None]:
        """One large body at a time is unpacked, however many arrive; the others wait.

        Raises:
            Refused: too many wait already.
        """
        try:
            self._budget.take(size_bytes)
        except Crowded:
            raise Refused(_CROWDED) from None
        try:
            async with self._gate:
                yield
        finally:
            self._budget.give_back(size_bytes)

    async def among_lookups(
        self, size_bytes: int, work: Callable[[], _Result]
    ) -> _Result:
        """Work in threads of their own, so that a slow server delays nothing else.

        Raises:
            Refused: too many wait already.
        """
        size_bytes = max(size_bytes, LARGE_BYTES)
        try:
            self._looking_up.take(size_bytes)
        except Crowded:
            raise Refused(_CROWDED) from None
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._lookups, work)
        finally:
            self._looking_up.give_back(size_bytes)


async def beside_the_loop(size_bytes: int, work: Callable[[], _Result]) -> _Result:
    """What the work returns; in a thread when there is much of it."""
    if size_bytes > LARGE_BYTES:
        return await asyncio.to_thread(work)
    return work()
