"""Sends the changes of syncs to destinations and records the confirmed ones."""

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from itertools import islice

from connectors.destinations.outbox import Outbox, Outcome, deliver
from connectors.destinations.protocol import Batch, Change, Identifier, Receipt
from connectors.destinations.settings import (
    Settings,
    missing_secrets,
    open_destination,
)
from connectors.errors import ConfigError
from connectors.home import Home
from connectors.landing.manifest import Manifest
from connectors.landing.streams import rows_table
from connectors.landing.writer import land
from orchestration.pipeline.dbt_runner import open_when_free

__all__ = [
    "Push",
    "Recovered",
    "Sync",
    "beyond_limits",
    "deliver_changes",
    "deliver_pending",
    "read_syncs",
]

Recovered = dict[tuple[str, str], dict[str, str]]
"""Destination and audience → profile id → unconfirmed operation of an earlier run."""


@dataclass(slots=True)
class Sync:
    """One audience at one destination: counts of people, and the changes to send."""

    destination: str
    audience: str
    eligible: int
    sendable: int
    held: int  # people on the list that the destination has confirmed
    is_listed: bool = True  # False: the audience is no longer synced there
    changes: list[Change] = field(default_factory=list)

    def count(self, *operations: str) -> int:
        return sum(change.operation in operations for change in self.changes)


@dataclass(slots=True)
class Push:
    """Result of one sync in a run; counts of people."""

    sync: Sync
    unchanged: int
    added: int = 0
    removed: int = 0
    resent: int = 0
    refused: int = 0  # of those to add or resend
    pending: int = 0  # of those to add or resend
    matched: int | None = None
    held_back: str | None = None  # reason, if changes were not sent


def read_syncs(
    home: Home, say: Callable[[str], None] = lambda message: None
) -> list[Sync]:
    """Every configured sync with its changes, from the warehouse."""
    with open_when_free(home.warehouse, say, read_only=True) as warehouse:
        syncs = {
            (row[0], row[1]): Sync(*row)
            for row in warehouse.sql(
                "from destinations.int_sync_counts order by destination, audience"
            ).fetchall()
        }
        lists = warehouse.sql(
            "select destination, audience, count(distinct profile_id) "
            "from destinations.int_delivered group by all"
        ).fetchall()
        for destination, audience, count in lists:
            # An audience that is no longer synced has no settings; its list is emptied.
            unlisted = Sync(destination, audience, 0, 0, count, is_listed=False)
            syncs.setdefault((destination, audience), unlisted)
        rows = warehouse.sql(
            """
            select destination, audience, profile_id, operation, identifier_operation,
                identifier_type, identifier_sent
            from destinations.int_sync_changes
            order by all
            """
        ).fetchall()
    people: dict[tuple[str, str, str], tuple[str, list[Identifier], list[Identifier]]]
    people = defaultdict(lambda: ("", [], []))
    for destination, audience, profile_id, operation, done, type_, sent in rows:
        key = (destination, audience, profile_id)
        _, add, remove = people[key]
        (add if done == "add" else remove).append(Identifier(type_, sent))
        people[key] = (operation, add, remove)
    for (destination, audience, profile_id), (operation, add, remove) in people.items():
        syncs[destination, audience].changes.append(
            Change(operation, profile_id, tuple(add), tuple(remove))  # type: ignore[arg-type]
        )
    return list(syncs.values())


def deliver_pending(home: Home, destinations: dict[str, Settings]) -> Recovered:
    """Resend the unconfirmed batches of earlier runs, before any new change."""
    recovered: Recovered = {}

    def confirmed(batch: Batch, receipt: Receipt) -> None:
        refused = {refusal.profile_id for refusal in receipt.refused}
        people = recovered.setdefault((batch.destination, batch.audience), {})
        for change in batch.changes:
            if change.profile_id not in refused:
                people[change.profile_id] = change.operation

    outbox = Outbox(home.control)
    try:
        for batch in outbox.pending():
            if batch.destination in destinations:
                _send(home, outbox, destinations, [batch], confirmed)
    finally:
        outbox.close()
    return recovered


def deliver_changes(
    home: Home,
    destinations: dict[str, Settings],
    syncs: Iterable[Sync],
    *,
    at: datetime,
    recovered: Recovered | None = None,
) -> list[Push]:
    """Send the changes of every sync and record the confirmed ones.

    `recovered` is the result of `deliver_pending` in this run, which counts here too.

    A destination with unconfirmed batches gets no new changes: its people stay pending
    until those batches are confirmed.

    Raises:
        ConfigError: environment variables are missing; names all, before any call.
    """
    syncs = [sync for sync in syncs if sync.destination in destinations]
    used = {sync.destination for sync in syncs if sync.changes}
    missing = missing_secrets({name: destinations[name] for name in used}, os.environ)
    if missing:
        variables = sorted({variable for _, _, variable in missing})
        raise ConfigError(
            f"Set {', '.join(variables)} for the destinations "
            f"{', '.join(sorted(used))}. Nothing was sent."
        )
    outbox = Outbox(home.control)
    try:
        pushes = [_push(home, outbox, destinations, sync, at) for sync in syncs]
    finally:
        outbox.close()
    for push in pushes:
        _count_recovered(push, recovered or {})
    _record(home, pushes, at)
    return pushes


