"""The rules of a source's write key."""

from typing import Literal

import msgspec

__all__ = [
    "Convention",
    "Naming",
    "NoConsent",
    "Policy",
    "UnknownEvents",
]

UnknownEvents = Literal["allow", "flag", "quarantine"]
"""The treatment of an event without a contract."""

Naming = Literal["normalise", "reject"]
"""Whether an event with an unconventional name is flagged or rejected."""

Convention = Literal["snake_case", "camelCase", "TitleCase"]
"""The spelling senders must use; `event` is always snake_case."""

NoConsent = Literal["assume_true", "assume_false", "require"]
"""How an event without a consent statement is treated: as if all categories were
granted, as if none were, or as an event that must be filtered out."""


class Policy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The rules of one source; the defaults apply to file imports."""

    unknown_events: UnknownEvents = "allow"
    naming: Naming = "normalise"
    # None: any spelling; with `reject`, snake_case.
    convention: Convention | None = None
    object_action: bool = False  # require names of an object and an action
    no_consent: NoConsent = "assume_true"
    # None: all. Types are the six of `canonical.TYPES`, events are names in snake_case.
    types: frozenset[str] | None = None
    events: frozenset[str] | None = None
    max_event_bytes: int = 1 << 20  # as JSON text
    # The category that permits fingerprints; None: no fingerprints.
    fingerprint: str | None = None
