"""Limits how much one worker process reads, unpacks and looks up at a time."""

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
"""Limit of all bodies that are arriving, or waiting to be unpacked, at once."""

LARGE_BYTES = 256 << 10
"""A larger body, decompressed, is unpacked in a thread, one at a time: its decoded
values take many times its size."""

LOOKUP_THREADS = 16
"""Per worker: how many requests wait for another server at a time; others queue while
their bodies total less than UNFINISHED_BYTES, each counted as at least LARGE_BYTES."""

_CROWDED = error(503, "too_busy", "Too many requests at once.", retry_after_s=1)


class Workload:
    """The unfinished requests of one worker process; refuses those over its limits."""

    def __init__(self) -> None:
        self._budget = Budget(UNFINISHED_BYTES)
        self._gate = asyncio.Semaphore(1)
        self._lookups = ThreadPoolExecutor(LOOKUP_THREADS, "lookup")
        self._looking_up = Budget(UNFINISHED_BYTES)

    async def read(self, request: Request, limit: int) -> bytes | None:
        """Return the raw body, or None if the client disconnected."""
        announced = request.headers.get(b"content-length")
        try:
            return await read_body(request.receive, announced, limit, self._budget)
        except Crowded:
            raise Refused(_CROWDED) from None

    @asynccontextmanager
    async def alone(self, size_bytes: int) -> AsyncIterator[None]:
        """Unpack one large body at a time; the others wait.

        Raises:
            Refused: too many are already waiting.
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
        """Run the work in separate threads, so that a slow server delays nothing else.

        Raises:
            Refused: too many are already waiting.
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
    """Return the result of the work; run it in a thread if there is much of it."""
    if size_bytes > LARGE_BYTES:
        return await asyncio.to_thread(work)
    return work()
