"""The protocol of destinations: their input and their answer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol, Self

import msgspec

__all__ = [
    "Batch",
    "Change",
    "Destination",
    "Identifier",
    "Operation",
    "Receipt",
    "Refusal",
]

Operation = Literal["add", "remove", "resend"]


@dataclass(frozen=True, slots=True, order=True)
class Identifier:
    type: str
    value: str = field(repr=False)  # a repr ends up in tracebacks and logs


@dataclass(frozen=True, slots=True)
class Change:
    """The change to one person in one audience.

    `add` holds the identifiers the destination should know from now on, `remove`
    exactly the ones it received earlier. A destination applies `add` first, so that a
    person whose email changed is never missing in between.
    """

    operation: Operation
    profile_id: str
    add: tuple[Identifier, ...] = ()
    remove: tuple[Identifier, ...] = ()

    @property
    def row_key(self) -> str:
        return self.profile_id


@dataclass(frozen=True, slots=True)
class Batch:
    """Changes of one audience for one destination; one per person, `run_at` in UTC.

    `key` identifies the content, not the run: building the same batch again after a
    crash gives the same key. Made by `Batch.of`. If a batch's content was already
    delivered earlier (added, removed, added again), the outbox gives it a new key, so
    that a receiver which remembers keys does not take it for a repeat.
    """

    key: str
    destination: str
    audience: str
    run_at: datetime
    changes: tuple[Change, ...]

    @classmethod
    def of(
        cls,
        destination: str,
        audience: str,
        run_at: datetime,
        changes: Iterable[Change],
    ) -> Self:
        """Sort the changes by profile id and derive the key.

        Raises:
            ValueError: a person appears twice or without id, or `run_at` has no time
                zone; nothing may be sent then.
        """
        ordered = tuple(sorted(changes, key=lambda change: change.row_key))
        persons = {change.row_key for change in ordered}
        if len(persons) < len(ordered) or "" in persons:
            raise ValueError(
                f"{destination}/{audience}: {len(ordered)} changes name"
                f" {len(persons - {''})} persons; each needs exactly one."
            )
        if run_at.tzinfo is None:
            raise ValueError(f"{destination}/{audience}: run_at has no time zone.")
        content = [destination, audience] + [
            [c.operation, c.profile_id, sorted(c.add), sorted(c.remove)]
            for c in ordered
        ]
        key = hashlib.sha256(msgspec.json.encode(content)).hexdigest()[:32]
        return cls(key, destination, audience, run_at, ordered)


@dataclass(frozen=True, slots=True)
class Refusal:
    profile_id: str
    reason: str  # never contains an identifier


@dataclass(frozen=True, slots=True)
class Receipt:
    """A destination's confirmation of one batch."""

    accepted: int  # changes, not identifiers
    refused: tuple[Refusal, ...]
    matched: int | None  # None if the destination does not report it
    level: Literal["row", "batch"]  # granularity of the confirmation


class Destination(Protocol):
    @property
    def max_batch_rows(self) -> int:
        """Largest number of changes in one batch."""

    def push(self, batch: Batch) -> Receipt:
        """Send one batch once; resending it under the same key is harmless.

        Raises:
            Throttled: wait `retry_after_s` seconds, then send the same batch again.
            Unavailable: not confirmed; send the same batch again.
            Rejected: refused as a whole; sending the same again cannot help.
        """

    def close(self) -> None: ...
