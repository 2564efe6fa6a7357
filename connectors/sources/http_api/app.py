"""The collector as an ASGI application: routes a request, and answers when it is safe.

Every item of an authenticated request is counted in a record, judged, and on disk
before the answer says so. The application is one worker's; `server` runs it.
"""

import asyncio
import base64
import binascii
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, partial
from typing import Any, TypeVar
from urllib.parse import parse_qs

import msgspec

from connectors.events.clock import isoformat
from connectors.events.decode import Undecodable
from connectors.events.fingerprint import Fingerprints
from connectors.events.policy import Policy
from connectors.events.verdicts import Verdict
from connectors.landing.segments import SegmentWriter
from connectors.sources.forms import Forms, UnknownForm
from connectors.sources.http_api.allowance import Allowance
from connectors.sources.http_api.answers import (
    Answer,
    Refused,
    cors,
    error,
    json_answer,
)
from connectors.sources.http_api.bodies import (
    KEY_FIELDS,
    Budget,
    Crowded,
    TooLarge,
    decoded,
    inflated,
    keys_within,
    read_body,
)
from connectors.sources.http_api.browser_settings import (
    posthog_config,
    posthog_flags,
    rudder_settings,
    segment_settings,
)
from connectors.sources.http_api.debugger import Debugger, Filter, seen_of
from connectors.sources.http_api.door import (
    Door,
    Receipt,
    Taken,
    shared_bytes,
    unpacked,
)
from connectors.sources.http_api.metrics import Metrics
from connectors.sources.http_api.openapi import document
from connectors.sources.http_api.routes import Route, find
from connectors.sources.inbound_webhooks import InboundWebhooks, UnknownWebhook
from connectors.sources.rate_limits import Buckets
from connectors.sources.signatures import BadSignature
from connectors.sources.write_keys import KeyRing, WriteKey

__all__ = ["Collector"]

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
_Result = TypeVar("_Result")

_FILTERS = Filter.__struct_fields__

PUBLIC_RATE = (100.0, 500)
"""Events per second and burst of a form or webhook, which have no write key."""

MAX_BODY_BYTES = 10 << 20
UNFINISHED_BYTES = 64 << 20
"""Of all bodies that are arriving, or wait to be unpacked, at once."""

MAX_ITEMS = 20_000
"""Of one body; the most that was seen in a real SDK's request is 250."""

LARGE_BYTES = 256 << 10
"""A body of more, decompressed, is unpacked in a thread, one at a time: as decoded
values it is many times its size."""

_SUCCESS = json_answer({"success": True})
_JITSU = json_answer({"success": True, "ok": True})
_UNKNOWN_PATH = error(404, "not_found", "There is no such path here.")
_UNAUTHORIZED = error(401, "invalid_write_key", "The write key is missing or unknown.")
_TOO_MANY = error(
    413, "too_many_items", f"A body may hold {MAX_ITEMS:,} events; send several."
)
_TOO_LARGE = error(413, "body_too_large", "The body is larger than this key allows.")
_BUSY = error(
    503, "storage_unavailable", "Events cannot be stored just now.", retry_after_s=1
)
_CROWDED = error(503, "too_busy", "Too much arrives at once.", retry_after_s=1)
_FORBIDDEN_PATH = error(403, "path_not_allowed", "This key may not use this path.")
_NOT_FOR_EVENTS = error(403, "key_not_for_events", "An admin key takes no events.")
_ADMIN_ONLY = error(403, "admin_key_needed", "This needs an admin key.")
_BAD_SIGNATURE = error(401, "bad_signature", "The signature does not fit.")
_PUBLIC_POLICY = Policy()
_TOO_FAST = Verdict("rate_limited", "rate_limited")
_IGNORED = Verdict("dropped", "ignored_by_mapping")
_FOR_OPERATORS = ("healthz", "readyz", "metrics")  # no page has to read them
_OPENAPI = json_answer(document())


