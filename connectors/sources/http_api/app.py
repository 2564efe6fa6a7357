"""The collector's ASGI application: routes requests and answers them.

Every item of an authenticated request is recorded, decided, and on disk before the
answer says so (`ingestion`). Each worker has its own application; `worker` runs it.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from connectors.landing.segment_writer import SegmentWriter
from connectors.sources.http_api.answers import (
    UNAUTHORIZED,
    UNKNOWN_PATH,
    Answer,
    Refused,
    cors,
    error,
    json_answer,
    send_answer,
)
from connectors.sources.http_api.browser_settings import (
    posthog_config,
    posthog_flags,
    rudder_settings,
    segment_settings,
)
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

_NOT_FOR_PAGES = ("healthz", "readyz")  # pages need no access to them
_OPENAPI = json_answer(document())


class Collector:
    """One worker's application."""

    def __init__(
        self,
        ingestion: Ingestion,
        *,
        keys: KeyRing,
        writer: SegmentWriter,
        metrics: Metrics,
    ) -> None:
        self._ingestion = ingestion
        self._keys = keys
        self._writer = writer
        self._metrics = metrics
        self.is_draining = False

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"{scope['type']} is not served here")
        request = Request(scope, receive, dict(scope["headers"]))
        route = find(scope["path"])
        try:
            if route is None:
                raise Refused(UNKNOWN_PATH)
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
        if route is not None and route.kind in _NOT_FOR_PAGES:
            await send_answer(send, answer, scope["method"])
            return
        origin = request.headers.get(b"origin")
        allowed = cors(origin, is_preflight=scope["method"] == "OPTIONS")
        await send_answer(send, answer, scope["method"], allowed)

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
                return self.health(is_ready_asked=route.kind == "readyz")
            case "openapi":
                return _OPENAPI
            case _ if method == "HEAD":
                return Answer(200, b"", ())  # an SDK checks whether it is blocked
            case _:
                return await self._settings(route, request)

    async def _settings(self, route: Route, request: Request) -> Answer | None:
        """Return the settings that browser SDKs request before sending."""
        match route.kind:
            case "segment_settings":
                credential = presented(self._keys, iter((route.argument,)))
            case "posthog_config":
                credential = presented(self._keys, iter((route.argument,)))
            case "rudder_settings":
                credential = presented(self._keys, in_headers(request))
            case _:
                return posthog_flags()  # no feature flags, with or without a key
        if credential is None:
            self._metrics.add("loomline_unauthorized_total")
            raise Refused(UNAUTHORIZED)
        key, text = credential
        match route.kind:
            case "segment_settings":
                return segment_settings(text)
            case "rudder_settings":
                return rudder_settings(text, key)
            case _:
                return posthog_config(text, as_script=route.type == "config.js")

    def health(self, *, is_ready_asked: bool) -> Answer:
        """Report whether events can be stored; for readiness, also whether draining."""
        reason = self._writer.error or self._metrics.fault()
        if reason is None and is_ready_asked and self.is_draining:
            reason = "draining"
        if reason is None:
            return json_answer({"status": "ok"})
        return json_answer({"status": "failing", "reason": reason}, 503)
