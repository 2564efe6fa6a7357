"""Admission: gives every item, from every channel, exactly one disposition.

decode → normalize → suppression → consent → transformations before the contract →
contract → transformations → disposition. Pure: no I/O.

It has two halves. The client waits only for `decide`; `build_rows` builds the rows that
follow from the decision. For the collector's events it runs later, in another process;
for files both run together.
"""

from operator import attrgetter, is_
from typing import Any

import msgspec

from connectors.events.canonical import Event, Identifier
from connectors.events.decisions import AdmissionDecision, NotAdmitted, Rules, Stated
from connectors.events.decode import Undecodable, decode_item
from connectors.events.event_builder import (
    EventBuilder,
    Origin,
    event_of_call,
    own_arrival,
)
from connectors.events.fingerprint import is_permitted
from connectors.events.identifiers import (
    MOST_IDENTIFIERS,
    PERSONLESS,
    RULE_VERSION,
    IdentifierRules,
)
from connectors.events.naming import as_text
from connectors.events.placeholders import Placeholders
from connectors.events.policy import Policy
from connectors.events.rows import Admitted, RowBuilder
from connectors.events.shapes import Unusable, items, to_call

__all__ = ["ENVELOPE", "Admission"]

ENVELOPE = 17 / 16
"""Allowance over an event's size limit for its envelope: ids, times, context."""

_encode = msgspec.json.encode

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

_NAMELESS = ("identify", "page", "screen", "alias")
_NOTHING = AdmissionDecision()
_NOWHERE = Origin("", "", "", "", 0, keeps_received_at=False)


class _NoRules:
    def concerns(self, *about: Any) -> int:
        return 0

    def keeps(self, *about: Any, gpc: bool = False) -> int | None:
        """Return None: there is no contract."""

    def decide(self, event: Event, policy: Policy, **about: Any) -> None:
        """Return None: every event passes."""