@dataclass(frozen=True, slots=True)
class Request:
    """What is read of one request."""

    scope: Any
    receive: Receive
    headers: dict[bytes, bytes]

    @property
    def query(self) -> dict[str, list[str]]:
        text = self.scope["query_string"]
        if not text:
            return {}
        try:
            return parse_qs(text.decode("latin-1"), max_num_fields=100)
        except ValueError:  # more fields than any client sends
            return {}

    @property
    def wants_receipts(self) -> bool:
        if self.headers.get(b"x-loomline-receipts") == b"1":
            return True
        return b"receipts=1" in self.scope["query_string"].split(b"&")


class Collector:
    """One worker's application; `writer` must call `settled` with what it committed."""

    def __init__(
        self,
        *,
        door: Door,
        keys: KeyRing,
        buckets: Buckets,
        writer: SegmentWriter,
        webhooks: InboundWebhooks,
        forms: Forms,
        fingerprints: Fingerprints,
        debugger: Debugger,
        metrics: Metrics,
    ) -> None:
        self._door = door
        self._keys = keys
        self._allowance = Allowance(buckets)
        self._writer = writer
        self._webhooks = webhooks
        self._forms = forms
        self._fingerprints = fingerprints
        self._debugger = debugger
        self._metrics = metrics
        self._budget = Budget(UNFINISHED_BYTES)
        self._gate = asyncio.Semaphore(1)
        self._started_at = time.monotonic()
        self.is_draining = False

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"{scope['type']} is not served here")
        request = Request(scope, receive, dict(scope["headers"]))
        route = find(scope["path"])
        try:
            if route is None:
                raise Refused(_UNKNOWN_PATH)
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

    def settled(self, waiting: list["asyncio.Future[bool]"], is_on_disk: bool) -> None:
        """Let requests go on whose lines were committed, or could not be."""
        for future in waiting:
            if not future.done():
                future.set_result(is_on_disk)

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
                return await self._ingest(route, request)
            case "webhook":
                return await self._webhook(route, request)
            case "form":
                return await self._form(route, request)
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

    # Ingestion

    async def _ingest(self, route: Route, request: Request) -> Answer | None:
        # Of the items nothing is left when this one returns: what waits is a line.
        taken = await self._ingested(route, request)
        if not isinstance(taken, Taken):
            return taken
        await self._store(taken)
        match route.style:
            case "posthog_v1":
                return _posthog_v1(taken.receipts)
            case _ if request.wants_receipts:
                return _with_receipts(taken.receipts)
            case "jitsu":
                return _JITSU
            case _:
                return _SUCCESS

    async def _ingested(self, route: Route, request: Request) -> Taken | Answer | None:
        """A request's items, judged; the answer when there are none, or nobody."""
        presented = self._presented(_in_headers(request))
        if presented is not None:
            self._permit(route, presented[0])
        limit = presented[0].max_batch_bytes if presented else MAX_BODY_BYTES
        body: bytes | None = b""
        try:
            body = await self._read(request, limit)
            if body is None:
                return None
            encoding = request.headers.get(b"content-encoding")
            try:
                data = inflated(body, encoding, min(limit, LARGE_BYTES))
            except TooLarge:
                async with self._alone(len(body)):
                    data = await asyncio.to_thread(inflated, body, encoding, limit)
                    return await self._decoded(route, request, presented, data)
            return await self._decoded(route, request, presented, data)
        except TooLarge:
            return await self._refuse(presented, b"", "body_too_large", _TOO_LARGE)
        except Undecodable as problem:  # no compressed data
            answer = error(400, problem.reason, "The body cannot be decompressed.")
            return await self._refuse(presented, body or b"", problem.reason, answer)

    async def _decoded(
        self,
        route: Route,
        request: Request,
        presented: tuple[WriteKey, str] | None,
        data: bytes,
    ) -> Taken | Answer:
        """The items of a body without compression, judged."""
        if presented is None and len(data) > LARGE_BYTES:
            presented = self._presented(keys_within(data))  # before all is decoded
            if presented is None:
                self._metrics.add("loomline_unauthorized_total")
                raise Refused(_UNAUTHORIZED)
        try:
            value = await _beside_the_loop(len(data), partial(decoded, data))
        except Undecodable as problem:
            answer = error(400, problem.reason, "The body holds no JSON to read.")
            return await self._refuse(presented, data, problem.reason, answer)
        if presented is None:
            presented = self._presented(_in_body(value))
            if presented is None:
                self._metrics.add("loomline_unauthorized_total")
                raise Refused(_UNAUTHORIZED)
        key, key_text = presented
        self._permit(route, key)
        if len(data) + shared_bytes(value) > key.max_batch_bytes:
            return await self._refuse(presented, b"", "body_too_large", _TOO_LARGE)
        given = unpacked(value, route.type, key_text, self._keys.find)
        if len(given) > MAX_ITEMS:
            return await self._refuse(presented, b"", "too_many_items", _TOO_MANY)
        self._within_rate(given, key, "http")
        is_v1 = route.style == "posthog_v1"
        return await self._judged(
            given, key, "http", len(data), request, wants_receipts=is_v1
        )

    @asynccontextmanager
    async def _alone(self, size_bytes: int) -> AsyncIterator[None]:
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

    async def _webhook(self, route: Route, request: Request) -> Answer | None:
        key = self._public_key(route.argument)
        headers = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in request.headers.items()
        }
        try:
            body = await self._read(request, MAX_BODY_BYTES)
            if body is None:
                return None
            receive = partial(
                self._webhooks.receive, route.argument, headers, body, time.time()
            )
            if len(body) > LARGE_BYTES:
                async with self._alone(len(body)):
                    given = await asyncio.to_thread(receive)
            else:
                given = receive()
        except TooLarge:
            raise Refused(_TOO_LARGE) from None
        except UnknownWebhook:
            raise Refused(_UNKNOWN_PATH) from None
        except BadSignature:
            self._metrics.add("loomline_unauthorized_total")
            raise Refused(_BAD_SIGNATURE) from None
        except Undecodable as problem:
            answer = error(400, problem.reason, "The body holds no JSON to read.")
            presented = (key, "")
            return await self._refuse(
                presented, body or b"", problem.reason, answer, "webhook"
            )
        self._within_rate(given, key, "webhook", f"webhook:{route.argument}")
        if given:
            taken = await self._judged(given, key, "webhook", len(body), request)
        else:
            taken = self._door.decide(
                [None], _IGNORED, key, "webhook", is_watched=self._debugger.is_watched
            )
        await self._store(taken)
        if request.wants_receipts:
            return _with_receipts(taken.receipts if given else ())
        return _SUCCESS

    async def _form(self, route: Route, request: Request) -> Answer | None:
        content_type = request.headers.get(b"content-type", b"").decode("latin-1")
        try:
            body = await self._read(request, MAX_BODY_BYTES)
            if body is None:
                return None
            form = self._forms.receive(route.argument, content_type, body)
        except TooLarge:
            raise Refused(_TOO_LARGE) from None
        except UnknownForm:
            raise Refused(_UNKNOWN_PATH) from None
        except Undecodable as problem:
            answer = error(400, problem.reason, "This is not a form as HTML sends it.")
            presented = (self._public_key(route.argument), "")
            return await self._refuse(
                presented, body or b"", problem.reason, answer, "form"
            )
        key = self._public_key(form.source)
        self._within_rate(form.items, key, "form", f"form:{route.argument}")
        if form.refusal is None:
            taken = await self._judged(form.items, key, "form", len(body), request)
        else:
            verdict = Verdict("rejected", form.refusal)
            taken = self._door.decide(
                form.items, verdict, key, "form", is_watched=self._debugger.is_watched
            )
        await self._store(taken)
        if form.redirect_url is not None:
            return Answer(303, b"", [(b"location", form.redirect_url.encode())])
        if request.wants_receipts:
            return _with_receipts(taken.receipts)
        return _SUCCESS

    async def _read(self, request: Request, limit: int) -> bytes | None:
        """The body as it came; None when the client went away."""
        announced = request.headers.get(b"content-length")
        try:
            return await read_body(request.receive, announced, limit, self._budget)
        except Crowded:
            raise Refused(_CROWDED) from None

    async def _refuse(
        self,
        presented: tuple[WriteKey, str] | None,
        data: bytes,
        reason: str,
        answer: Answer,
        path: str = "http",
    ) -> Answer:
        """Count a body that holds no item; one without a key is nobody's."""
        if presented is None:
            self._metrics.add("loomline_unauthorized_total")
            return answer if answer.status == 413 else _UNAUTHORIZED
        key, key_text = presented
        if key_text:
            data = data.replace(key_text.encode(), b"***")
        await self._store(
            self._door.refuse(
                data, reason, key, path, is_watched=self._debugger.is_watched
            )
        )
        return answer

    def _within_rate(
        self, given: list[Any], key: WriteKey, path: str, bucket: str | None = None
    ) -> None:
        """Take a batch's share of a rate: the key's, or that of a `bucket` of its own.

        Raises:
            Refused: nothing is left of it; the items are counted, not kept.
        """
        if not given:
            return
        wait_s = self._allowance.take(key, len(given), bucket)
        if not wait_s:
            return
        taken = self._door.decide(
            given, _TOO_FAST, key, path, is_watched=self._debugger.is_watched
        )
        self._show(taken)
        # Nobody waits for it: its sender keeps the items and sends them again.
        self._append(taken)
        self._metrics.add(
            "loomline_events_total",
            len(given),
            source=key.name,
            disposition="rate_limited",
        )
        raise Refused(
            error(
                429,
                "rate_limited",
                "This write key sends more than it may.",
                retry_after_s=max(math.ceil(wait_s), 1),
            )
        )

    async def _judged(
        self,
        given: list[Any],
        key: WriteKey,
        path: str,
        size_bytes: int,
        request: Request,
        *,
        wants_receipts: bool = False,
    ) -> Taken:
        """The items with what became of them, to be stored."""
        headers, scope = request.headers, request.scope

        def fingerprint() -> str:
            return self._fingerprints.stamp(
                time.time(),
                key.scope,
                scope["client"][0] if scope["client"] else "",
                headers.get(b"user-agent", b"").decode("latin-1"),
                headers.get(b"accept-language", b"").decode("latin-1"),
            )

        take = partial(
            self._door.take,
            given,
            key,
            path,
            size_bytes=size_bytes,
            is_watched=self._debugger.is_watched,
            wants_receipts=wants_receipts or request.wants_receipts,
            gpc=headers.get(b"sec-gpc") == b"1",
            fingerprint=fingerprint,
        )
        if self._door.may_wait(given, key):  # for another server: not in the loop
            return await asyncio.to_thread(take)
        return await _beside_the_loop(size_bytes, take)

    async def _store(self, taken: Taken) -> None:
        """Wait until it is on disk.

        Raises:
            Refused: it is not.
        """
        if not taken.dispositions:
            return  # an empty batch
        if not await self._append(taken):
            raise Refused(_BUSY)
        source = taken.source
        for disposition, count in taken.dispositions.items():
            self._metrics.add(
                "loomline_events_total", count, source=source, disposition=disposition
            )
        if taken.size_bytes:
            self._metrics.add("loomline_received_bytes_total", taken.size_bytes)
        self._show(taken)

    def _show(self, taken: Taken) -> None:
        """Tell whoever watches."""
        if taken.watched:
            at = isoformat(taken.received_at)
            for item, note, applied in taken.watched:
                self._debugger.show(seen_of(item, note, applied, taken.source, at))

    def _append(self, taken: Taken) -> "asyncio.Future[bool]":
        future = asyncio.get_running_loop().create_future()
        self._writer.append(taken.line, taken.received_at, future)
        return future

    # Keys

    def _presented(self, texts: Iterator[str]) -> tuple[WriteKey, str] | None:
        """The first live key among what the request presents."""
        for text in texts:
            key = self._keys.find(text)
            if key is not None:
                return key, text
        return None

    def _public_key(self, source: str) -> WriteKey:
        """What holds for a webhook's or a form's sender, who has no key.

        Events of a source are treated alike: where it has a key, by that key's policy
        and scope.
        """
        own = self._keys.of_source(source)
        rate, burst = PUBLIC_RATE
        return WriteKey(
            id=source,
            name=source,
            kind="server",
            scope=own.scope if own else source,
            policy=own.policy if own else _PUBLIC_POLICY,
            rate=rate,
            burst=burst,
            paths=None,
            max_batch_bytes=MAX_BODY_BYTES,
            created_at=datetime.min,
            hint="",
        )

    def _permit(self, route: Route, key: WriteKey) -> None:
        if key.kind == "admin":
            raise Refused(_NOT_FOR_EVENTS)
        if key.paths is not None and key.paths.isdisjoint(route.groups):
            raise Refused(_FORBIDDEN_PATH)

    # Everything else

    async def _settings(self, route: Route, request: Request) -> Answer | None:
        """What browser SDKs ask before they send anything."""
        match route.kind:
            case "segment_settings":
                found = self._presented(iter((route.argument,)))
            case "posthog_config":
                found = self._presented(iter((route.argument,)))
            case "rudder_settings":
                found = self._presented(_in_headers(request))
            case _:
                return posthog_flags()  # no feature flags for anybody, key or none
        if found is None:
            self._metrics.add("loomline_unauthorized_total")
            raise Refused(_UNAUTHORIZED)
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
        found = self._presented(_in_headers(request))
        if found is None:
            self._metrics.add("loomline_unauthorized_total")
            raise Refused(_UNAUTHORIZED)
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