def _count_recovered(push: Push, recovered: Recovered) -> None:
    """Count the people of resent batches as changed in this run, not as unchanged."""
    sync = push.sync
    changed = {change.profile_id for change in sync.changes}
    for profile_id, operation in recovered.get(
        (sync.destination, sync.audience), {}
    ).items():
        if operation == "remove":
            push.removed += 1
        elif profile_id not in changed:
            push.unchanged -= 1
            push.added += operation == "add"
            push.resent += operation == "resend"


def _push(
    home: Home,
    outbox: Outbox,
    destinations: dict[str, Settings],
    sync: Sync,
    at: datetime,
) -> Push:
    to_show = sync.count("add", "resend")
    push = Push(sync, unchanged=sync.sendable - to_show)
    if not sync.changes:
        return push
    push.held_back = beyond_limits(sync, destinations[sync.destination])
    if outbox.pending(sync.destination):
        push.held_back = "earlier batches are not confirmed yet"
    if push.held_back:
        push.pending = to_show
        return push
    batches = _batches(sync, destinations[sync.destination].batch_rows, at)

    def confirmed(batch: Batch, receipt: Receipt) -> None:
        refused = {refusal.profile_id for refusal in receipt.refused}
        for change in batch.changes:
            if change.profile_id in refused:
                push.refused += change.operation != "remove"
            elif change.operation == "add":
                push.added += 1
            elif change.operation == "remove":
                push.removed += 1
            else:
                push.resent += 1

    outcome = _send(home, outbox, destinations, batches, confirmed)
    push.pending = to_show - push.added - push.resent - push.refused
    push.matched = outcome.matched
    push.held_back = outcome.error
    return push


def beyond_limits(sync: Sync, settings: Settings) -> str | None:
    """Return why the limits block a sync; an empty list has no change ratio."""
    limits = settings.limits
    rows = len(sync.changes)
    if limits.max_change_rows is not None and rows > limits.max_change_rows:
        return f"{rows} changes, limits.max_change_rows is {limits.max_change_rows}"
    if (
        limits.min_rows is not None
        and sync.is_listed
        and sync.sendable < limits.min_rows
    ):
        return f"{sync.sendable} people, limits.min_rows is {limits.min_rows}"
    ratio = limits.max_change_ratio
    if ratio is not None and sync.held and rows > ratio * sync.held:
        return f"{rows} changes of {sync.held}, limits.max_change_ratio is {ratio}"
    return None


def _batches(sync: Sync, batch_rows: int, at: datetime) -> list[Batch]:
    changes = iter(sync.changes)
    parts = iter(lambda: list(islice(changes, batch_rows)), [])
    return [Batch.of(sync.destination, sync.audience, at, part) for part in parts]


def _send(
    home: Home,
    outbox: Outbox,
    destinations: dict[str, Settings],
    batches: list[Batch],
    confirmed: Callable[[Batch, Receipt], None],
) -> Outcome:
    name = batches[0].destination
    destination = open_destination(name, destinations[name], os.environ)

    def acknowledge(batch: Batch, receipt: Receipt) -> None:
        rows = list(_ack_rows(batch, receipt))
        if rows:
            # The same for every retry of this batch and for no other batch, even if
            # control.db was lost and its keys started over.
            name = f"ack-{batch.key}-{batch.run_at:%Y%m%dT%H%M%S%f}"
            land(home, name, {"acks": rows_table("acks", rows)})
        confirmed(batch, receipt)

    outcome = Outcome()
    try:
        for batch in batches:
            outcome += deliver(
                batch, destination, outbox, acknowledge, _clock, time.sleep
            )
            if outcome.pending:
                break  # the next run sends the rest
    finally:
        destination.close()
    return outcome


def _ack_rows(batch: Batch, receipt: Receipt) -> Iterator[tuple[object, ...]]:
    """Yield one row per confirmed identifier, in the column order of the stream."""
    refused = {refusal.profile_id for refusal in receipt.refused}
    acked_at = _clock().replace(tzinfo=None)
    for change in batch.changes:
        if change.profile_id in refused:
            continue
        for operation, identifiers in (("add", change.add), ("remove", change.remove)):
            for identifier in identifiers:
                text = f"{identifier.type}:{identifier.value}"
                yield (
                    acked_at,
                    batch.run_at.replace(tzinfo=None),
                    batch.destination,
                    batch.audience,
                    batch.key,
                    operation,
                    change.operation,
                    change.profile_id,
                    identifier.type,
                    sha256(text.encode()).hexdigest(),
                    identifier.value,
                    receipt.level,
                )


def _record(home: Home, pushes: list[Push], at: datetime) -> None:
    """Append the counts of the run, even if nothing changed."""
    rows = []
    for push in pushes:
        sync = push.sync
        invalid = sync.eligible - sync.sendable
        rows.append(
            (
                at.replace(tzinfo=None),
                sync.destination,
                sync.audience,
                sync.eligible,
                sync.sendable,
                push.unchanged,
                push.added,
                push.removed,
                push.resent,
                invalid,
                push.refused,
                push.pending,
                push.matched,
            )
        )
    if rows:
        sequence = len(Manifest(home).files())
        name = f"run-{at:%Y%m%dT%H%M%S%f}-{sequence}-{os.getpid()}"
        land(home, name, {"runs": rows_table("runs", rows)})


def _clock() -> datetime:
    return datetime.now(UTC)
