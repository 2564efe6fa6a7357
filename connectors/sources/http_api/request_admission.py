"""Turns a request's decoded body into a line of a segment and the sender's receipts."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from connectors.events.admission import Admission
from connectors.events.decisions import AdmissionDecision, NotAdmitted
from connectors.events.event_builder import Origin
from connectors.events.naming import as_text
from connectors.events.rows import sent_id
from connectors.events.rulebook import Concern, Rulebook
from connectors.events.shapes import items
from connectors.landing.segments import Record
from connectors.sources.http_api.bodies import KEY_FIELDS
from connectors.sources.http_api.receipt import Receipt
from connectors.sources.write_keys import WriteKey

__all__ = ["Receipt", "RequestAdmission", "Taken", "shared_bytes", "unpacked"]

_encode = msgspec.json.encode
_ADMITTED = AdmissionDecision()


class Watched(NamedTuple):
    """One item for the live debugger."""

    item: Any
    decision: AdmissionDecision
    applied: list[str]


class Taken(NamedTuple):
    """One request's decided items; `line` must be on disk before the answer.

    The items themselves are not kept: requests waiting for the disk would hold more of
    them than fit into the processor's cache.
    """

    line: bytes
    source: str
    received_at: int
    size_bytes: int
    dispositions: dict[str, int]
    receipts: Sequence[Receipt]  # one per item, in order; if requested
    watched: Sequence[Watched]  # if there are watchers


class RequestAdmission:
    """Admits the events of one HTTP request."""

    def __init__(self, admission: Admission, rulebook: Rulebook) -> None:
        self._decide = admission.decide
        self._concerns = rulebook.concerns
        self._has_waits = any(step.waits for step in rulebook.transformations)
        self._latest = 0

    def may_wait(self, items: list[Any], key: WriteKey) -> bool:
        """Return whether deciding about these items may call another server."""
        return self._has_waits and any(
            self._concerns(
                key.policy,
                key.name,
                str(item.get("type") or "track"),
                as_text(item.get("event")),
            )
            == Concern.WAITS
            for item in items
            if type(item) is dict
        )

    def received_at(self) -> int:
        """Return the current time, never before the previous result.

        Follows a clock that is set back by more than a second.
        """
        now = time.time_ns() // 1000
        if self._latest - 1_000_000 < now < self._latest:
            now = self._latest
        self._latest = now
        return now

    def take(
        self,
        sent: list[Any],
        key: WriteKey,
        channel: str,
        *,
        size_bytes: int,
        is_watched: bool = False,
        wants_receipts: bool = False,
        gpc: bool = False,
        fingerprint: Callable[[], str] | None = None,
    ) -> Taken:
        """Decide about the items of a body of `size_bytes`.

        `fingerprint` makes the fingerprint of the request's sender.
        """
        record = Record(
            source=key.name,
            scope=key.scope,
            channel=channel,
            received_at=self.received_at(),
            items=sent,
            gpc=gpc,
        )
        origin = Origin(
            key.name,
            key.scope,
            channel,
            "",
            record.received_at,
            keeps_received_at=False,
            policy=key.policy,
            gpc=gpc,
            # The address of a webhook's sender is a server's, not a person's.
            fingerprint=(
                fingerprint if key.policy.fingerprint and channel != "webhook" else None
            ),
        )
        decide, decisions = self._decide, {}
        may_be_large = size_bytes > key.policy.max_event_bytes
        watched: list[Watched] = []
        for index, item in enumerate(sent):
            size = len(_encode(item)) if may_be_large else 0
            if is_watched:
                applied: list[str] = []
                decision = decide(item, origin, size=size, applied=applied)
                watched.append(Watched(item, decision or _ADMITTED, applied))
            else:
                decision = decide(item, origin, size=size)
            if decision is not None:
                decisions[index] = decision
        if decisions:
            record.decisions = decisions
            if any(not decision.is_kept for decision in decisions.values()):
                record.items = [
                    item if index not in decisions or decisions[index].is_kept else None
                    for index, item in enumerate(sent)
                ]
        if self._has_waits:
            record.received_at = self.received_at()  # deciding may have taken a while
        receipts = _receipts(sent, decisions) if wants_receipts else []
        return _taken(record, size_bytes, receipts, watched)

    def decide(
        self,
        sent: list[Any],
        outcome: NotAdmitted,
        key: WriteKey,
        channel: str,
        *,
        is_watched: bool = False,
    ) -> Taken:
        """Count items whose disposition does not depend on their content."""
        decisions = {
            index: AdmissionDecision(
                disposition=outcome.disposition,
                reason=outcome.reason,
                message_id=sent_id(item),
            )
            for index, item in enumerate(sent)
        }
        record = Record(
            source=key.name,
            scope=key.scope,
            channel=channel,
            received_at=self.received_at(),
            items=[
                item if decisions[i].is_kept else None for i, item in enumerate(sent)
            ],
            decisions=decisions,
        )
        watched = [Watched(item, decisions[i], []) for i, item in enumerate(sent)]
        receipts = _receipts(sent, decisions)
        return _taken(record, 0, receipts, watched if is_watched else ())

    def refuse(
        self,
        body: bytes,
        reason: str,
        key: WriteKey,
        channel: str,
        *,
        is_watched: bool = False,
    ) -> Taken:
        """Count an undecodable body as one rejected item, and store it."""
        record = Record(
            source=key.name,
            scope=key.scope,
            channel=channel,
            received_at=self.received_at(),
            refused=reason,
            body=body.decode("utf-8", "backslashreplace"),
        )
        seen = Watched(
            None, AdmissionDecision(disposition="rejected", reason=reason), []
        )
        return _taken(record, watched=[seen] if is_watched else ())


def _taken(
    record: Record,
    size_bytes: int = 0,
    receipts: Sequence[Receipt] = (),
    watched: Sequence[Watched] = (),
) -> Taken:
    decisions = record.decisions
    counts: dict[str, int] = {}
    if len(record.items) > len(decisions):
        counts["admitted"] = len(record.items) - len(decisions)
    for decision in decisions.values():
        counts[decision.disposition] = counts.get(decision.disposition, 0) + 1
    if record.refused is not None:
        counts["rejected"] = 1
    return Taken(
        _encode(record),
        record.source,
        record.received_at,
        size_bytes,
        counts,
        receipts,
        watched,
    )


def _receipts(
    sent: Sequence[Any], decisions: dict[int, AdmissionDecision]
) -> list[Receipt]:
    receipts = []
    for index, item in enumerate(sent):
        decision = decisions.get(index, _ADMITTED)
        # The item's own id first: PostHog's SDK looks for its `uuid`.
        id_ = decision.message_id or sent_id(item)
        receipts.append(Receipt(id_, decision.disposition, decision.reason))
    return receipts


def shared_bytes(value: Any) -> int:
    """Return the size of a batch's shared context once copied into each item."""
    if type(value) is not dict or type(value.get("batch")) is not list:
        return 0
    shared = [value.get(name) for name in ("context", "integrations")]
    return len(_encode(shared)) * len(value["batch"]) if any(shared) else 0


def unpacked(
    value: Any,
    type_: str | None,
    key_text: str,
    find: Callable[[str], WriteKey | None] = lambda text: None,
) -> list[Any]:
    """Return the items of a decoded body, without the write keys they repeat.

    An item without a type gets the type of its path.
    """
    sent = items(value)
    for index, item in enumerate(sent):
        if type(item) is not dict:
            continue
        for owner in (item, item.get("properties")):
            if type(owner) is not dict or owner.keys().isdisjoint(KEY_FIELDS):
                continue
            for name in KEY_FIELDS:
                text = owner.get(name)
                if type(text) is str and (text == key_text or find(text)):
                    del owner[name]
        if type_ is not None and item.get("type") is None:
            sent[index] = {**item, "type": type_}
    return sent
