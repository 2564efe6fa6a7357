"""Builds the canonical event of an item: names, ids, times, identifiers, hashes."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from secrets import token_hex
from typing import Any

import msgspec

from connectors.events.canonical import TYPES, Event, Identifier
from connectors.events.clock import correct, instant
from connectors.events.consent import stated
from connectors.events.identifiers import MOST_IDENTIFIERS, IdentifierRules
from connectors.events.naming import as_text, event_name
from connectors.events.policy import Policy
from connectors.events.shapes import Unusable, to_call

__all__ = [
    "EventBuilder",
    "Origin",
    "Texts",
    "event_of_call",
    "own_arrival",
    "texts_of",
]

_encode = msgspec.json.encode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode

Texts = tuple[bytes | None, ...]
"""The JSON of properties, traits, context and integrations, keys in order."""

_READ = frozenset(
    {
        *("messageId", "type", "event", "event_text", "name", "channel"),
        *("groupId", "groupType"),
        *("userId", "anonymousId", "distinctId", "previousId"),
        *("timestamp", "originalTimestamp", "sentAt", "receivedAt"),
        *("properties", "traits", "context", "integrations"),
    }
)
"""Fields of a call with a place in the canonical event; `category` has one in the
properties of a page or screen."""

_CREDENTIALS = frozenset(("writeKey", "write_key", "api_key"))
_COLUMNS = frozenset((*Event.__struct_fields__, "load_seq"))
_OWN_ROW = frozenset(("content_hash", "row_hash", "scope"))
"""Fields that identify an exported row of `raw.events`."""

_DEFAULT = Policy()


@dataclass(frozen=True, slots=True)
class Origin:
    """Where items come from; applies to every item of one load or request."""

    source: str
    scope: str
    channel: str
    segment: str  # the collector segment or file that carries them
    received_at: int  # microseconds since 1970, for items without their own
    # An import: the arrival in the row counts, and its times are not corrected by any
    # other.
    keeps_received_at: bool
    # Hash of a file. With the line number it makes the id of an event that has neither
    # an id nor a time repeatable; without it such an id is random.
    seed: str | None = None
    policy: Policy = _DEFAULT
    gpc: bool = False  # the request carried `Sec-GPC: 1`
    # A replay: when the items first arrived. Their times are corrected as of then;
    # `received_at` is the replay's.
    first_received_at: int | None = None
    # Makes the fingerprint of a request's sender; None: no event gets one.
    fingerprint: Callable[[], str] | None = None


class EventBuilder:
    """Builds events by one set of identifier rules, before any other rule."""

    def __init__(self, identifiers: IdentifierRules) -> None:
        self.identifiers_of = identifiers.of
        self.carried_by = identifiers.carried

    def counted(self, event: Event) -> list[Identifier]:
        """Return the event's identifiers up to the limit; flag an event with more."""
        identifiers = self.identifiers_of(event)
        if len(identifiers) > MOST_IDENTIFIERS:
            del identifiers[MOST_IDENTIFIERS:]
            if "too_many_identifiers" not in event.violations:
                event.violations = [*event.violations, "too_many_identifiers"]
        return identifiers

    def build(
        self,
        item: Any,
        origin: Origin,
        own: int | None,
        place: tuple[int, int],
        message_id: str | None = None,
    ) -> tuple[Event, Texts]:
        """Return the whole event, with times, identifiers and hashes."""
        call = to_call(item)
        get = call.get
        event = event_of_call(call, origin)
        received_at = origin.received_at if own is None else own
        sent_at = instant(get("sentAt"))
        timestamp = instant(get("timestamp"))
        original = instant(get("originalTimestamp"))
        client = original if timestamp is None else timestamp
        if client is None and not (
            get("timestamp") is None and get("originalTimestamp") is None
        ):
            event.violations.append("timestamp_unreadable")
        arrived = origin.first_received_at or received_at
        carried = _carried_arrival(item) if origin.keeps_received_at else None
        is_ahead = carried is not None and carried > arrived
        if is_ahead:
            event.violations.append("received_at_in_future")
        # An imported row with an arrival went through a collector, which has already
        # corrected `timestamp`. Without a plausible one there is nothing to correct
        # its times by: the instant of the import says nothing about the sender's clock.
        is_final = origin.keeps_received_at and (
            timestamp is not None or carried is None or is_ahead
        )
        time = correct(client, sent_at, arrived, is_final=is_final)
        if time.is_future:
            event.violations.append("timestamp_in_future")
        event.timestamp = time.timestamp
        event.original_timestamp = client if original is None else original
        event.sent_at = sent_at
        event.received_at = received_at
        event.skew_ms = time.skew_ms
        if origin.gpc:
            event.consent = {**(event.consent or {}), "advertising": False}
        event.identifiers = self.counted(event)
        texts = texts_of(event)
        message_id = message_id or as_text(get("messageId"))
        _identify(event, texts, message_id, client, origin.seed, place)
        return event, texts