class Admission:
    """Decides about items by one set of rules, and builds their rows.

    Without rules, every event with an identity is admitted as it is.
    """

    def __init__(
        self,
        identifiers: IdentifierRules,
        rules: Rules | None = None,
        placeholders: Placeholders | None = None,
    ) -> None:
        rules = rules or _NoRules()
        self._builder = EventBuilder(identifiers)
        rows = RowBuilder(self._builder)
        self.build_rows, self.refuse = rows.build_rows, rows.refuse
        self._strong = identifiers.strong
        self._placeholders = placeholders or Placeholders()
        self._concerns = rules.concerns
        self._keeps = rules.keeps
        self._decide = rules.decide
        # The fields of a call in which any text is an identifier.
        self._first_id, self._second_id = (
            name if identifiers.of(event_of_call({name: "x"}, _NOWHERE)) else ""
            for name in ("userId", "anonymousId")
        )

    def admit_bytes(
        self, data: bytes, origin: Origin, out: Admitted, *, line: int = 0
    ) -> None:
        """Decode and admit one event, a list of events or a batch.

        `line` counts from 1 if the bytes are a line of a file.
        """
        try:
            value = decode_item(data)
        except Undecodable as error:
            self.refuse(data, error.reason, origin, out, line=line)
            return
        is_large = len(data) > origin.policy.max_event_bytes
        if not is_large and type(value) is dict and "batch" not in value:
            self.admit(value, origin, out, line=line)  # the common case
            return
        for index, item in enumerate(items(value)):
            size = len(_encode(item)) if is_large else 0
            self.admit(item, origin, out, line=line, index=index, size=size)

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
        """Decide about one decoded item, the `index`th of its line, and build its rows.

        `size` is its JSON text in bytes, if large.
        """
        decision = self.decide(item, origin, line=line, index=index, size=size)
        self.build_rows(item, decision, origin, out, line=line, index=index)

    def decide(
        self,
        item: Any,
        origin: Origin,
        *,
        line: int = 0,
        index: int = 0,
        size: int = 0,
        applied: list[str] | None = None,
    ) -> AdmissionDecision | None:
        """Decide about one decoded item without changing it; None admits it as it is.

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
                    return None  # the common case
                if kind == "track":
                    about = get("properties"), get("context")
                    kept = self._keeps(policy, source, text, *about, gpc=origin.gpc)
                    if kept is not None:
                        return AdmissionDecision(contract_version=kept)
            event = event_of_call(call, origin)
        except Unusable as error:
            return AdmissionDecision(disposition="rejected", reason=error.reason)
        make = origin.fingerprint
        if make is not None and not is_permitted(policy, event.consent, origin.gpc):
            make = None
        if (
            not has_identity
            and make is None
            and not self._builder.identifiers_of(event)
        ):
            return AdmissionDecision(disposition="rejected", reason="missing_identity")
        before = _changeable(event)
        listed = len(event.violations)
        outcome: NotAdmitted | None = None
        if self._concerns(policy, origin.source, event.type, event.event_text):
            outcome = self._decide(event, policy, gpc=origin.gpc, applied=applied)
        after = _changeable(event)
        is_changed = not all(map(is_, before, after))
        # Decided on the rules' result: they may have removed the identifiers.
        fingerprint = (
            make() if make is not None and self._wants_fingerprint(event) else None
        )
        if (
            outcome is None
            and fingerprint is None
            and (is_changed or make is not None)
            and not self._is_identified(event)
        ):
            outcome = NotAdmitted("rejected", "missing_identity")
        if outcome is not None:
            decision = self._decision_about(item, outcome, origin, (line, index))
            decision.fingerprint = fingerprint if decision.is_kept else None
            return decision
        decision = AdmissionDecision(
            contract_version=event.contract_version,
            violations=event.violations[listed:],
            fingerprint=fingerprint,
        )
        if is_changed:
            decision.changed = {
                name: now
                for name, was, now in zip(_CHANGEABLE, before, after, strict=True)
                if now is not was
            }
        if not is_named and as_text(message_id) is None:
            own, _ = self._builder.build(item, origin, None, (line, index))
            decision.message_id = own.message_id
        return None if decision == _NOTHING else decision

    def _is_identified(self, event: Event) -> bool:
        has_first = bool(self._first_id) and _is_text(event.user_id)
        has_second = bool(self._second_id) and _is_text(event.anonymous_id)
        return has_first or has_second or bool(self._builder.identifiers_of(event))

    def _has_id(self, call: dict[str, Any]) -> bool:
        """Return whether the call has a user or anonymous id that is no placeholder."""
        return any(
            _is_text(call.get(name))
            and Identifier(kind, call[name], RULE_VERSION) not in self._placeholders
            for name, kind in (("userId", "user_id"), ("anonymousId", "anonymous_id"))
        )

    def _wants_fingerprint(self, event: Event) -> bool:
        """Return whether an event gets the fingerprint of its sender.

        That is an event without any identifier, and the identify call of a person, who
        then owns the activity recorded without identifiers. Never beside a cookie
        alone: the cookies of everyone behind one address would become one person.
        """
        if type(event.context or {}) is not dict or event.type == "group":
            return False
        carried = [
            identifier
            for identifier in self._builder.identifiers_of(event)
            if identifier not in self._placeholders or identifier.type == PERSONLESS
        ]
        if any(identifier.type == "fingerprint" for identifier in carried):
            return False  # keep the fingerprint that was sent
        return not carried or (
            event.type == "identify"
            and any(identifier.type in self._strong for identifier in carried)
        )

    def _decision_about(
        self, item: Any, outcome: NotAdmitted, origin: Origin, place: tuple[int, int]
    ) -> AdmissionDecision:
        """Return the decision about an item that is not admitted."""
        event, _ = self._builder.build(item, origin, own_arrival(item, origin), place)
        decision = AdmissionDecision(
            disposition=outcome.disposition,
            reason=outcome.reason,
            message_id=event.message_id,
            event=event.event,
        )
        if event.consent is not None and outcome.disposition != "suppressed":
            speaker = self._builder.carried_by(event)[:MOST_IDENTIFIERS]
            decision.stated = Stated(event.timestamp, speaker, event.consent)
        return decision


def _is_text(value: Any) -> bool:
    return type(value) is str and value != "" and not value.isspace()
