"""A home folder and the models on it: import, build, look."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from connectors.home import Home
from connectors.ingest.importing import Imported, import_units
from connectors.sources.files import units
from orchestration.pipeline.dbt_runner import Models

__all__ = ["AT", "IDENTITY", "LISTED", "MakeWarehouse", "Warehouse", "differences"]

AT = datetime(2026, 5, 2, tzinfo=UTC)
IDENTITY = "+identity_edges +identity_nodes +identity_conflicts"
LISTED = {
    table: f"from {table}"
    for table in (
        "staging.events",
        "identity.identity_edges",
        "identity.identity_nodes",
        "identity.identity_conflicts",
        "profiles.profiles",
        "profiles.profile_traits",
        "profiles.profile_events",
        "profiles.groups",
        "profiles.group_members",
        "profiles.consent",
        "destinations.sync_members",
    )
} | {
    "audiences.audience_members, current": """
        select audience, profile_id from audiences.audience_members
        where left_at is null
    """
}
"""What the same events give in any order: tables, and the query of their rows."""


@dataclass(slots=True)
class Warehouse:
    """One installation: import into it, build its models, look at its tables."""

    models: Models
    _count_files: int = 0
    _has_seeds: bool = False

    @property
    def home(self) -> Home:
        return self.models.project.home

    def land(self, calls: Iterable[Mapping[str, Any] | str], source: str) -> Imported:
        """Import the calls, as one file; text is taken as a line of its own."""
        self._count_files += 1
        file = self.home.path / "given" / f"{self._count_files:03}.ndjson"
        file.parent.mkdir(exist_ok=True)
        lines = (call if type(call) is str else json.dumps(call) for call in calls)
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        path = self.models.project.path
        return import_units(self.home, path, units([file]), source, workers=1)

    def build(
        self,
        *,
        at: datetime = AT,
        select: str | None = None,
        full_refresh: bool = False,
    ) -> None:
        # dbt and the destinations' files read the home from the environment.
        os.environ["LOOMLINE_HOME"] = str(self.home.path)
        if not self._has_seeds:
            self.models.run("seed", at=at)
            self._has_seeds = True
        # Without data tests: what the models give is looked at here.
        self.models.run("run", at=at, select=select, full_refresh=full_refresh)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.home.warehouse), read_only=True) as engine:
            return engine.sql(query).fetchall()

    def count(self, relation: str) -> int:
        return int(self.rows(f"select count(*) from {relation}")[0][0])

    def snapshot(self) -> Path:
        """The listed tables as they are now, as tables of a file of their own."""
        number = len(list(self.home.path.glob("snapshot-*.duckdb")))
        path = self.home.path / f"snapshot-{number}.duckdb"
        with duckdb.connect(str(self.home.warehouse)) as engine:
            engine.execute(f"attach '{path}' as snapshot")
            for name, query in LISTED.items():
                engine.execute(f'create table snapshot."{name}" as {query}')
        return path


MakeWarehouse = Callable[[], Warehouse]


def differences(left: Path, right: Path) -> list[str]:
    """Rows that only one of two snapshots has: a count and a few of them, as text."""
    found = []
    with duckdb.connect() as engine:
        engine.execute(f"attach '{left}' as a (read_only)")
        engine.execute(f"attach '{right}' as b (read_only)")
        for name in LISTED:
            for one, other in (("a", "b"), ("b", "a")):
                rows = engine.sql(
                    f'from {one}."{name}" except all from {other}."{name}" order by all'
                ).fetchall()
                if rows:
                    which = "first" if one == "a" else "second"
                    found.append(f"{name}: {len(rows)} only in the {which}")
                    found += [f"    {row}" for row in rows[:3]]
    return found