async def _beside_the_loop(size_bytes: int, work: Callable[[], _Result]) -> _Result:
    """What the work returns; in a thread when there is much of it."""
    if size_bytes > LARGE_BYTES:
        return await asyncio.to_thread(work)
    return work()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _in_headers(request: Request) -> Iterator[str]:
    """What headers and query present as a write key.

    Basic carries it as the user, with an empty password; a key that is made of both
    parts (Jitsu's `id:secret`) is presented as a whole first.
    """
    headers = request.headers
    authorization = headers.get(b"authorization")
    if authorization is not None:
        yield from _authorized(authorization)
    if b"x-write-key" in headers:
        yield from _with_parts(headers[b"x-write-key"].decode("latin-1"))
    if request.scope["query_string"]:
        query = request.query
        for name in KEY_FIELDS:
            if name in query:
                yield query[name][0]


@lru_cache  # a source's requests have the same
def _authorized(authorization: bytes) -> tuple[str, ...]:
    scheme, _, rest = authorization.partition(b" ")
    match scheme.lower():
        case b"basic":
            with suppress(binascii.Error, UnicodeDecodeError):
                return tuple(_with_parts(base64.b64decode(rest).decode()))
        case b"bearer":
            return (rest.strip().decode("latin-1"),)
    return ()


