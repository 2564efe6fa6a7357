"""The door: every item of every path becomes exactly one disposition here.

decode → normalise → suppression → consent → transformations before the contract →
contract → transformations → disposition. Pure: nothing is read or written.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from operator import is_
from secrets import token_hex
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import astuple

from connectors.events.canonical import TYPES, ConsentStatement, Disposition, Event
from connectors.events.clock import correct, instant
from connectors.events.consent import stated
from connectors.events.decode import Undecodable, decode_item
from connectors.events.identifiers import IdentifierRules
from connectors.events.naming import as_text, snake_case
from connectors.events.shapes import Unusable, items, to_call

__all__ = [
    "MAX_EVENT_BYTES",
    "Admission",
    "Admitted",
    "DispositionRow",
    "Origin",
    "Step",
    "Steps",
    "Verdict",
]

MAX_EVENT_BYTES = 1 << 20
"""Largest event, as JSON text; a larger one is rejected, its neighbours are not."""

_HOUR = 3600 * 1_000_000
_encode = msgspec.json.encode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode

_Texts = tuple[bytes | None, ...]
"""The JSON of properties, traits, context and integrations, keys in order."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where items come from; holds for every item of one load."""

    source: str
    scope: str
    path: str
    segment: str  # the collector segment or file that carries them
    received_at: int  # microseconds since 1970, for items without their own
    keeps_received_at: bool  # an import: the row's own arrival time counts
    # Makes, with the line, the id of an event that has neither an id nor a time of its
    # own repeatable (a file: its hash). Without one such an id is random.
    seed: str | None = None


class Verdict(NamedTuple):
    """Why an event goes no further."""

    disposition: Disposition
    reason: str


Step = Callable[[Event], Verdict | None]
"""Looks at an event, and says None to let it pass.

A step that alters an event sets its fields to new values. What an event came with is
never changed itself: it is kept with the reason when the event goes no further.
"""


@dataclass(frozen=True, slots=True)
class Steps:
    """What stands between normalising and the disposition, in this order."""

    suppression: Sequence[Step] = ()
    consent: Sequence[Step] = ()
    before_contract: Sequence[Step] = ()
    contract: Sequence[Step] = ()
    after_contract: Sequence[Step] = ()

    def in_order(self) -> tuple[Step, ...]:
        return (
            *self.suppression,
            *self.consent,
            *self.before_contract,
            *self.contract,
            *self.after_contract,
        )


class DispositionRow(NamedTuple):
    """One item's fate at the door; `payload` is kept for all but admitted ones."""

    message_id: str | None
    source: str
    path: str
    received_at: int
    disposition: Disposition
    reason: str | None
    event: str | None
    payload: str | None
    replay_of: str | None = None


@dataclass(slots=True)
class Admitted:
    """What the items of one load became."""

    received: Counter[int] = field(default_factory=Counter)  # hour (µs) → items
    events: list[tuple[Any, ...]] = field(default_factory=list)  # Event's fields, JSON
    # as text: rows of `raw.events`
    dispositions: list[DispositionRow] = field(default_factory=list)
    consent: list[ConsentStatement] = field(default_factory=list)


