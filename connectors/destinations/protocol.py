"""What every destination is given and what it answers."""

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
    """What is to happen to one person in one audience.

    `add` holds what the destination shall know from now on, `remove` exactly what
    was sent to it once. A destination applies `add` first, so that a person whose
    e-mail changed is never absent in between.
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

    `key` names the content, not the run: whoever builds the same batch again after
    a crash gets the same key. Made by `Batch.of`. The outbox gives a batch whose
    content was already delivered earlier (added, removed, added again) a key of its
    own, so that a receiver which remembers keys does not take it for a repetition.
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
        """The batch with its changes in order of profile id, and their key.

        Raises:
            ValueError: a person is named twice or without id, or `run_at` has no
                time zone; nothing may be sent then.
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
    reason: str  # never holds an identifier


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a destination confirmed of one batch."""

    accepted: int  # changes, not identifiers
    refused: tuple[Refusal, ...]
    matched: int | None  # None when the destination does not report it
    level: Literal["row", "batch"]  # what the answer spoke about


class Destination(Protocol):
    @property
    def max_batch_rows(self) -> int:
        """Changes that may stand in one batch."""

    def push(self, batch: Batch) -> Receipt:
        """Send one batch once; sending it again with the same key is harmless.

        Raises:
            Throttled: wait `retry_after_s` seconds, then send the same batch again.
            Unavailable: not confirmed; send the same batch again.
            Rejected: refused as a whole; sending the same again cannot help.
        """

    def close(self) -> None: ...
