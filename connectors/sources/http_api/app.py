"""The collector as an ASGI application: finds the route of a request and answers.

Every item of an authenticated request is counted in a record, judged, and on disk
before the answer says so (`ingestion`). The application is one worker's; `server` runs
it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import msgspec

from connectors.landing.segments import SegmentWriter
from connectors.sources.http_api.answers import (
    UNAUTHORIZED,
    UNKNOWN_PATH,
    Answer,
    Refused,
    cors,
    error,
    json_answer,
)
from connectors.sources.http_api.browser_settings import (
    posthog_config,
    posthog_flags,
    rudder_settings,
    segment_settings,
)
from connectors.sources.http_api.debugger import Debugger, Filter
from connectors.sources.http_api.ingestion import Ingestion
from connectors.sources.http_api.metrics import Metrics
from connectors.sources.http_api.openapi import document
from connectors.sources.http_api.requests import (
    Receive,
    Request,
    in_headers,
    presented,
)
from connectors.sources.http_api.routes import Route, find
from connectors.sources.write_keys import KeyRing

__all__ = ["Collector"]

Send = Callable[[dict[str, Any]], Awaitable[None]]

_FILTERS = Filter.__struct_fields__
_ADMIN_ONLY = error(403, "admin_key_needed", "This needs an admin key.")
_FOR_OPERATORS = ("healthz", "readyz", "metrics")  # no page has to read them
_OPENAPI = json_answer(document())


class Collector:
    """One worker's application."""

    def __init__(
        self,
        ingestion: Ingestion,
        *,
        keys: KeyRing,
        writer: SegmentWriter,
        debugger: Debugger,
        metrics: Metrics,
    ) -> None:
        self._ingestion = ingestion
        self._keys = keys
        self._writer = writer
        self._debugger = debugger
        self._metrics = metrics
        self._started_at = time.monotonic()
        self.is_draining = False

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"{scope['type']} is not served here")
        request = Request(scope, receive, dict(scope["headers"]))
        route = find(scope["path"])
        try:
            if route is None:
                raise Refused(UNKNOWN_PATH)
            if route.kind == "debug" and scope["method"] == "GET":
                await self._stream(request, send)
                return
            answer = await self._answer(route, request)
            if answer is None:
                return  # the client went away
        except Refused as refused:
            answer = refused.answer
        self._metrics.add(
            "loomline_requests_total",
            route=route.kind if route else "unknown",
            status=str(answer.status),
        )
        headers = [
            *answer.headers,
            (b"content-length", b"%d" % len(answer.body)),
        ]
        if route is None or route.kind not in _FOR_OPERATORS:
            is_preflight = scope["method"] == "OPTIONS"
            origin = request.headers.get(b"origin")
            headers += cors(origin, is_preflight=is_preflight)
        body = b"" if scope["method"] == "HEAD" else answer.body
        await send(
            {
                "type": "http.response.start",
                "status": answer.status,
                "headers": headers,
            }
        )
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, route: Route, request: Request) -> Answer | None:
        method = request.scope["method"]
        if method == "OPTIONS":
            return Answer(204, b"", ())
        if method not in route.methods:
            allowed = ", ".join((*route.methods, "OPTIONS"))
            answer = error(405, "method_not_allowed", f"Use {allowed} here.")
            raise Refused(
                answer._replace(headers=[*answer.headers, (b"allow", allowed.encode())])
            )
        match route.kind:
            case "ingest":
                return await self._ingestion.events(route, request)
            case "webhook":
                return await self._ingestion.webhook(route, request)
            case "form":
                return await self._ingestion.form(route, request)
            case "healthz" | "readyz":
                return self._health(is_ready_asked=route.kind == "readyz")
            case "metrics":
                text = self._metrics.text(self._gauges())
                return Answer(200, text, [(b"content-type", b"text/plain")])
            case "openapi":
                return _OPENAPI
            case "debug":
                return Answer(200, b"", ())  # HEAD
            case _ if method == "HEAD":
                return Answer(200, b"", ())  # an SDK looks whether it is blocked
            case _:
                return await self._settings(route, request)

    async def _settings(self, route: Route, request: Request) -> Answer | None:
        """What browser SDKs ask before they send anything."""
        match route.kind:
            case "segment_settings":
                found = presented(self._keys, iter((route.argument,)))
            case "posthog_config":
                found = presented(self._keys, iter((route.argument,)))
            case "rudder_settings":
                found = presented(self._keys, in_headers(request))
            case _:
                return posthog_flags()  # no feature flags for anybody, key or none
        if found is None:
            self._metrics.add("loomline_unauthorized_total")
            raise Refused(UNAUTHORIZED)
        key, text = found
        match route.kind:
            case "segment_settings":
                return segment_settings(text)
            case "rudder_settings":
                return rudder_settings(text, key)
            case _:
                return posthog_config(text, as_script=route.type == "config.js")

    def _health(self, *, is_ready_asked: bool) -> Answer:
        reason = self._writer.error or self._metrics.fault()
        if reason is None and is_ready_asked and self.is_draining:
            reason = "draining"
        if reason is None:
            return json_answer({"status": "ok"})
        return json_answer({"status": "failing", "reason": reason}, 503)

    def _gauges(self) -> list[tuple[str, str, float]]:
        return [
            (
                "loomline_storage_ok",
                "Whether the answering worker can store events.",
                float(self._writer.error is None),
            ),
            (
                "loomline_uptime_seconds",
                "Since the answering worker began.",
                time.monotonic() - self._started_at,
            ),
        ]

    async def _stream(self, request: Request, send: Send) -> None:
        """Server-sent events: what is judged from now on, as far as it is wanted."""
        found = presented(self._keys, in_headers(request))
        if found is None:
            self._metrics.add("loomline_unauthorized_total")
            raise Refused(UNAUTHORIZED)
        if found[0].kind != "admin":
            raise Refused(_ADMIN_ONLY)
        query = request.query
        by = Filter(**{name: query[name][0] for name in _FILTERS if name in query})
        headers = [
            (b"content-type", b"text/event-stream"),
            (b"cache-control", b"no-store"),
            *cors(request.headers.get(b"origin")),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        gone = asyncio.ensure_future(_disconnected(request.receive))
        chunk, said_at = b": watching\n\n", time.monotonic()
        async with self._debugger.watching() as queue:
            while not gone.done() and not self.is_draining:
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
                        if self._keys.find(found[1]) is None:
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
