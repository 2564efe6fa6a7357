"""What the warehouse was last built from: rules, loads, and which audiences when.

Rows that were resolved by other rules cannot be mended by looking at what is new: when
a seed, a model or a macro that decides who is who has changed, all is built anew.
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
"""Written by runs themselves; nothing new to run for."""

IDENTITY_SEEDS = ("blocked_identifiers.csv", "identifier_types.csv")
UNFINISHED = "unfinished "


class Built:
    """What `control.db` remembers of the last builds."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def remember(
        self,
        audiences: dict[str, Audience],
        only: tuple[str, ...] | None,
        at: datetime,
        newest: int,
    ) -> None:
        """A build has ended well; `only` names the audiences it evaluated, None all.

        `newest` is from before it began: what landed meanwhile is for the next one.
        """
        self.write("loaded", str(newest))
        names = set(audiences if only is None else only)
        for refresh in {audience.refresh for audience in audiences.values()}:
            due = {a.name for a in audiences.values() if a.refresh == refresh}
            if due <= names:
                self.write(refresh, at.isoformat())

    def has_news(self) -> bool:
        """Whether anything has landed, or waits in the inbox, since the last build."""
        return has_waiting(self._home) or self.newest() > int(self.read("loaded") or 0)

    def due(self, audiences: dict[str, Audience], at: datetime) -> tuple[str, ...]:
        """Audiences whose time has come: hourly and daily ones by the clock, in UTC."""
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
            found: tuple[str] | None = row.fetchone()
        return found[0] if found else None

    def write(self, name: str, value: str) -> None:
        with self._control() as control:
            control.execute("insert or replace into built values (?, ?)", (name, value))
            control.commit()

    def newest(self) -> int:
        """The last load that is something to run for."""
        files = Manifest(self._home).files()
        return max(
            (f.load_seq for f in files if f.stream not in OWN_STREAMS), default=0
        )

    def _is_older(self, refresh: Refresh, start: datetime) -> bool:
        last = self.read(refresh)
        return last is None or datetime.fromisoformat(last) < start

    @contextmanager
    def _control(self) -> Iterator[sqlite3.Connection]:
        self._home.control.touch(mode=0o600)  # the outbox beside holds addresses
        control = sqlite3.connect(self._home.control, timeout=30)
        try:
            control.execute(
                "create table if not exists built (name text primary key, value text)"
            )
            yield control
        finally:
            control.close()


def built_from(home: Home) -> Path:
    """dbt's manifest.json of the last build that was a whole one."""
    return home.path / "built" / "manifest.json"


@contextmanager
def building(project_path: Path, home: Home) -> Iterator[bool]:
    """Around a build: whether it has to be a full one.

    The answer stays yes until a build has ended well.
    """
    yield begin_build(project_path, home)
    built = Built(home)
    # Not the rules of this moment: a file may have been edited meanwhile.
    built.write("identity", str(built.read("identity")).removeprefix(UNFINISHED))


def begin_build(project_path: Path, home: Home) -> bool:
    """Note the identity rules before models are built.

    Returns whether rows of other rules exist; the note then stays unfinished, so that
    the next run rebuilds everything, even when the rules are changed back.
    """
    built = Built(home)
    rules = _rules(project_path)
    former = built.read("identity")
    is_first = former is None and not home.warehouse.exists()
    must_rebuild = former != rules and not is_first
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
