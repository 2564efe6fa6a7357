"""The door: every item of every path becomes exactly one disposition here.

decode → normalise → suppression → consent → transformations before the contract →
contract → transformations → disposition. Pure: nothing is read or written.

It has two halves. `judge` decides, and is all that a waiting client waits for; `keep`
writes the rows that follow from the decision, for a collector's events later and in
another process. Files go through both at once.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from operator import attrgetter, is_
from secrets import token_hex
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import astuple

from connectors.events.canonical import (
    TYPES,
    ConsentStatement,
    Disposition,
    Event,
    Identifier,
)
from connectors.events.clock import correct, instant
from connectors.events.consent import stated
from connectors.events.decisions import Note, Rules, Stated, Verdict
from connectors.events.decode import Undecodable, decode_item
from connectors.events.fingerprint import wanted
from connectors.events.identifiers import (
    MOST_IDENTIFIERS,
    PERSONLESS,
    RULE_VERSION,
    IdentifierRules,
)
from connectors.events.naming import as_text, event_name
from connectors.events.placeholders import Placeholders
from connectors.events.policy import Policy
from connectors.events.shapes import Unusable, items, to_call

__all__ = [
    "ENVELOPE",
    "Admission",
    "Admitted",
    "DispositionRow",
    "Origin",
    "given_id",
]

ENVELOPE = 17 / 16
"""An event may exceed its limit by what it is wrapped in: ids, times, context."""

_HOUR = 3600 * 1_000_000
_encode = msgspec.json.encode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode

_Texts = tuple[bytes | None, ...]
"""The JSON of properties, traits, context and integrations, keys in order."""

_CHANGEABLE = (
    "event",
    "name",
    "user_id",
    "anonymous_id",
    "group_id",
    "properties",
    "traits",
    "context",
    "integrations",
)
"""Fields that rules may set."""

_changeable = attrgetter(*_CHANGEABLE)

_READ = frozenset(
    {
        *("messageId", "type", "event", "event_text", "name", "channel"),
        *("groupId", "groupType"),
        *("userId", "anonymousId", "distinctId", "previousId"),
        *("timestamp", "originalTimestamp", "sentAt", "receivedAt"),
        *("properties", "traits", "context", "integrations"),
    }
)
"""Fields of a call that the canonical event has a place for; `category` has one in the
properties of a page or screen."""

_CREDENTIALS = frozenset(("writeKey", "write_key", "api_key"))
_COLUMNS = frozenset((*Event.__struct_fields__, "load_seq"))
_OWN_ROW = frozenset(("content_hash", "row_hash", "scope"))
"""What tells a row of `raw.events` that comes back."""

_DEFAULT = Policy()
_NAMELESS = ("identify", "page", "screen", "alias")
_NOTHING = Note()


@dataclass(frozen=True, slots=True)
class Origin:
    """Where items come from; holds for every item of one load or request."""

    source: str
    scope: str
    path: str
    segment: str  # the collector segment or file that carries them
    received_at: int  # microseconds since 1970, for items without their own
    # An import: an arrival the row carries counts, and its times are not corrected by
    # any other.
    keeps_received_at: bool
    # Makes, with the line, the id of an event that has neither an id nor a time of its
    # own repeatable (a file: its hash). Without one such an id is random.
    seed: str | None = None
    policy: Policy = _DEFAULT
    gpc: bool = False  # the request said `Sec-GPC: 1`
    # A replay: when the items first arrived. Their times are corrected as they were
    # then; `received_at` is the replay's.
    first_received_at: int | None = None
    # Makes the fingerprint of a request's sender. Without one no event gets any.
    fingerprint: Callable[[], str] | None = None


class DispositionRow(NamedTuple):
    """One item's disposition; `payload` is that of rejected and quarantined ones."""

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

    # (segment, source, hour in µs) → items
    received: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    events: list[tuple[Any, ...]] = field(default_factory=list)  # Event's fields, JSON
    # as text: rows of `raw.events`
    dispositions: list[DispositionRow] = field(default_factory=list)
    consent: list[ConsentStatement] = field(default_factory=list)

    def add(self, other: "Admitted") -> None:
        self.received.update(other.received)
        self.events += other.events
        self.dispositions += other.dispositions
        self.consent += other.consent


class _NoRules:
    def concerns(self, *about: Any) -> int:
        return 0

    def keeps(self, *about: Any, gpc: bool = False) -> int | None:
        """No contract."""

    def judge(self, event: Event, policy: Policy, **about: Any) -> None:
        """Nothing to say."""


