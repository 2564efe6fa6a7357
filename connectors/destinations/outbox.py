"""Delivery that survives a crash: a batch is stored before it is sent.

    row `sending` → push → acknowledgement → row `done`

If the process dies in between, the row stays `sending`; the next run sends it again
under the same key before anything new. Acknowledgements may therefore repeat; the
batch's key identifies repeats.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from connectors.destinations.protocol import Batch, Destination, Receipt, Refusal
from connectors.errors import Permanent, Retryable, Throttled

__all__ = ["FIRST_WAIT_S", "LONGEST_WAIT_S", "Outbox", "Outcome", "deliver"]

# Standard Webhooks' example schedule starts with 5 s; the official Google client
# caps at 60 s (both read 2026-11-21). A longer Retry-After is left to a later run.
FIRST_WAIT_S = 5.0
LONGEST_WAIT_S = 60.0

SCHEMA = """
create table if not exists outbox (
    key text primary key,
    destination text not null,
    audience text not null,
    payload blob,  -- the batch as JSON; null once done, it holds personal data
    state text not null check (state in ('sending', 'done')),
    attempts integer not null default 0,
    created_at text not null,
    last_error text,
    not_before text  -- what the destination asked for with Retry-After
)
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one batch, summed over its parts; counts are changes."""

    accepted: int = 0
    refused: tuple[Refusal, ...] = ()
    pending: int = 0  # stay in the outbox for the next run
    matched: int | None = None
    error: str | None = None  # why rows are pending

    def __add__(self, other: Outcome) -> Outcome:
        reported = [n for n in (self.matched, other.matched) if n is not None]
        return Outcome(
            self.accepted + other.accepted,
            self.refused + other.refused,
            self.pending + other.pending,
            sum(reported) if reported else None,
            self.error or other.error,
        )


class Outbox:
    """The table `outbox` of a SQLite file that other tables may share."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        self._db = sqlite3.connect(
            path, isolation_level=None, timeout=30, check_same_thread=False
        )
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = full")
        self._db.execute("pragma secure_delete = on")  # overwrites done payloads
        self._db.execute(SCHEMA)

    def enter(self, batch: Batch, at: datetime) -> Batch:
        """Store the batch and return the one to send.

        That is the pending batch if one has the same content, or a batch with a new
        key if the same content was delivered before.
        """
        with self._db:
            self._db.execute("begin immediate")
            for row in self._same_content(batch.key):
                if row[1] == "sending":
                    return msgspec.json.decode(row[2], type=Batch)
            return self._insert(batch, at.astimezone(UTC).isoformat())

    def pending(self, destination: str | None = None) -> list[Batch]:
        """Return the unconfirmed batches, oldest first."""
        rows = self._db.execute(
            "select payload from outbox where state = 'sending'"
            " and destination = coalesce(?, destination) order by created_at, rowid",
            (destination,),
        )
        return [msgspec.json.decode(payload, type=Batch) for (payload,) in rows]

    def paused_until(self, destination: str) -> datetime | None:
        """Return the time until which the destination asked not to be called."""
        (until,) = self._db.execute(
            "select max(not_before) from outbox"
            " where state = 'sending' and destination = ?",
            (destination,),
        ).fetchone()
        return None if until is None else datetime.fromisoformat(until)

    def attempted(self, key: str) -> None:
        self._db.execute(
            "update outbox set attempts = attempts + 1 where key = ?", (key,)
        )

    def failed(self, key: str, error: str, not_before: datetime | None = None) -> None:
        until = None if not_before is None else not_before.astimezone(UTC).isoformat()
        self._db.execute(
            "update outbox set last_error = ?, not_before = ? where key = ?",
            (error, until, key),
        )

    def split(self, batch: Batch) -> tuple[Batch, Batch]:
        """Replace a batch with its two halves, which keep its place in the queue."""
        middle = len(batch.changes) // 2
        with self._db:
            self._db.execute("begin immediate")
            (created_at,) = self._db.execute(
                "select created_at from outbox where key = ?", (batch.key,)
            ).fetchone()
            # The row stays, without payload: its key must not be reused.
            self._done(batch.key, "split in two")
            first, second = (
                self._insert(
                    Batch.of(batch.destination, batch.audience, batch.run_at, half),
                    created_at,
                )
                for half in (batch.changes[:middle], batch.changes[middle:])
            )
        return first, second

    def finish(self, key: str) -> None:
        self._done(key, None)

    def close(self) -> None:
        self._db.close()

    def _done(self, key: str, note: str | None) -> None:
        self._db.execute(
            "update outbox set state = 'done', payload = null, last_error = ?,"
            " not_before = null where key = ?",
            (note, key),
        )

    def _same_content(self, key: str) -> list[tuple[str, str, bytes]]:
        name, _, _ = key.partition("-")
        return self._db.execute(
            "select key, state, payload from outbox"
            " where key = ? or key glob ? || '-*'",
            (name, name),
        ).fetchall()

    def _insert(self, batch: Batch, created_at: str) -> Batch:
        name, _, _ = batch.key.partition("-")
        earlier = len(self._same_content(name))
        key = f"{name}-{earlier + 1}" if earlier else name
        batch = Batch(
            key, batch.destination, batch.audience, batch.run_at, batch.changes
        )
        self._db.execute(
            "insert into outbox"
            " (key, destination, audience, payload, state, created_at)"
            " values (?, ?, ?, ?, 'sending', ?)",
            (
                key,
                batch.destination,
                batch.audience,
                msgspec.json.encode(batch),
                created_at,
            ),
        )
        return batch


