"""What the door kept aside: finding it, and sending it through the rules of now."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq

from connectors.events.admission import Admission, Admitted, Origin
from connectors.events.decode import Undecodable, decode_item
from connectors.events.identifiers import IdentifierRules
from connectors.events.policy import Policy
from connectors.events.rulebook import Rulebook
from connectors.events.shapes import items
from connectors.events.verdicts import Note
from connectors.landing.home import Home
from connectors.landing.manifest import Manifest
from connectors.landing.streams import tables
from connectors.landing.writer import land

__all__ = ["Held", "held", "replay"]


@dataclass(frozen=True, slots=True)
class Held:
    """One rejected or quarantined item that nobody has replayed since."""

    id: str  # 16 hex digits
    disposition: str
    reason: str | None
    source: str
    event: str | None
    message_id: str | None
    received_at: datetime
    first_received_at: datetime  # before any replay
    path: str
    payload: str

    @property
    def name(self) -> str:
        """What `replay_of` calls it."""
        return self.message_id or self.id


def held(home: Home) -> list[Held]:
    """Everything kept aside, the latest first."""
    rows = [
        row | {"received_at": row["received_at"].replace(tzinfo=UTC)}
        for file in Manifest(home).files()
        if file.stream == "dispositions"
        for row in pq.read_table(home.raw / file.path).to_pylist()
        if row["payload"] is not None or row["replay_of"] is not None
    ]
    open_: dict[tuple[str, str], list[Held]] = {}
    began: dict[tuple[str, str], datetime] = {}
    alike: Counter[bytes] = Counter()
    for row in sorted(rows, key=lambda row: row["received_at"]):
        first = row["received_at"]
        if row["replay_of"] is not None:
            replayed = (row["source"], row["replay_of"])
            open_.pop(replayed, None)
            first = began.get(replayed, first)
        if row["payload"] is not None:
            one = _held(row, first, alike)
            began.setdefault((one.source, one.name), first)
            open_.setdefault((one.source, one.name), []).append(one)
    left = [one for group in open_.values() for one in group]
    return sorted(left, key=lambda one: one.received_at, reverse=True)


def _held(row: dict[str, Any], first: datetime, alike: Counter[bytes]) -> Held:
    """A row with an id of its own, though it may be like another to the letter."""
    fields = ("source", "path", "message_id", "reason", "payload", "replay_of")
    told = msgspec.json.encode([row["received_at"], *(row[name] for name in fields)])
    alike[told] += 1
    return Held(
        id=blake2b(b"%d %b" % (alike[told], told), digest_size=8).hexdigest(),
        disposition=row["disposition"],
        reason=row["reason"],
        source=row["source"],
        event=row["event"],
        message_id=row["message_id"],
        received_at=row["received_at"],
        first_received_at=first,
        path=row["path"],
        payload=row["payload"],
    )


def replay(
    home: Home,
    project: Path,
    chosen: Sequence[Held],
    policies: Callable[[str], Policy],
    *,
    clock: Callable[[], float] = time.time,
) -> Counter[str]:
    """Send items through the current rules; returns what became of them.

    All or nothing: one load holds every replay. Each is a new receipt whose disposition
    names what it replays; an item that is refused again is kept again. `policies` gives
    the policy of a source.
    """
    admission = Admission(IdentifierRules.load(project), Rulebook.load(project))
    now = int(clock() * 1e6)
    told = "\n".join([str(now), *(one.id for one in chosen)])
    name = f"replay-{blake2b(told.encode(), digest_size=16).hexdigest()}"
    out = Admitted()
    for one in chosen:
        origin = Origin(
            one.source,
            one.source,
            "replay",
            name,
            now,
            keeps_received_at=False,
            policy=policies(one.source),
            first_received_at=int(one.first_received_at.timestamp() * 1e6),
        )
        _admit(admission, one, origin, out)
    land(home, name, tables(out))
    return Counter(row.disposition for row in out.dispositions)


def _admit(admission: Admission, one: Held, origin: Origin, out: Admitted) -> None:
    data = one.payload.encode()
    try:
        value = decode_item(data)
    except Undecodable as error:
        admission.refuse(data, error.reason, origin, out, replay_of=one.name)
        return
    for item in items(value):
        note = admission.judge(item, origin, size=len(data)) or Note()
        note.replay_of = one.name
        admission.keep(item, note, origin, out)