class Admission:
    """Judges items by one set of rules, and makes the rows of what it judged.

    Without rules every event with an identity is admitted as it is.
    """

    def __init__(
        self,
        identifiers: IdentifierRules,
        rules: Rules | None = None,
        placeholders: Placeholders | None = None,
    ) -> None:
        rules = rules or _NoRules()
        self._identifiers_of = identifiers.of
        self._carried_by = identifiers.carried
        self._strong = identifiers.strong
        self._placeholders = placeholders or Placeholders()
        self._concerns = rules.concerns
        self._keeps = rules.keeps
        self._judge = rules.judge
        # Fields of a call of which any text is an identifier.
        self._first_id, self._second_id = (
            name if identifiers.of(_event({name: "x"}, _NOWHERE)) else ""
            for name in ("userId", "anonymousId")
        )

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
        is_large = len(data) > origin.policy.max_event_bytes
        if not is_large and type(value) is dict and "batch" not in value:
            self.admit(value, origin, out, line=line)  # by far the most
            return
        for index, item in enumerate(items(value)):
            size = len(_encode(item)) if is_large else 0
            self.admit(item, origin, out, line=line, index=index, size=size)

    def refuse(
        self,
        data: bytes,
        reason: str,
        origin: Origin,
        out: Admitted,
        *,
        line: int = 0,
        replay_of: str | None = None,
    ) -> None:
        """Count bytes that hold no item as one rejected item, and keep them."""
        if line:
            reason = f"{origin.segment}:{line}: {reason}"
        text = data.decode("utf-8", "backslashreplace")
        _receive(out, origin, origin.received_at)
        place = (origin.source, origin.path, origin.received_at)
        out.dispositions.append(
            DispositionRow(None, *place, "rejected", reason, None, text, replay_of)
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
        """Judge one decoded item, the `index`th of its line, and make its rows.

        `size` is its JSON text in bytes, if large.
        """
        note = self.judge(item, origin, line=line, index=index, size=size)
        self.keep(item, note, origin, out, line=line, index=index)

    def judge(
        self,
        item: Any,
        origin: Origin,
        *,
        line: int = 0,
        index: int = 0,
        size: int = 0,
        applied: list[str] | None = None,
    ) -> Note | None:
        """Decide about one decoded item, which is not changed; None: admitted as it is.

        `applied` collects the names of the transformations that altered it.
        """
        policy = origin.policy
        try:
            if size > policy.max_event_bytes * ENVELOPE:
                raise Unusable("event_too_large")
            call = to_call(item)
            get = call.get
            kind: Any = get("type")
            text: Any = get("event")
            message_id = get("messageId")
            is_plain = (
                (kind == "track" and _is_text(text))
                or kind in _NAMELESS
                or (kind == "group" and _is_text(get("groupId")))
            )
            has_identity = _is_text(get(self._first_id)) or _is_text(
                get(self._second_id)
            )
            is_named = _is_text(message_id) or origin.seed is not None
            if is_plain and has_identity and is_named:
                source = origin.source
                if not self._concerns(policy, source, kind, text) and (
                    origin.fingerprint is None
                    or (kind != "identify" and self._has_id(call))
                ):
                    return None  # by far the most
                if kind == "track":
                    about = get("properties"), get("context")
                    kept = self._keeps(policy, source, text, *about, gpc=origin.gpc)
                    if kept is not None:
                        return Note(contract_version=kept)
            event = _event(call, origin)
        except Unusable as error:
            return Note(disposition="rejected", reason=error.reason)
        make = origin.fingerprint
        if make is not None and not wanted(policy, event.consent, origin.gpc):
            make = None
        if not has_identity and make is None and not self._identifiers_of(event):
            return Note(disposition="rejected", reason="missing_identity")
        before = _changeable(event)
        listed = len(event.violations)
        verdict: Verdict | None = None
        if self._concerns(policy, origin.source, event.type, event.event_text):
            verdict = self._judge(event, policy, gpc=origin.gpc, applied=applied)
        after = _changeable(event)
        is_changed = not all(map(is_, before, after))
        # By what the rules have left: they may have taken away who it is.
        fingerprint = (
            make() if make is not None and self._wants_fingerprint(event) else None
        )
        if (
            verdict is None
            and fingerprint is None
            and (is_changed or make is not None)
            and not self._is_identified(event)
        ):
            verdict = Verdict("rejected", "missing_identity")
        if verdict is not None:
            note = self._noted(item, verdict, origin, (line, index))
            note.fingerprint = fingerprint if note.is_kept else None
            return note
        note = Note(
            contract_version=event.contract_version,
            violations=event.violations[listed:],
            fingerprint=fingerprint,
        )
        if is_changed:
            note.changed = {
                name: now
                for name, was, now in zip(_CHANGEABLE, before, after, strict=True)
                if now is not was
            }
        if not is_named and as_text(message_id) is None:
            own, _ = self._normalised(item, origin, None, (line, index))
            note.message_id = own.message_id
        return None if note == _NOTHING else note

    def _counted(self, event: Event) -> list[Identifier]:
        """The identifiers of the event that count; it lists where there are more."""
        identifiers = self._identifiers_of(event)
        if len(identifiers) > MOST_IDENTIFIERS:
            del identifiers[MOST_IDENTIFIERS:]
            if "too_many_identifiers" not in event.violations:
                event.violations = [*event.violations, "too_many_identifiers"]
        return identifiers

    def _is_identified(self, event: Event) -> bool:
        has_first = bool(self._first_id) and _is_text(event.user_id)
        has_second = bool(self._second_id) and _is_text(event.anonymous_id)
        return has_first or has_second or bool(self._identifiers_of(event))

    def _has_id(self, call: dict[str, Any]) -> bool:
        """Whether the user or anonymous id of a call is no placeholder."""
        return any(
            _is_text(call.get(name))
            and Identifier(kind, call[name], RULE_VERSION) not in self._placeholders
            for name, kind in (("userId", "user_id"), ("anonymousId", "anonymous_id"))
        )

    def _wants_fingerprint(self, event: Event) -> bool:
        """Return whether an event is to get the fingerprint of its sender.

        That is one without any identifier, and the identify of a person, to whom what
        was seen without identifiers belongs. Never beside a cookie alone: the cookies
        of people behind one address would be one person's.
        """
        if type(event.context or {}) is not dict or event.type == "group":
            return False
        carried = [
            identifier
            for identifier in self._identifiers_of(event)
            if identifier not in self._placeholders or identifier.kind == PERSONLESS
        ]
        if any(identifier.kind == "fingerprint" for identifier in carried):
            return False  # the one that was sent stays
        return not carried or (
            event.type == "identify"
            and any(identifier.kind in self._strong for identifier in carried)
        )

    def _noted(
        self, item: Any, verdict: Verdict, origin: Origin, place: tuple[int, int]
    ) -> Note:
        """What is remembered of an item that goes no further."""
        event, _ = self._normalised(item, origin, _own_arrival(item, origin), place)
        note = Note(
            disposition=verdict.disposition,
            reason=verdict.reason,
            message_id=event.message_id,
            event=event.event,
        )
        if event.consent is not None and verdict.disposition != "suppressed":
            speaker = self._carried_by(event)[:MOST_IDENTIFIERS]
            note.stated = Stated(event.timestamp, speaker, event.consent)
        return note

    def keep(
        self,
        item: Any,
        note: Note | None,
        origin: Origin,
        out: Admitted,
        *,
        line: int = 0,
        index: int = 0,
    ) -> None:
        """Make the rows of one item as it was decided; counted as received once.

        An item that `note` withholds may be None.
        """
        own = _own_arrival(item, origin)
        received_at = origin.received_at if own is None else own
        _receive(out, origin, received_at)
        if note is None or note.disposition == "admitted":
            message_id = note.message_id if note else None
            event, texts = self._normalised(
                item, origin, own, (line, index), message_id
            )
            if event.consent is not None:
                out.consent.append(
                    _statement(event, self._carried_by(event)[:MOST_IDENTIFIERS])
                )
            if note is not None:
                texts = self._noted_on(event, note, texts)
            place = (origin.source, origin.path, received_at)
            out.dispositions.append(
                DispositionRow(
                    event.message_id,
                    *place,
                    "admitted",
                    None,
                    event.event,
                    None,
                    note.replay_of if note else None,
                )
            )
            out.events.append(_landed(event, texts))
            return
        if note.stated is not None:
            out.consent.append(
                ConsentStatement(
                    note.message_id or "",
                    origin.scope,
                    origin.source,
                    note.stated.stated_at,
                    received_at,
                    note.stated.identifiers,
                    note.stated.categories,
                )
            )
        message_id, name = note.message_id, note.event
        if message_id is None:
            message_id, name = given_id(item), name or _given_name(item)
        out.dispositions.append(
            DispositionRow(
                message_id,
                origin.source,
                origin.path,
                received_at,
                note.disposition,
                note.reason,
                name,
                _payload(item, note) if note.is_kept else None,
                note.replay_of,
            )
        )

    def _noted_on(self, event: Event, note: Note, texts: _Texts) -> _Texts:
        """The event as the rules left it; what tells it from others stays."""
        event.contract_version = note.contract_version
        event.violations = event.violations + note.violations
        if not note.changed and note.fingerprint is None:
            return texts
        for name, value in note.changed.items():
            setattr(event, name, value)
        if note.fingerprint is not None:
            event.context = _stamped(event.context, note.fingerprint)
        event.identifiers = self._counted(event)
        return _texts(event)

    def _normalised(
        self,
        item: Any,
        origin: Origin,
        own: int | None,
        place: tuple[int, int],
        message_id: str | None = None,
    ) -> tuple[Event, _Texts]:
        """The whole event, with times, identifiers and hashes, before any rule."""
        call = to_call(item)
        get = call.get
        event = _event(call, origin)
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
        # An imported row that carries its arrival has been through a collector, which
        # has corrected `timestamp` already. One that carries none that can be right
        # has nothing to correct its times by: the import's instant is not its own.
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
        event.identifiers = self._counted(event)
        texts = _texts(event)
        message_id = message_id or as_text(get("messageId"))
        _identify(event, texts, message_id, client, origin.seed, place)
        return event, texts


_NOWHERE = Origin("", "", "", "", 0, keeps_received_at=False)


def given_id(item: Any) -> str | None:
    """The id an item came with, under any of its names."""
    fields = item if type(item) is dict else {}
    given = (fields.get(k) for k in ("messageId", "message_id", "uuid", "id"))
    found = next((as_text(value) for value in given if value), None)
    if found is None:
        with suppress(Unusable):
            found = as_text(to_call(item).get("messageId"))
    return found


def _stamped(context: Any, fingerprint: str) -> dict[str, Any]:
    known = context if type(context) is dict else {}
    sent = known.get("fingerprint")
    if sent is not None:  # it is no identifier
        unknown = known.get("unknown_fields")
        unknown = unknown if type(unknown) is dict else {}
        known = {**known, "unknown_fields": {**unknown, "fingerprint": sent}}
    return {**known, "fingerprint": fingerprint}


def _payload(item: Any, note: Note) -> str:
    """An item that is kept aside, with the fingerprint that a replay knows it by."""
    if note.fingerprint is not None:
        context = _stamped(item.get("context"), note.fingerprint)
        item = {**item, "context": context}
    return _encode(item).decode()


def _given_name(item: Any) -> str | None:
    text = as_text(item.get("event")) if type(item) is dict else None
    return event_name(text) if text else None


def _own_arrival(item: Any, origin: Origin) -> int | None:
    """When an imported row says it arrived, at the latest now."""
    if not origin.keeps_received_at or origin.first_received_at is not None:
        return None
    carried = _carried_arrival(item)
    return None if carried is None else min(carried, origin.received_at)


def _carried_arrival(item: Any) -> int | None:
    if type(item) is not dict:
        return None
    given = item.get("receivedAt")
    return instant(item.get("received_at") if given is None else given)


def _is_text(value: Any) -> bool:
    return type(value) is str and value != "" and not value.isspace()


def _receive(out: Admitted, origin: Origin, received_at: int) -> None:
    out.received[origin.segment, origin.source, received_at // _HOUR * _HOUR] += 1


def _event(call: dict[str, Any], origin: Origin) -> Event:
    """What a call says, without times, identifiers and hashes.

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
        path=origin.path,
        violations=violations,
        content_hash="",
        row_hash="",
    )


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
    is_named = kind != "track" and get("event") is not None
    if is_named or not _READ.issuperset(call):
        context = _with_unknown(context, call, kind)
    channel = get("channel")
    if channel is not None and (context is None or type(context) is dict):
        context = {"channel": channel, **(context or {})}
    if kind == "identify" and traits is None and type(context) is dict:
        traits = context.get("traits")  # rudder-python and rudder-js
    return name, properties, traits, context


def _with_unknown(context: Any, call: dict[str, Any], kind: str) -> Any:
    """The context with the fields of a call that have no place of their own."""
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


def _statement(event: Event, speaker: list[Identifier]) -> ConsentStatement:
    """A person's choice holds also where the event that tells of it has no profile."""
    return ConsentStatement(
        event.message_id,
        event.scope,
        event.source,
        event.timestamp,
        event.received_at,
        speaker,
        event.consent or {},
    )
