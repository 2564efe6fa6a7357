"""Lists quarantined and rejected items, and replays them under the current rules."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.compute as pc
import pyarrow.parquet as pq

from connectors.events.admission import Admission
from connectors.events.decisions import AdmissionDecision
from connectors.events.decode import Undecodable, decode_item
from connectors.events.event_builder import Origin
from connectors.events.identifiers import IdentifierRules
from connectors.events.policy import Policy
from connectors.events.rows import Admitted
from connectors.events.rulebook import Rulebook
from connectors.events.shapes import items
from connectors.home import Home
from connectors.ingest.importing import IMPORTED
from connectors.landing.manifest import Manifest
from connectors.landing.streams import tables
from connectors.landing.writer import land
from connectors.locks import exclusive

__all__ = ["Held", "held", "replay"]


@dataclass(frozen=True, slots=True)
class Held:
    """One rejected or quarantined item that has not been replayed."""

    id: str  # 16 hex digits
    disposition: str
    reason: str | None
    source: str
    event: str | None
    message_id: str | None
    received_at: datetime
    channel: str
    # Before any replay:
    first_received_at: datetime
    first_channel: str
    payload: str


def held(home: Home) -> list[Held]:
    """Return every quarantined and rejected item, latest first."""
    is_about_it = pc.field("payload").is_valid() | pc.field("replay_of").is_valid()
    rows = [
        row | {"received_at": row["received_at"].replace(tzinfo=UTC)}
        for file in Manifest(home).files()
        if file.stream == "dispositions"
        for row in pq.read_table(home.raw / file.path, filters=is_about_it).to_pylist()
    ]
    left: dict[str, Held] = {}
    ids: dict[tuple[str, str], list[str]] = {}  # by what a replay may call them
    alike: Counter[bytes] = Counter()
    for row in sorted(rows, key=lambda row: row["received_at"]):
        first = row["received_at"], row["channel"]
        if row["replay_of"] is not None:
            called_so = ids.get((row["source"], row["replay_of"]), ())
            replayed = next((id_ for id_ in called_so if id_ in left), None)
            if replayed is not None:
                previous = left.pop(replayed)
                first = previous.first_received_at, previous.first_channel
        if row["payload"] is not None:
            one = _held(row, first, alike)
            left[one.id] = one
            for name in filter(None, (one.id, one.message_id)):
                ids.setdefault((one.source, name), []).append(one.id)
    return sorted(left.values(), key=lambda one: one.received_at, reverse=True)


def _held(
    row: dict[str, Any], first: tuple[datetime, str], alike: Counter[bytes]
) -> Held:
    """Give a row its own id, even if another row is identical."""
    fields = ("source", "channel", "message_id", "reason", "payload", "replay_of")
    content = msgspec.json.encode([row["received_at"], *(row[name] for name in fields)])
    alike[content] += 1
    return Held(
        id=blake2b(b"%d %b" % (alike[content], content), digest_size=8).hexdigest(),
        disposition=row["disposition"],
        reason=row["reason"],
        source=row["source"],
        event=row["event"],
        message_id=row["message_id"],
        received_at=row["received_at"],
        channel=row["channel"],
        first_received_at=first[0],
        first_channel=first[1],
        payload=row["payload"],
    )


def replay(
    home: Home,
    project: Path,
    choose: Callable[[list[Held]], Sequence[Held]],
    keys: Callable[[str], tuple[str, Policy]],
    *,
    clock: Callable[[], float] = time.time,
) -> tuple[int, Counter[str]]:
    """Send items through the current rules; return the count and the dispositions.

    All or nothing: one load holds every replay, and two replays wait for each other.
    Each item counts as received again, with a disposition whose `replay_of` names what
    it replays: the message id, or the item's own id if others share that. An item that
    is refused again is stored again. `choose` selects among all stored items; `keys`
    returns the scope and policy of a source.
    """
    admission = Admission(IdentifierRules.load(project), Rulebook.load(project))
    with exclusive(home.raw / "replay.lock"):
        stored = held(home)
        chosen = choose(stored)
        messages = Counter((one.source, one.message_id) for one in stored)
        now = int(clock() * 1e6)
        content = "\n".join([str(now), *(one.id for one in chosen)])
        name = f"replay-{blake2b(content.encode(), digest_size=16).hexdigest()}"
        out = Admitted()
        for one in chosen:
            is_only = messages[one.source, one.message_id] == 1
            replay_of = one.message_id if one.message_id and is_only else one.id
            scope, policy = keys(one.source)
            origin = Origin(
                one.source,
                scope,
                "replay",
                name,
                now,
                keeps_received_at=one.first_channel == IMPORTED,
                policy=policy,
                first_received_at=round(one.first_received_at.timestamp() * 1e6),
            )
            _admit(admission, one, replay_of, origin, out)
        land(home, name, tables(out))
    return len(chosen), Counter(row.disposition for row in out.dispositions)


def _admit(
    admission: Admission, one: Held, replay_of: str, origin: Origin, out: Admitted
) -> None:
    data = one.payload.encode()
    try:
        value = decode_item(data)
    except Undecodable as error:
        admission.refuse(data, error.reason, origin, out, replay_of=replay_of)
        return
    for item in items(value):
        decision = admission.decide(item, origin, size=len(data)) or AdmissionDecision()
        decision.message_id = (
            one.message_id or decision.message_id
        )  # the id its sender knows
        decision.replay_of = replay_of
        admission.build_rows(item, decision, origin, out)
