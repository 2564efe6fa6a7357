"""State of the last build: identity rules, last load, and evaluation times.

An incremental build cannot fix rows that were resolved by other rules. If a seed, model
or macro of the identity rules has changed, the next run rebuilds everything.
"""

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from connectors.home import Home
from connectors.ingest.inbox import has_waiting
from connectors.landing.manifest import Manifest
from orchestration.audiences import DAILY_HOUR, Audience, Refresh

__all__ = ["Built", "begin_build", "building", "built_from"]

OWN_STREAMS = {"acks", "runs"}
"""Streams that runs write; new files in them start no run."""

IDENTITY_SEEDS = ("blocked_identifiers.csv", "identifier_types.csv")
UNFINISHED = "unfinished "


class Built:
    """The state of the last builds, in `control.db`."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def remember(
        self,
        audiences: dict[str, Audience],
        only: tuple[str, ...] | None,
        at: datetime,
        newest: int,
    ) -> None:
        """Record a successful build of the audiences `only`, or of all for None.

        Read `newest` before the build: later loads are left for the next one.
        """
        self.write("loaded", str(newest))
        names = set(audiences if only is None else only)
        for refresh in {audience.refresh for audience in audiences.values()}:
            due = {a.name for a in audiences.values() if a.refresh == refresh}
            if due <= names:
                self.write(refresh, at.isoformat())

    def has_news(self) -> bool:
        """Return whether files wait in the inbox or landed since the last build."""
        return has_waiting(self._home) or self.newest() > int(self.read("loaded") or 0)

    def due(self, audiences: dict[str, Audience], at: datetime) -> tuple[str, ...]:
        """Return the audiences that are due; hourly and daily ones by the UTC clock."""
        is_due = {
            "continuous": True,
            "hourly": self._is_older("hourly", _hour(at)),
            "daily": self._is_older("daily", _last_daily(at)),
        }
        return tuple(
            name for name, audience in audiences.items() if is_due[audience.refresh]
        )

    def read(self, name: str) -> str | None:
        with self._control() as control:
            row = control.execute("select value from built where name = ?", (name,))
            value: tuple[str] | None = row.fetchone()
        return value[0] if value else None

    def write(self, name: str, value: str) -> None:
        with self._control() as control:
            control.execute("insert or replace into built values (?, ?)", (name, value))
            control.commit()

    def newest(self) -> int:
        """Return the last load, without the streams that runs write."""
        files = Manifest(self._home).files()
        return max(
            (f.load_seq for f in files if f.stream not in OWN_STREAMS), default=0
        )

    def _is_older(self, refresh: Refresh, start: datetime) -> bool:
        last = self.read(refresh)
        return last is None or datetime.fromisoformat(last) < start

    @contextmanager
    def _control(self) -> Iterator[sqlite3.Connection]:
        self._home.control.touch(mode=0o600)  # its outbox contains addresses
        control = sqlite3.connect(self._home.control, timeout=30)
        try:
            control.execute(
                "create table if not exists built (name text primary key, value text)"
            )
            yield control
        finally:
            control.close()


def built_from(home: Home) -> Path:
    """Return the path of dbt's manifest.json of the last complete build."""
    return home.path / "built" / "manifest.json"


@contextmanager
def building(project_path: Path, home: Home) -> Iterator[bool]:
    """Wrap a build; yield whether it must rebuild everything.

    That stays true until a build has succeeded.
    """
    yield begin_build(project_path, home)
    built = Built(home)
    # Not the current rules: a file may have been edited during the build.
    built.write("identity", str(built.read("identity")).removeprefix(UNFINISHED))


def begin_build(project_path: Path, home: Home) -> bool:
    """Record the identity rules before a build and return if rows of others exist.

    The record then stays unfinished, so that the next run rebuilds everything even if
    the rules are changed back.
    """
    built = Built(home)
    rules = _rules(project_path)
    recorded = built.read("identity")
    is_first = recorded is None and not home.warehouse.exists()
    must_rebuild = recorded != rules and not is_first
    built.write("identity", f"{UNFINISHED}{rules}" if must_rebuild else rules)
    return must_rebuild


def _rules(project_path: Path) -> str:
    files = [project_path / "seeds" / name for name in IDENTITY_SEEDS]
    files += sorted(
        file
        for folder in ("models/identity", "macros/identity")
        for file in (project_path / folder).rglob("*.sql")
        if file.stem != "identity_health"
    )
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def _last_daily(at: datetime) -> datetime:
    today = _hour(at).replace(hour=DAILY_HOUR)
    return today if today <= at else today - timedelta(days=1)


def _hour(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
