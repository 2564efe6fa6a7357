"""The canonical event: every input shape becomes one, every model starts from it."""

from typing import Any, Literal, NamedTuple, get_args

import msgspec

__all__ = [
    "TYPES",
    "ConsentStatement",
    "Disposition",
    "Event",
    "EventType",
    "Identifier",
    "Path",
]

EventType = Literal["track", "identify", "page", "screen", "group", "alias"]
TYPES: tuple[str, ...] = get_args(EventType)

Path = Literal["http", "file", "webhook", "form", "replay"] | str  # or a source kind

Disposition = Literal[
    "admitted",
    "rejected",
    "quarantined",
    "consent_filtered",
    "dropped",
    "suppressed",
    "rate_limited",
]


class Identifier(NamedTuple):
    """One identifier an event carries, normalised at admission."""

    type: str
    value: str
    rule: int  # version of the normalisation rule that made `value`


class Event(msgspec.Struct, kw_only=True, gc=False):
    """One event; its fields are the columns of `raw.events`, in that order.

    Instants are microseconds since 1970 in UTC. `properties`, `traits`, `context` and
    `integrations` hold JSON values as sent.
    """

    message_id: str
    scope: str
    type: str
    event: str | None = None
    event_text: str | None = None
    name: str | None = None
    user_id: str | None = None
    anonymous_id: str | None = None
    distinct_id: str | None = None
    previous_id: str | None = None
    group_type: str | None = None
    group_id: str | None = None
    timestamp: int
    original_timestamp: int | None = None
    sent_at: int | None = None
    received_at: int
    skew_ms: int | None = None
    properties: Any = None
    traits: Any = None
    context: Any = None
    integrations: Any = None
    consent: dict[str, bool] | None = None
    identifiers: list[Identifier] = []
    source: str
    channel: str
    contract_version: int | None = None
    violations: list[str] = []
    content_hash: str
    row_hash: str


class ConsentStatement(NamedTuple):
    """One person's consent categories, as stated at one moment."""

    message_id: str
    scope: str
    source: str
    stated_at: int  # microseconds since 1970, UTC
    received_at: int
    identifiers: list[Identifier]
    categories: dict[str, bool]
