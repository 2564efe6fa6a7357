"""What a source's write key asks of its events."""

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
"""What becomes of an event that has no contract."""

Naming = Literal["normalise", "reject"]
"""Whether an event named against the convention is listed so, or refused."""

Convention = Literal["snake_case", "camelCase", "TitleCase"]
"""How names must be sent; whatever is asked, `event` is in snake_case."""

NoConsent = Literal["assume_true", "assume_false", "require"]
"""How an event without a consent statement is read: as if all categories were granted,
as if none were, or as an event that may not be kept at all."""


class Policy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The rules of one source; a file import and a key without options have these."""

    unknown_events: UnknownEvents = "allow"
    naming: Naming = "normalise"
    # None: no name is listed; with `reject`, snake_case.
    convention: Convention | None = None
    object_action: bool = False  # names are an object and what was done with it
    no_consent: NoConsent = "assume_true"
    # None: all. Types are the six of `canonical.TYPES`, events are names in snake_case.
    types: frozenset[str] | None = None
    events: frozenset[str] | None = None
    max_event_bytes: int = 1 << 20  # as JSON text
    # The category that permits fingerprints; None: no fingerprints.
    fingerprint: str | None = None