def _with_parts(text: str) -> Iterator[str]:
    first, _, second = text.partition(":")
    if second:
        yield text
    yield first


def _in_body(value: Any) -> Iterator[str]:
    """What a body presents as a write key: itself, or its first item."""
    candidates = [value]
    if type(value) is dict and type(value.get("batch")) is list:
        candidates += value["batch"][:1]
    elif type(value) is list:
        candidates = value[:1]
    for candidate in candidates:
        if type(candidate) is not dict:
            continue
        properties = candidate.get("properties")
        for owner in (candidate, properties):
            if type(owner) is dict:
                for name in KEY_FIELDS:
                    if type(owner.get(name)) is str:
                        yield owner[name]


def _with_receipts(receipts: Sequence[Receipt]) -> Answer:
    events = [receipt._asdict() for receipt in receipts]
    return json_answer({"success": True, "events": events})


_POSTHOG_RESULTS = {"admitted": "ok", "rate_limited": "retry"}


def _posthog_v1(receipts: Sequence[Receipt]) -> Answer:
    """PostHog's newer protocol asks for a result by event id."""
    results = {
        receipt.id: {
            "result": _POSTHOG_RESULTS.get(receipt.status, "drop"),
            "details": receipt.reason,
        }
        for receipt in receipts
        if receipt.id is not None
    }
    return json_answer({"results": results})
