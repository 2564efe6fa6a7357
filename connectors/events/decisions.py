"""The decision of admission about an item, and the rules it asks."""

from typing import Any, NamedTuple, Protocol

import msgspec

from connectors.events.canonical import Disposition, Event, Identifier
from connectors.events.policy import Policy

__all__ = ["AdmissionDecision", "NotAdmitted", "Rules", "Stated"]


class NotAdmitted(NamedTuple):
    """Why an event goes no further."""

    disposition: Disposition
    reason: str


class Rules(Protocol):
    """Contracts, transformations, consent and naming, as admission asks for them."""

    def concerns(
        self, policy: Policy, source: str, type: str, event_text: str | None
    ) -> int:
        """0 when `decide` has nothing to say of such events, whatever they hold."""

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
        """The version of the contract that a track event keeps; None: ask `decide`."""

    def decide(
        self,
        event: Event,
        policy: Policy,
        *,
        gpc: bool = False,
        applied: list[str] | None = None,
    ) -> NotAdmitted | None:
        """Say None to let the event pass, altered or not.

        Fields are set to new values; what the event came with is never changed itself.
        """


class Stated(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The consent statement of an event that is not kept itself."""

    stated_at: int  # microseconds since 1970, UTC
    identifiers: list[Identifier]
    categories: dict[str, bool]


class AdmissionDecision(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    """What admission decided about one item, for the builder of its rows.

    An item without a decision is admitted as it came.
    """

    disposition: Disposition = "admitted"
    reason: str | None = None
    message_id: str | None = None  # assigned here, or of an item that is not kept
    event: str | None = None  # name of an item that is not kept
    changed: dict[str, Any] = {}  # fields of the event as the rules left them
    contract_version: int | None = None
    violations: list[str] = []
    stated: Stated | None = None
    fingerprint: str | None = None  # assigned at admission to an item that is kept
    replay_of: str | None = None

    @property
    def is_kept(self) -> bool:
        """Whether the item itself is stored: what was filtered is not."""
        return self.disposition not in _WITHHELD


_WITHHELD = frozenset(("consent_filtered", "suppressed", "dropped", "rate_limited"))
