"""The decision of admission about an item, and the protocol of its rules."""

from typing import Any, NamedTuple, Protocol

import msgspec

from connectors.events.canonical import Disposition, Event, Identifier
from connectors.events.policy import Policy

__all__ = ["AdmissionDecision", "NotAdmitted", "Rules", "Stated"]


class NotAdmitted(NamedTuple):
    """An event's disposition and the reason for it."""

    disposition: Disposition
    reason: str


class Rules(Protocol):
    """Contracts, transformations, consent and naming, as admission calls them."""

    def concerns(
        self, policy: Policy, source: str, type: str, event_text: str | None
    ) -> int:
        """Return 0 if no rule can apply to such events, whatever their content."""

    def keeps(
        self,
        policy: Policy,
        source: str,
        event_text: str,
        properties: Any,
        context: Any,
        *,
        gpc: bool = False,
    ) -> int | None:
        """Return the contract version a track event satisfies; None: call `decide`."""

    def decide(
        self,
        event: Event,
        policy: Policy,
        *,
        gpc: bool = False,
        applied: list[str] | None = None,
    ) -> NotAdmitted | None:
        """Return None to let the event pass, altered or not.

        Fields are replaced with new values; the original values are never mutated.
        """


class Stated(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The consent statement of an event that is not stored itself."""

    stated_at: int  # microseconds since 1970, UTC
    identifiers: list[Identifier]
    categories: dict[str, bool]


class AdmissionDecision(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    """The decision about one item, from which its rows are built.

    An item without a decision is admitted as it came.
    """

    disposition: Disposition = "admitted"
    reason: str | None = None
    message_id: str | None = None  # assigned here, or of an item that is not stored
    event: str | None = None  # name of an item that is not stored
    changed: dict[str, Any] = {}  # fields that the rules changed
    contract_version: int | None = None
    violations: list[str] = []
    stated: Stated | None = None
    fingerprint: str | None = None  # assigned at admission to a stored item
    replay_of: str | None = None

    @property
    def is_kept(self) -> bool:
        """Whether the item itself is stored; a filtered one is not."""
        return self.disposition not in _WITHHELD


_WITHHELD = frozenset(("consent_filtered", "suppressed", "dropped", "rate_limited"))
