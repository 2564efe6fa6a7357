"""Builds the rows of a decision: events, dispositions, consent statements."""

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import astuple

from connectors.events.canonical import (
    ConsentStatement,
    Disposition,
    Event,
    Identifier,
)
from connectors.events.decisions import AdmissionDecision
from connectors.events.event_builder import (
    EventBuilder,
    Origin,
    Texts,
    own_arrival,
    texts_of,
)
from connectors.events.identifiers import MOST_IDENTIFIERS
from connectors.events.naming import as_text, event_name
from connectors.events.shapes import Unusable, to_call

__all__ = ["Admitted", "DispositionRow", "RowBuilder", "sent_id"]

_HOUR = 3600 * 1_000_000
_encode = msgspec.json.encode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode


class DispositionRow(NamedTuple):
    """One item's disposition; `payload` is set for rejected and quarantined items."""

    message_id: str | None
    source: str
    channel: str
    received_at: int
    disposition: Disposition
    reason: str | None
    event: str | None
    payload: str | None
    replay_of: str | None = None


@dataclass(slots=True)
class Admitted:
    """The rows of one load's items."""

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


class RowBuilder:
    """Builds the rows of items that admission has decided about."""

    def __init__(self, builder: EventBuilder) -> None:
        self._build = builder.build
        self._counted = builder.counted
        self._carried_by = builder.carried_by

    def build_rows(
        self,
        item: Any,
        decision: AdmissionDecision | None,
        origin: Origin,
        out: Admitted,
        *,
        line: int = 0,
        index: int = 0,
    ) -> None:
        """Build the rows of one item by its decision; count it as received once.

        `item` may be None if `decision` withholds it.
        """
        own = own_arrival(item, origin)
        received_at = origin.received_at if own is None else own
        _receive(out, origin, received_at)
        if decision is None or decision.disposition == "admitted":
            message_id = decision.message_id if decision else None
            event, texts = self._build(item, origin, own, (line, index), message_id)
            if event.consent is not None:
                out.consent.append(
                    _statement(event, self._carried_by(event)[:MOST_IDENTIFIERS])
                )
            if decision is not None:
                texts = self._apply(event, decision, texts)
            place = (origin.source, origin.channel, received_at)
            out.dispositions.append(
                DispositionRow(
                    event.message_id,
                    *place,
                    "admitted",
                    None,
                    event.event,
                    None,
                    decision.replay_of if decision else None,
                )
            )
            out.events.append(_landed(event, texts))
            return
        if decision.stated is not None:
            out.consent.append(
                ConsentStatement(
                    decision.message_id or "",
                    origin.scope,
                    origin.source,
                    decision.stated.stated_at,
                    received_at,
                    decision.stated.identifiers,
                    decision.stated.categories,
                )
            )
        message_id, name = decision.message_id, decision.event
        if message_id is None:
            message_id, name = sent_id(item), name or _sent_name(item)
        out.dispositions.append(
            DispositionRow(
                message_id,
                origin.source,
                origin.channel,
                received_at,
                decision.disposition,
                decision.reason,
                name,
                _payload(item, decision) if decision.is_kept else None,
                decision.replay_of,
            )
        )

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
        """Count undecodable bytes as one rejected item, and keep them."""
        if line:
            reason = f"{origin.segment}:{line}: {reason}"
        text = data.decode("utf-8", "backslashreplace")
        _receive(out, origin, origin.received_at)
        place = (origin.source, origin.channel, origin.received_at)
        out.dispositions.append(
            DispositionRow(None, *place, "rejected", reason, None, text, replay_of)
        )

    def _apply(self, event: Event, decision: AdmissionDecision, texts: Texts) -> Texts:
        """Apply the rules' changes to the event; its ids and hashes stay."""
        event.contract_version = decision.contract_version
        event.violations = event.violations + decision.violations
        if not decision.changed and decision.fingerprint is None:
            return texts
        for name, value in decision.changed.items():
            setattr(event, name, value)
        if decision.fingerprint is not None:
            event.context = _stamped(event.context, decision.fingerprint)
        event.identifiers = self._counted(event)
        return texts_of(event)


def sent_id(item: Any) -> str | None:
    """Return the id an item came with, under any of its names."""
    fields = item if type(item) is dict else {}
    values = (fields.get(k) for k in ("messageId", "message_id", "uuid", "id"))
    message_id = next((as_text(value) for value in values if value), None)
    if message_id is None:
        with suppress(Unusable):
            message_id = as_text(to_call(item).get("messageId"))
    return message_id


def _stamped(context: Any, fingerprint: str) -> dict[str, Any]:
    known = context if type(context) is dict else {}
    sent = known.get("fingerprint")
    if sent is not None:  # not an identifier
        unknown = known.get("unknown_fields")
        unknown = unknown if type(unknown) is dict else {}
        known = {**known, "unknown_fields": {**unknown, "fingerprint": sent}}
    return {**known, "fingerprint": fingerprint}


def _payload(item: Any, decision: AdmissionDecision) -> str:
    """Return a stored item's JSON, with the fingerprint a replay identifies it by."""
    if decision.fingerprint is not None:
        context = _stamped(item.get("context"), decision.fingerprint)
        item = {**item, "context": context}
    return _encode(item).decode()


def _sent_name(item: Any) -> str | None:
    text = as_text(item.get("event")) if type(item) is dict else None
    return event_name(text) if text else None


def _receive(out: Admitted, origin: Origin, received_at: int) -> None:
    out.received[origin.segment, origin.source, received_at // _HOUR * _HOUR] += 1


def _landed(event: Event, texts: Texts) -> tuple[Any, ...]:
    """Return the event as a row; its JSON values become text."""
    event.properties, event.traits, event.context, event.integrations = texts
    row: Any = event
    if row.consent is not None:
        row.consent = _encode_sorted(row.consent)
    row.violations = _encode(row.violations) if row.violations else None
    return astuple(event)


def _statement(event: Event, speaker: list[Identifier]) -> ConsentStatement:
    """A consent statement counts even if its event belongs to no profile."""
    return ConsentStatement(
        event.message_id,
        event.scope,
        event.source,
        event.timestamp,
        event.received_at,
        speaker,
        event.consent or {},
    )