class Admission:
    """Judges items by one set of rules."""

    def __init__(self, rules: IdentifierRules, steps: Steps | None = None) -> None:
        self._identifiers_of = rules.of
        self._steps = (steps or Steps()).in_order()

    def admit_bytes(
        self, data: bytes, origin: Origin, out: Admitted, *, line: int = 0
    ) -> None:
        """Decode and judge what may be an event, a list of events or a batch.

        `line` counts from 1 where the bytes are a line of a file.
        """
        try:
            value = decode_item(data)
        except Undecodable as error:
            self.refuse(data, error.reason, origin, out, line=line)
            return
        is_large = len(data) > MAX_EVENT_BYTES
        if not is_large and type(value) is dict and "batch" not in value:
            self.admit(value, origin, out, line=line)  # by far the most
            return
        for index, item in enumerate(items(value)):
            size = len(_encode(item)) if is_large else 0
            self.admit(item, origin, out, line=line, index=index, size=size)

    def refuse(
        self, data: bytes, reason: str, origin: Origin, out: Admitted, *, line: int = 0
    ) -> None:
        """Count bytes that hold no item as one rejected item, and keep them."""
        if line:
            reason = f"{origin.segment}:{line}: {reason}"
        text = data.decode("utf-8", "backslashreplace")
        out.received[origin.received_at // _HOUR * _HOUR] += 1
        place = (origin.source, origin.path, origin.received_at)
        out.dispositions.append(
            DispositionRow(None, *place, "rejected", reason, None, text)
        )

    def admit(
        self,
        item: Any,
        origin: Origin,
        out: Admitted,
        *,
        line: int = 0,
        index: int = 0,
        size: int = 0,
    ) -> None:
        """Judge one decoded item, the `index`th of its line.

        `size` is its JSON text in bytes, if large.
        """
        own = None
        if origin.keeps_received_at and type(item) is dict:
            given = item.get("receivedAt")
            own = instant(item.get("received_at") if given is None else given)
        received_at = origin.received_at if own is None else own
        out.received[received_at // _HOUR * _HOUR] += 1
        event: Event | None = None
        verdict: Verdict | None = None
        try:
            if size > MAX_EVENT_BYTES:
                raise Unusable("event_too_large")
            event, texts = self._normalise(item, origin, own, (line, index))
        except Unusable as error:
            verdict = Verdict("rejected", error.reason)
        else:
            if self._steps:
                verdict, texts = self._judged(event, texts)
            is_suppressed = verdict is not None and verdict.disposition == "suppressed"
            if event.consent is not None and not is_suppressed:
                out.consent.append(_statement(event))
            if verdict is None:
                out.events.append(_landed(event, texts))
        out.dispositions.append(_row(item, event, verdict, origin, received_at))

    def _judged(self, event: Event, texts: _Texts) -> tuple[Verdict | None, _Texts]:
        """What the steps say, and the JSON of what they leave."""
        before = _objects(event)
        for step in self._steps:
            verdict = step(event)
            if verdict is not None:
                return verdict, texts
        if all(map(is_, before, _objects(event))):
            return None, texts
        return None, _texts(event)

    def _normalise(
        self, item: Any, origin: Origin, own: int | None, place: tuple[int, int]
    ) -> tuple[Event, _Texts]:
        received_at = origin.received_at if own is None else own
        call = to_call(item)
        get = call.get
        violations = []
        kind = get("type") or "track"
        text = as_text(get("event"))
        if kind not in TYPES:
            violations.append("unknown_type")
            text = text or as_text(kind)
            kind = "track"
        if kind != "track":
            text = None
        elif text is None:
            violations.append("missing_event")
        group_id = as_text(get("groupId"))
        if kind == "group" and group_id is None:
            raise Unusable("group_id_missing")

        sent_at = instant(get("sentAt"))
        timestamp = instant(get("timestamp"))
        original = instant(get("originalTimestamp"))
        client = original if timestamp is None else timestamp
        if client is None and not (
            get("timestamp") is None and get("originalTimestamp") is None
        ):
            violations.append("timestamp_unreadable")
        # With an arrival time of its own the row has been through a collector, which
        # has corrected `timestamp` already.
        is_final = own is not None and timestamp is not None
        time = correct(client, sent_at, received_at, is_final=is_final)
        if time.is_future:
            violations.append("timestamp_in_future")

        name, properties, traits, context = _described(call, kind)
        event = Event(
            message_id="",
            scope=origin.scope,
            type=kind,
            # A name of signs alone (`!`, an emoji) has no other form.
            event=(snake_case(text) or text) if text else None,
            event_text=text,
            name=as_text(name),
            user_id=as_text(get("userId")),
            anonymous_id=as_text(get("anonymousId")),
            distinct_id=as_text(get("distinctId")),
            previous_id=as_text(get("previousId")),
            group_type=as_text(get("groupType")) or ("company" if group_id else None),
            group_id=group_id,
            timestamp=time.timestamp,
            original_timestamp=client if original is None else original,
            sent_at=sent_at,
            received_at=received_at,
            skew_ms=time.skew_ms,
            properties=properties,
            traits=traits,
            context=context,
            integrations=get("integrations"),
            consent=stated(context) if context else None,
            source=origin.source,
            path=origin.path,
            violations=violations,
            content_hash="",
            row_hash="",
        )
        event.identifiers = self._identifiers_of(event)
        if not event.identifiers:
            raise Unusable("missing_identity")
        texts = _texts(event)
        message_id = as_text(get("messageId"))
        _identify(event, texts, message_id, client, origin.seed, place)
        return event, texts


def _described(call: dict[str, Any], kind: str) -> tuple[Any, Any, Any, Any]:
    """Name, properties, traits and context, each where one kind of SDK has it."""
    get = call.get
    name, properties = get("name"), get("properties")
    traits, context = get("traits"), get("context")
    if kind == "page" or kind == "screen":
        category = get("category")  # rudder-node has it here alone
        if properties is None and category is not None:
            properties = {"category": category}
        elif type(properties) is dict:
            if name is None:
                name = properties.get("name")
            if category is not None and "category" not in properties:
                properties = {**properties, "category": category}
    channel = get("channel")
    if channel is not None and (context is None or type(context) is dict):
        context = {"channel": channel, **(context or {})}
    if kind == "identify" and traits is None and type(context) is dict:
        traits = context.get("traits")  # rudder-python and rudder-js
    return name, properties, traits, context


def _objects(event: Event) -> tuple[Any, Any, Any, Any]:
    return event.properties, event.traits, event.context, event.integrations


def _texts(event: Event) -> _Texts:
    properties, traits = event.properties, event.traits
    context, integrations = event.context, event.integrations
    return (
        None if properties is None else _encode_sorted(properties),
        None if traits is None else _encode_sorted(traits),
        None if context is None else _encode_sorted(context),
        None if integrations is None else _encode_sorted(integrations),
    )


def _identify(
    event: Event,
    texts: _Texts,
    message_id: str | None,
    client: int | None,
    seed: str | None,
    place: tuple[int, int],
) -> None:
    """Set what tells the event from others: its message id and the two hashes."""
    properties, traits, context, integrations = texts
    said = (
        *(event.type, event.event_text, event.name, event.group_type, event.group_id),
        *(event.user_id, event.anonymous_id, event.distinct_id, event.previous_id),
        client,
    )
    # Parts that hold no line break, as JSON is written here.
    content = b"\n".join((_encode(said), properties or b"", traits or b""))
    event.content_hash = blake2b(content, digest_size=16).hexdigest()
    if message_id is None:
        message_id = _made_id(event, client, seed, place)
    event.message_id = message_id
    times = (event.timestamp, event.original_timestamp, event.sent_at)
    rest = _encode((message_id, event.content_hash, *times))
    row = b"\n".join((rest, context or b"", integrations or b""))
    event.row_hash = blake2b(row, digest_size=16).hexdigest()


def _landed(event: Event, texts: _Texts) -> tuple[Any, ...]:
    """The event as a row; from here on what was JSON in it is text."""
    event.properties, event.traits, event.context, event.integrations = texts
    row: Any = event
    if row.consent is not None:
        row.consent = _encode_sorted(row.consent)
    row.violations = _encode(row.violations) if row.violations else None
    return astuple(event)


def _made_id(
    event: Event, client: int | None, seed: str | None, place: tuple[int, int]
) -> str:
    """A repeat of the same call gets the same id; two calls never share one."""
    if client is not None:
        return _hash(f"{event.scope}\0{event.content_hash}")
    if seed is None:
        return token_hex(16)
    line, index = place
    return _hash(f"{seed}:{line}:{index}" if index else f"{seed}:{line}")


def _hash(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()


def _statement(event: Event) -> ConsentStatement:
    return ConsentStatement(
        event.message_id,
        event.scope,
        event.source,
        event.timestamp,
        event.received_at,
        event.identifiers,
        event.consent or {},
    )


def _row(
    item: Any,
    event: Event | None,
    verdict: Verdict | None,
    origin: Origin,
    received_at: int,
) -> DispositionRow:
    source, path = origin.source, origin.path
    message_id: str | None
    name: str | None
    if verdict is None:
        assert event is not None
        message_id, name = event.message_id, event.event
        return DispositionRow(
            message_id, source, path, received_at, "admitted", None, name, None
        )
    if event is not None:
        message_id, name = event.message_id, event.event
    else:
        fields = item if type(item) is dict else {}
        given = (fields.get(k) for k in ("messageId", "message_id", "uuid", "id"))
        message_id = next((as_text(value) for value in given if value), None)
        text = as_text(fields.get("event"))
        name = (snake_case(text) or text) if text else None
    disposition, reason = verdict
    # A filtered event's payload is not stored: that is what its owner asked for.
    is_kept = disposition not in ("consent_filtered", "suppressed", "dropped")
    payload = _encode(item).decode() if is_kept else None
    return DispositionRow(
        message_id, source, path, received_at, disposition, reason, name, payload
    )
