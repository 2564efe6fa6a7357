"""Serves operators: counters, health, and live events.

These routes have their own port and are not on the public one. Pages of other sites
must not read them, and a key in a URL ends up in logs: so there is no CORS, and no key
in the query.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import msgspec

from connectors.landing.segment_writer import SegmentWriter
from connectors.sources.http_api.answers import (
    UNAUTHORIZED,
    UNKNOWN_PATH,
    Answer,
    Refused,
    error,
    send_answer,
)
from connectors.sources.http_api.app import Collector
from connectors.sources.http_api.debugger import Debugger, Filter
from connectors.sources.http_api.metrics import Metrics
from connectors.sources.http_api.requests import (
    Receive,
    Request,
    in_headers,
    presented,
)
from connectors.sources.write_keys import KeyRing

__all__ = ["ADMIN_PATHS", "Admin"]

Send = Callable[[dict[str, Any]], Awaitable[None]]

ADMIN_PATHS = {
    "/metrics": "metrics",
    "/debug/stream": "debug",
    "/healthz": "healthz",
    "/readyz": "readyz",
}

_FILTERS = Filter.__struct_fields__
_ADMIN_ONLY = error(403, "admin_key_needed", "This requires an admin key.")
_NOT_ALLOWED = error(405, "method_not_allowed", "Use GET or HEAD.")


class Admin:
    """One worker's application for operators."""

    def __init__(
        self,
        collector: Collector,
        *,
        keys: KeyRing,
        writer: SegmentWriter,
        debugger: Debugger,
        metrics: Metrics,
    ) -> None:
        self._collector = collector
        self._keys = keys
        self._writer = writer
        self._debugger = debugger
        self._metrics = metrics
        self._started_at = time.monotonic()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        kind = ADMIN_PATHS.get(path.rstrip("/"), "unknown")
        try:
            if kind == "debug" and method == "GET":
                request = Request(scope, receive, dict(scope["headers"]))
                await self._stream(request, send)
                return
            answer = self._answer(kind, method)
        except Refused as refused:
            answer = refused.answer
        self._metrics.add(
            "loomline_requests_total", route=kind, status=str(answer.status)
        )
        await send_answer(send, answer, method)

    def _answer(self, kind: str, method: str) -> Answer:
        if kind == "unknown":
            return UNKNOWN_PATH
        if method not in ("GET", "HEAD"):
            return _NOT_ALLOWED._replace(
                headers=[*_NOT_ALLOWED.headers, (b"allow", b"GET, HEAD")]
            )
        match kind:
            case "metrics":
                text = self._metrics.text(self._gauges())
                return Answer(200, text, [(b"content-type", b"text/plain")])
            case "debug":
                return Answer(200, b"", ())  # HEAD
            case _:
                return self._collector.health(is_ready_asked=kind == "readyz")

    def _gauges(self) -> list[tuple[str, str, float]]:
        return [
            (
                "loomline_storage_ok",
                "Whether the answering worker can store events.",
                float(self._writer.error is None),
            ),
            (
                "loomline_uptime_seconds",
                "Seconds since the answering worker started.",
                time.monotonic() - self._started_at,
            ),
        ]

    async def _stream(self, request: Request, send: Send) -> None:
        """Send decisions that match the filter as server-sent events."""
        credential = presented(self._keys, in_headers(request, and_query=False))
        if credential is None:
            self._metrics.add("loomline_unauthorized_total")
            raise Refused(UNAUTHORIZED)
        if credential[0].kind != "admin":
            raise Refused(_ADMIN_ONLY)
        query = request.query
        by = Filter(**{name: query[name][0] for name in _FILTERS if name in query})
        headers = [
            (b"content-type", b"text/event-stream"),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        gone = asyncio.ensure_future(_disconnected(request.receive))
        chunk, said_at = b": watching\n\n", time.monotonic()
        async with self._debugger.watching() as queue:
            while not gone.done() and not self._collector.is_draining:
                if chunk:
                    await send(
                        {"type": "http.response.body", "body": chunk, "more_body": True}
                    )
                    chunk = b""
                try:
                    async with asyncio.timeout(0.5):
                        seen = await queue.get()
                except TimeoutError:
                    if time.monotonic() - said_at > 5:
                        said_at = time.monotonic()
                        chunk = b": still watching\n\n"
                        if self._keys.find(credential[1]) is None:
                            break  # revoked meanwhile
                    continue
                if seen.is_wanted(by):
                    data = msgspec.json.encode(seen)
                    chunk = b"event: event\ndata: %b\n\n" % data
        gone.cancel()
        with suppress(OSError):
            await send({"type": "http.response.body", "body": b""})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
