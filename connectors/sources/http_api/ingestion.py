"""Ingests a request's events: read, unpack, decide, store, then answer."""

import asyncio
import math
import time
from datetime import datetime
from functools import partial
from typing import Any

from connectors.events.clock import isoformat
from connectors.events.decisions import NotAdmitted
from connectors.events.decode import Undecodable
from connectors.events.fingerprint import Fingerprints
from connectors.events.policy import Policy
from connectors.landing.segment_writer import SegmentWriter
from connectors.sources.forms import Forms, UnknownForm
from connectors.sources.http_api.answers import (
    UNAUTHORIZED,
    UNKNOWN_PATH,
    Answer,
    Refused,
    error,
    json_answer,
)
from connectors.sources.http_api.bodies import (
    TooLarge,
    decoded,
    inflated,
    keys_within,
)
from connectors.sources.http_api.concurrency import (
    LARGE_BYTES,
    Workload,
    beside_the_loop,
)
from connectors.sources.http_api.debugger import Debugger, seen_of
from connectors.sources.http_api.metrics import Metrics
from connectors.sources.http_api.receipt import posthog_v1, with_receipts
from connectors.sources.http_api.request_admission import (
    RequestAdmission,
    Taken,
    shared_bytes,
    unpacked,
)
from connectors.sources.http_api.requests import (
    Presented,
    Request,
    in_body,
    in_headers,
    presented,
)
from connectors.sources.http_api.routes import Route
from connectors.sources.http_api.token_lease import TokenLease
from connectors.sources.inbound_signatures import BadSignature
from connectors.sources.inbound_webhooks import InboundWebhooks, UnknownWebhook
from connectors.sources.rate_limits import Buckets
from connectors.sources.write_keys import MAX_BATCH_BYTES, KeyRing, WriteKey

__all__ = ["Ingestion"]

PUBLIC_RATE = (100.0, 500)
"""Events per second and burst of a form or webhook, which have no write key."""

MAX_ITEMS = 20_000
"""Per body; the largest request seen from a real SDK has 250."""

MAX_VALUES = 1_000_000
"""Per body: a decoded value takes several times its few bytes."""

_SUCCESS = json_answer({"success": True})
_JITSU = json_answer({"success": True, "ok": True})
_TOO_MANY = error(
    413, "too_many_items", f"A body may contain {MAX_ITEMS:,} events; send several."
)
_TOO_LARGE = error(413, "body_too_large", "The body is larger than this key allows.")
_BUSY = error(
    503, "storage_unavailable", "Events cannot be stored right now.", retry_after_s=1
)
_FORBIDDEN_PATH = error(403, "path_not_allowed", "This key may not use this path.")
_NOT_FOR_EVENTS = error(403, "key_not_for_events", "An admin key accepts no events.")
_BAD_SIGNATURE = error(401, "bad_signature", "The signature is not valid.")
_PUBLIC_POLICY = Policy()
_TOO_FAST = NotAdmitted("rate_limited", "rate_limited")
_IGNORED = NotAdmitted("dropped", "ignored_by_mapping")