def deliver(
    batch: Batch,
    destination: Destination,
    outbox: Outbox,
    acknowledge: Callable[[Batch, Receipt], None],
    clock: Callable[[], datetime],
    sleep: Callable[[float], None],
    max_attempts: int = 3,
) -> Outcome:
    """Deliver one batch, new or from `Outbox.pending`, and return the outcome.

    `acknowledge` is called once per confirmed part, refusals included, before the
    part leaves the outbox; after a crash in between it is called again with the same
    `batch.key`. A batch refused because of its rows is halved until the bad row is
    alone. Unconfirmed changes stay pending, with the reason in `error`.
    Does not raise delivery errors; anything `acknowledge` raises leaves the row
    pending.
    """
    if max_attempts < 1:
        raise ValueError("max_attempts must be at least 1.")
    if not batch.changes:
        return Outcome()
    queue = [outbox.enter(batch, clock())]
    outcome = Outcome()
    paused_until = outbox.paused_until(batch.destination)
    if paused_until is not None and clock() < paused_until:
        return _left(queue, f"asked to wait until {paused_until:%Y-%m-%d %H:%M:%S} UTC")
    while queue:
        part = queue.pop()
        try:
            receipt = _push(part, destination, outbox, clock, sleep, max_attempts)
        except Retryable as error:
            return outcome + _left([part, *queue], str(error))
        except Permanent as error:
            if error.concerns == "destination":
                return outcome + _left([part, *queue], str(error))
            if len(part.changes) > 1:
                queue.extend(reversed(outbox.split(part)))
                continue
            refusal = Refusal(part.changes[0].profile_id, str(error))
            receipt = Receipt(0, (refusal,), None, "row")
        acknowledge(part, receipt)
        outbox.finish(part.key)
        outcome += Outcome(receipt.accepted, receipt.refused, 0, receipt.matched)
    return outcome


def _left(batches: list[Batch], error: str) -> Outcome:
    return Outcome(pending=sum(len(b.changes) for b in batches), error=error)


def _push(
    batch: Batch,
    destination: Destination,
    outbox: Outbox,
    clock: Callable[[], datetime],
    sleep: Callable[[float], None],
    max_attempts: int,
) -> Receipt:
    for attempt in itertools.count(1):
        outbox.attempted(batch.key)
        try:
            return destination.push(batch)
        except Permanent as error:
            outbox.failed(batch.key, str(error))
            raise
        except Retryable as error:
            wait_s = min(FIRST_WAIT_S * 2 ** (attempt - 1), LONGEST_WAIT_S)
            not_before = None
            if isinstance(error, Throttled):
                wait_s = error.retry_after_s
                not_before = clock() + timedelta(seconds=wait_s)
            outbox.failed(batch.key, str(error), not_before)
            if attempt >= max_attempts or wait_s > LONGEST_WAIT_S:
                raise
            sleep(wait_s)
    raise AssertionError  # unreachable, count() does not end
