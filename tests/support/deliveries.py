"""People, clocks and acknowledgements the tests of this folder share."""

import base64
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from connectors.destinations.protocol import Batch, Change, Identifier, Receipt

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
RUN_AT = datetime(2026, 3, 1, 9, tzinfo=UTC)


@dataclass
class Clock:
    """A clock that only sleeping moves."""

    now: datetime = RUN_AT
    slept_s: list[float] = field(default_factory=list)

    def __call__(self) -> datetime:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now += timedelta(seconds=seconds)


@dataclass
class Acknowledgements:
    """What a caller would append to the raw stream."""

    rows: list[tuple[Batch, Receipt]] = field(default_factory=list)

    def __call__(self, batch: Batch, receipt: Receipt) -> None:
        self.rows.append((batch, receipt))

    @property
    def accepted(self) -> list[str]:
        return [
            change.profile_id
            for batch, receipt in self.rows
            for change in batch.changes
            if change.profile_id not in {r.profile_id for r in receipt.refused}
        ]


def email(value: str) -> Identifier:
    return Identifier("email", value)


def addition(person: str) -> Change:
    return Change("add", person, add=(email(f"{person}@example.com"),))


def removal(person: str) -> Change:
    return Change("remove", person, remove=(email(f"{person}@example.com"),))


def batch_of(*changes: Change, audience: str = "buyers") -> Batch:
    return Batch.of("crm", audience, RUN_AT, changes)