class Ingestion:
    """Admits and stores the events of requests. One per worker process."""

    def __init__(
        self,
        *,
        admission: RequestAdmission,
        keys: KeyRing,
        buckets: Buckets,
        writer: SegmentWriter,
        webhooks: InboundWebhooks,
        forms: Forms,
        fingerprints: Fingerprints,
        debugger: Debugger,
        metrics: Metrics,
    ) -> None:
        self._admission = admission
        self._keys = keys
        self._tokens = TokenLease(buckets)
        self._writer = writer
        self._webhooks = webhooks
        self._forms = forms
        self._fingerprints = fingerprints
        self._debugger = debugger
        self._metrics = metrics
        self._workload = Workload()

    @staticmethod
    def settled(waiting: list["asyncio.Future[bool]"], is_on_disk: bool) -> None:
        """Resume requests whose lines were committed, or could not be."""
        for future in waiting:
            if not future.done():
                future.set_result(is_on_disk)

    async def events(self, route: Route, request: Request) -> Answer | None:
        """Ingest an SDK's events; return None if the client disconnected."""
        # The items are released when this returns: only their line waits for the disk.
        taken = await self._ingested(route, request)
        if not isinstance(taken, Taken):
            return taken
        await self._store(taken)
        match route.style:
            case "posthog_v1":
                return posthog_v1(taken.receipts)
            case _ if request.wants_receipts:
                return with_receipts(taken.receipts)
            case "jitsu":
                return _JITSU
            case _:
                return _SUCCESS

    async def _ingested(self, route: Route, request: Request) -> Taken | Answer | None:
        """Return a request's decided items, or the answer if it has none or no key."""
        credential = presented(self._keys, in_headers(request))
        if credential is not None:
            _permit(route, credential[0])
        limit = credential[0].max_batch_bytes if credential else MAX_BATCH_BYTES
        body: bytes | None = b""
        try:
            body = await self._workload.read(request, limit)
            if body is None:
                return None
            encoding = request.headers.get(b"content-encoding")
            try:
                data = inflated(body, encoding, min(limit, LARGE_BYTES))
            except TooLarge:
                async with self._workload.alone(len(body)):
                    data = await asyncio.to_thread(inflated, body, encoding, limit)
                    return await self._decoded(route, request, credential, data)
            return await self._decoded(route, request, credential, data)
        except TooLarge:
            return await self._refuse(credential, b"", "body_too_large", _TOO_LARGE)
        except Undecodable as problem:  # not valid compressed data
            answer = error(400, problem.reason, "The body cannot be decompressed.")
            return await self._refuse(credential, body or b"", problem.reason, answer)

    async def _decoded(
        self,
        route: Route,
        request: Request,
        credential: Presented | None,
        data: bytes,
    ) -> Taken | Answer:
        """Decide about the items of a decompressed body."""
        if credential is None and len(data) > LARGE_BYTES:
            credential = presented(
                self._keys, keys_within(data)
            )  # before decoding it all
            if credential is None:
                self._metrics.add("loomline_unauthorized_total")
                raise Refused(UNAUTHORIZED)
        if len(data) > LARGE_BYTES and data.count(b",") > MAX_VALUES:
            return await self._refuse(credential, b"", "too_many_items", _TOO_MANY)
        try:
            value = await beside_the_loop(len(data), partial(decoded, data))
        except Undecodable as problem:
            answer = error(400, problem.reason, "The body is not valid JSON.")
            return await self._refuse(credential, data, problem.reason, answer)
        if credential is None:
            credential = presented(self._keys, in_body(value))
            if credential is None:
                self._metrics.add("loomline_unauthorized_total")
                raise Refused(UNAUTHORIZED)
        key, key_text = credential
        _permit(route, key)
        if len(data) + shared_bytes(value) > key.max_batch_bytes:
            return await self._refuse(credential, b"", "body_too_large", _TOO_LARGE)
        items = unpacked(value, route.type, key_text, self._keys.find)
        if len(items) > MAX_ITEMS:
            return await self._refuse(credential, b"", "too_many_items", _TOO_MANY)
        self._within_rate(items, key, "http")
        is_v1 = route.style == "posthog_v1"
        return await self._decide(
            items, key, "http", len(data), request, wants_receipts=is_v1
        )

    async def webhook(self, route: Route, request: Request) -> Answer | None:
        """Ingest a webhook of another system, in its own shape."""
        key = self._public_key(route.argument)
        headers = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in request.headers.items()
        }
        try:
            body = await self._workload.read(request, MAX_BATCH_BYTES)
            if body is None:
                return None
            receive = partial(
                self._webhooks.receive, route.argument, headers, body, time.time()
            )
            if len(body) > LARGE_BYTES:
                async with self._workload.alone(len(body)):
                    items = await asyncio.to_thread(receive)
            else:
                items = receive()
        except TooLarge:
            raise Refused(_TOO_LARGE) from None
        except UnknownWebhook:
            raise Refused(UNKNOWN_PATH) from None
        except BadSignature:
            self._metrics.add("loomline_unauthorized_total")
            raise Refused(_BAD_SIGNATURE) from None
        except Undecodable as problem:
            answer = error(400, problem.reason, "The body is not valid JSON.")
            credential = (key, "")
            return await self._refuse(
                credential, body or b"", problem.reason, answer, "webhook"
            )
        self._within_rate(items, key, "webhook", f"webhook:{route.argument}")
        if items:
            taken = await self._decide(items, key, "webhook", len(body), request)
        else:
            taken = self._admission.decide(
                [None], _IGNORED, key, "webhook", is_watched=self._debugger.is_watched
            )
        await self._store(taken)
        if request.wants_receipts:
            return with_receipts(taken.receipts if items else ())
        return _SUCCESS

    async def form(self, route: Route, request: Request) -> Answer | None:
        """Ingest an HTML form; redirect the browser as the form's file says."""
        content_type = request.headers.get(b"content-type", b"").decode("latin-1")
        try:
            body = await self._workload.read(request, MAX_BATCH_BYTES)
            if body is None:
                return None
            form = self._forms.receive(route.argument, content_type, body)
        except TooLarge:
            raise Refused(_TOO_LARGE) from None
        except UnknownForm:
            raise Refused(UNKNOWN_PATH) from None
        except Undecodable as problem:
            answer = error(400, problem.reason, "The body is not an HTML form.")
            credential = (self._public_key(route.argument), "")
            return await self._refuse(
                credential, body or b"", problem.reason, answer, "form"
            )
        key = self._public_key(form.source)
        self._within_rate(form.items, key, "form", f"form:{route.argument}")
        if form.refusal is None:
            taken = await self._decide(form.items, key, "form", len(body), request)
        else:
            outcome = NotAdmitted("rejected", form.refusal)
            taken = self._admission.decide(
                form.items, outcome, key, "form", is_watched=self._debugger.is_watched
            )
        await self._store(taken)
        if form.redirect_url is not None:
            return Answer(303, b"", [(b"location", form.redirect_url.encode())])
        if request.wants_receipts:
            return with_receipts(taken.receipts)
        return _SUCCESS

    async def _refuse(
        self,
        credential: Presented | None,
        data: bytes,
        reason: str,
        answer: Answer,
        channel: str = "http",
    ) -> Answer:
        """Count an undecodable body as one rejected item; not without a key."""
        if credential is None:
            self._metrics.add("loomline_unauthorized_total")
            return answer if answer.status == 413 else UNAUTHORIZED
        key, key_text = credential
        if key_text:
            data = data.replace(key_text.encode(), b"***")
        await self._store(
            self._admission.refuse(
                data, reason, key, channel, is_watched=self._debugger.is_watched
            )
        )
        return answer

    def _within_rate(
        self, items: list[Any], key: WriteKey, channel: str, bucket: str | None = None
    ) -> None:
        """Take a batch's tokens from the rate of the key, or of the named `bucket`.

        Raises:
            Refused: the bucket is empty; the items are counted, not stored.
        """
        if not items:
            return
        wait_s = self._tokens.take(key, len(items), bucket)
        if not wait_s:
            return
        taken = self._admission.decide(
            items, _TOO_FAST, key, channel, is_watched=self._debugger.is_watched
        )
        self._show(taken)
        # Not awaited: the sender keeps the items and sends them again.
        self._append(taken)
        self._metrics.add(
            "loomline_events_total",
            len(items),
            source=key.name,
            disposition="rate_limited",
        )
        raise Refused(
            error(
                429,
                "rate_limited",
                "This write key exceeds its rate limit.",
                retry_after_s=max(math.ceil(wait_s), 1),
            )
        )

    async def _decide(
        self,
        items: list[Any],
        key: WriteKey,
        channel: str,
        size_bytes: int,
        request: Request,
        *,
        wants_receipts: bool = False,
    ) -> Taken:
        """Decide about the items, for storing them."""
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
            self._admission.take,
            items,
            key,
            channel,
            size_bytes=size_bytes,
            is_watched=self._debugger.is_watched,
            wants_receipts=wants_receipts or request.wants_receipts,
            gpc=headers.get(b"sec-gpc") == b"1",
            fingerprint=fingerprint,
        )
        if self._admission.may_wait(items, key):  # for another server: in a thread
            return await self._workload.among_lookups(size_bytes, take)
        return await beside_the_loop(size_bytes, take)

    async def _store(self, taken: Taken) -> None:
        """Wait until the items are on disk.

        Raises:
            Refused: they could not be stored.
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
        """Send decisions to watchers."""
        if taken.watched:
            at = isoformat(taken.received_at)
            for item, decision, applied in taken.watched:
                self._debugger.show(seen_of(item, decision, applied, taken.source, at))

    def _append(self, taken: Taken) -> "asyncio.Future[bool]":
        future = asyncio.get_running_loop().create_future()
        self._writer.append(taken.line, taken.received_at, future)
        return future

    def _public_key(self, source: str) -> WriteKey:
        """Return the rules for a sender of webhooks or forms, which has no key.

        Events of a source are treated alike: if it has a key, that key's policy and
        scope apply.
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
            max_batch_bytes=MAX_BATCH_BYTES,
            created_at=datetime.min,
            hint="",
        )


def _permit(route: Route, key: WriteKey) -> None:
    """Raise Refused if the key may not be used."""
    if key.kind == "admin":
        raise Refused(_NOT_FOR_EVENTS)
    if key.paths is not None and key.paths.isdisjoint(route.groups):
        raise Refused(_FORBIDDEN_PATH)