def own_arrival(item: Any, origin: Origin) -> int | None:
    """Return the arrival an imported row carries, at the latest now."""
    if not origin.keeps_received_at or origin.first_received_at is not None:
        return None
    carried = _carried_arrival(item)
    return None if carried is None else min(carried, origin.received_at)


def _carried_arrival(item: Any) -> int | None:
    if type(item) is not dict:
        return None
    arrival = item.get("receivedAt")
    return instant(item.get("received_at") if arrival is None else arrival)


def event_of_call(call: dict[str, Any], origin: Origin) -> Event:
    """Return the event of a call, without times, identifiers and hashes.

    Raises:
        Unusable: a group call without a group.
    """
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
    name, properties, traits, context = _described(call, kind)
    return Event(
        message_id="",
        scope=origin.scope,
        type=kind,
        event=event_name(text) if text else None,
        event_text=text,
        name=as_text(name),
        user_id=as_text(get("userId")),
        anonymous_id=as_text(get("anonymousId")),
        distinct_id=as_text(get("distinctId")),
        previous_id=as_text(get("previousId")),
        group_type=as_text(get("groupType")) or ("company" if group_id else None),
        group_id=group_id,
        timestamp=origin.received_at,
        received_at=origin.received_at,
        properties=properties,
        traits=traits,
        context=context,
        integrations=get("integrations"),
        consent=stated(context) if context else None,
        source=origin.source,
        channel=origin.channel,
        violations=violations,
        content_hash="",
        row_hash="",
    )


def _described(call: dict[str, Any], kind: str) -> tuple[Any, Any, Any, Any]:
    """Return name, properties, traits and context, wherever an SDK puts them."""
    get = call.get
    name, properties = get("name"), get("properties")
    traits, context = get("traits"), get("context")
    if kind == "page" or kind == "screen":
        category = get("category")  # rudder-node sends it only here
        if properties is None and category is not None:
            properties = {"category": category}
        elif type(properties) is dict:
            if name is None:
                name = properties.get("name")
            if category is not None and "category" not in properties:
                properties = {**properties, "category": category}
    is_named = kind != "track" and get("event") is not None
    if is_named or not _READ.issuperset(call):
        context = _with_unknown(context, call, kind)
    channel = get("channel")
    if (
        channel is not None
        and (context is None or type(context) is dict)
        # In an exported row it is Loomline's channel, not the sender's.
        and not _OWN_ROW.issubset(call)
    ):
        context = {"channel": channel, **(context or {})}
    if kind == "identify" and traits is None and type(context) is dict:
        traits = context.get("traits")  # rudder-python and rudder-js
    return name, properties, traits, context


def _with_unknown(context: Any, call: dict[str, Any], kind: str) -> Any:
    """Return the context with the call's fields that have no column of their own."""
    unread = call.keys() - _READ - _CREDENTIALS
    if unread >= _OWN_ROW:
        unread -= _COLUMNS
    if kind == "page" or kind == "screen":
        properties = call.get("properties")
        placed = properties.get("category") if type(properties) is dict else None
        if properties is None or placed in (None, call.get("category")):
            unread.discard("category")
    elif kind != "track" and (as_text(call.get("event")) or "$")[:1] != "$":
        unread.add("event")
    unknown = {name: call[name] for name in sorted(unread) if call[name] is not None}
    if not unknown:
        return context
    if context is not None and type(context) is not dict:
        return {"unknown_fields": {**unknown, "context": context}}
    context = context or {}
    earlier = context.get("unknown_fields")
    if earlier is not None:
        earlier = earlier if type(earlier) is dict else {"unknown_fields": earlier}
        unknown = {**earlier, **unknown}
    return {**context, "unknown_fields": unknown}


def texts_of(event: Event) -> Texts:
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
    texts: Texts,
    message_id: str | None,
    client: int | None,
    seed: str | None,
    place: tuple[int, int],
) -> None:
    """Set the message id and the two hashes."""
    properties, traits, context, integrations = texts
    fields = (
        *(event.type, event.event_text, event.name, event.group_type, event.group_id),
        *(event.user_id, event.anonymous_id, event.distinct_id, event.previous_id),
        client,
    )
    # The encoder writes no line break, so the parts cannot run together.
    content = b"\n".join((_encode(fields), properties or b"", traits or b""))
    event.content_hash = blake2b(content, digest_size=16).hexdigest()
    if message_id is None:
        message_id = _derived_id(event, client, seed, place)
    event.message_id = message_id
    times = (event.timestamp, event.original_timestamp, event.sent_at)
    rest = _encode((message_id, event.content_hash, *times))
    row = b"\n".join((rest, context or b"", integrations or b""))
    event.row_hash = blake2b(row, digest_size=16).hexdigest()


def _derived_id(
    event: Event, client: int | None, seed: str | None, place: tuple[int, int]
) -> str:
    """Return the same id for a repeat of a call; two calls never share one."""
    if client is not None:
        return _hash(f"{event.scope}\0{event.content_hash}")
    if seed is None:
        return token_hex(16)
    line, index = place
    return _hash(f"{seed}:{line}:{index}" if index else f"{seed}:{line}")


def _hash(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()
