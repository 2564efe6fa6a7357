"""SQLMesh builds the same tables as dbt from the same files, outside production."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

import duckdb
import pytest

from connectors.home import Home
from connectors.ingest.importing import import_units
from connectors.landing.prepare import prepare
from connectors.sources.files import units
from orchestration.demo.generator import AS_OF, generate
from orchestration.pipeline.dbt_runner import Models
from orchestration.pipeline.delivery import deliver_changes, read_syncs
from orchestration.project import Project

EVENTS = 4_000
BIN = Path(sys.executable).parent

MERGE = tuple(
    [
        {
            "messageId": f"{user}-{at.day}",
            "type": "identify",
            "receivedAt": at.isoformat(),
            "timestamp": at.isoformat(),
            "userId": user,
            "traits": traits,
        }
        for user in ("one", "other")
    ]
    for at, traits in zip(
        (AS_OF[0] - timedelta(hours=1), AS_OF[1] - timedelta(hours=1)),
        ({"plan": "free"}, {"email": "shared@example.com"}),
        strict=True,
    )
)
"""Two people, a slice apart known to be one."""

Tables = dict[str, list[str]]  # name → its rows as JSON, sorted

pytestmark = pytest.mark.slow


@dataclass(frozen=True, slots=True)
class Checkout:
    """A copy of the project with its own home."""

    models: Models
    slices: tuple[Path, ...]

    @property
    def project(self) -> Project:
        return self.models.project

    @property
    def home(self) -> Home:
        return self.project.home

    @property
    def development(self) -> Path:
        return self.home.path / "sqlmesh" / "warehouse.duckdb"

    @property
    def elsewhere(self) -> Path:
        return self.project.path / "elsewhere"

    def land(self, file: Path) -> None:
        import_units(self.home, self.project.path, units([file]), "shop", workers=1)

    @contextmanager
    def edited(self, file: str, old: str, new: str) -> Iterator[None]:
        path = self.project.path / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        yield
        path.write_text(text)

    def deliver(self, at: datetime) -> None:
        deliver_changes(
            self.home, self.project.destinations(), read_syncs(self.home), at=at
        )
        self.models.update_confirmed(at=at)

    def sqlmesh(self, *arguments: str, at: datetime = AS_OF[1], code: int = 0) -> str:
        return self.beside([str(BIN / "sqlmesh"), *arguments], at, code)

    def beside(
        self, command: Sequence[str], at: datetime = AS_OF[1], code: int = 0
    ) -> str:
        """Run the command, check that production is unchanged, and return the output.

        Production is the environment's home, although `.env` names another one.
        """
        kept = ("HOME", "LANG", "PATH", "TMPDIR")
        before = self.hashes()
        done = subprocess.run(
            command,
            cwd=self.project.path,
            env={name: os.environ[name] for name in kept if name in os.environ}
            | {
                "COLUMNS": "200",
                "LOOMLINE_HOME": str(self.home.path),
                "LOOMLINE_NOW": at.isoformat(),
            },
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert self.hashes() == before
        assert not self.elsewhere.exists()
        return done.stdout

    def hashes(self) -> dict[str, str]:
        """Return hashes of the home's files, except SQLMesh's and locks."""
        return {
            str(path.relative_to(self.home.path)): sha256(path.read_bytes()).hexdigest()
            for path in self.home.path.rglob("*")
            if path.is_file()
            and path.suffix != ".lock"
            and self.development.parent not in path.parents
        }


def tables(warehouse: Path, suffix: str = "") -> Tables:
    """Return every table and view as sorted text of its rows."""
    found = {}
    with duckdb.connect(str(warehouse), read_only=True) as engine:
        engine.execute("set timezone = 'UTC'")
        for schema, name in engine.sql(
            "select table_schema, table_name from information_schema.tables "
            "where table_schema not like 'sqlmesh%' and not contains(table_name, '__')"
        ).fetchall():
            if schema.endswith("__dev") == bool(suffix):
                rows = engine.sql(
                    f'select to_json(one)::varchar from "{schema}"."{name}" as one '
                    "order by all"
                ).fetchall()
                found[f"{schema.removesuffix(suffix)}.{name}"] = [r[0] for r in rows]
    return found


def current_members(found: Tables) -> set[tuple[str, str]]:
    rows = map(json.loads, found["audiences.audience_members"])
    return {
        (row["audience"], row["profile_id"]) for row in rows if row["left_at"] is None
    }


def differences(left: Tables, right: Tables) -> list[str]:
    """Return differing tables with the first rows that only one side has."""
    found = [f"{name} is on one side only" for name in left.keys() ^ right.keys()]
    for name in sorted(left.keys() & right.keys()):
        if left[name] != right[name]:
            sides = sorted(set(left[name]) ^ set(right[name]))
            found.append(
                f"{name}: {len(left[name])} and {len(right[name])} {sides[:4]}"
            )
    return found


@pytest.fixture(scope="module")
def checkout(
    project_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Checkout]:
    folder = tmp_path_factory.mktemp("beside")
    path = folder / "project"
    path.mkdir()
    for name in ("config.py", "dbt_project.yml", "profiles.yml"):
        shutil.copy(project_path / name, path)
    for name in ("models", "macros", "seeds", "tests/data", "orchestration/defs"):
        shutil.copytree(project_path / name, path / name)
    # A webhook needs a receiver that answers; a file does as well.
    webhook = path / "orchestration" / "defs" / "destinations" / "crm_webhook"
    (webhook / "defs.yaml").write_text(
        "type: orchestration.components.Destination\nattributes:\n  kind: file\n"
        "  url: ${LOOMLINE_HOME}/crm\n  format: csv\n"
        "  identifiers: [profile_id, user_id, email]\n"
    )
    home = Home(folder / "home")
    prepare(home)
    generate(folder, events=EVENTS, seed=7, compress=False)
    slices = tuple(folder / f"slice-{number}.ndjson" for number in (1, 2))
    for file, calls in zip(slices, MERGE, strict=True):
        with file.open("a") as lines:
            lines.writelines(f"{json.dumps(call)}\n" for call in calls)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOOMLINE_HOME", str(home.path))
        made = Checkout(Models(Project(path, home)), slices)
        (path / ".env").write_text(f"LOOMLINE_HOME={made.elsewhere}\n")
        yield made


@pytest.fixture(scope="module")
def first(checkout: Checkout) -> Tables:
    """Build the first slice with dbt and then with SQLMesh; return dbt's tables."""
    checkout.land(checkout.slices[0])
    checkout.models.run("seed", at=AS_OF[0])
    checkout.models.run("run", at=AS_OF[0])
    checkout.deliver(AS_OF[0])
    checkout.sqlmesh("plan", "--auto-apply", "--no-prompts", at=AS_OF[0])
    return tables(checkout.home.warehouse)


@pytest.fixture(scope="module")
def first_beside(checkout: Checkout, first: Tables) -> Tables:
    return tables(checkout.development)


@pytest.fixture(scope="module")
def second(checkout: Checkout, first_beside: Tables) -> Tables:
    """Add the second slice with dbt and then with SQLMesh; return dbt's tables."""
    checkout.land(checkout.slices[1])
    checkout.models.run("run", at=AS_OF[1])
    checkout.sqlmesh("run", "--ignore-cron")
    return tables(checkout.home.warehouse)


def test_what_both_build_is_the_same(first: Tables, first_beside: Tables) -> None:
    assert differences(first, first_beside) == []


def test_what_both_add_is_the_same(
    checkout: Checkout, first: Tables, second: Tables
) -> None:
    assert differences(second, tables(checkout.development)) == []
    # There was something to compare: rows of everything, some added and some replaced.
    assert [name for name in sorted(second) if not second[name]] == []
    assert set(first["identity.int_nodes"]) - set(second["identity.int_nodes"])
    members = current_members(first), current_members(second)
    assert members[0] - members[1] and members[1] - members[0]


def test_a_changed_audience_differs_in_dev_alone(
    checkout: Checkout, second: Tables
) -> None:
    name = "aud_high_value_customers"
    with checkout.edited(f"models/audiences/{name}.sql", "at_least=2", "at_least=1"):
        checkout.sqlmesh("plan", "dev", "--auto-apply", "--no-prompts")
    assert differences(second, tables(checkout.development)) == []
    dev = tables(checkout.development, "__dev")
    more = dev[f"audiences.{name}"]
    assert set(more) > set(second[f"audiences.{name}"])
    assert {row for row in current_members(dev) if row[0] == name} == {
        (name, json.loads(row)["profile_id"]) for row in more
    }
    assert {row for row in current_members(dev) if row[0] != name} == {
        row for row in current_members(second) if row[0] != name
    }


def test_unit_tests_of_dbt_find_what_is_broken(
    checkout: Checkout, second: Tables
) -> None:
    with checkout.edited(
        "models/profiles/profile_traits.sql",
        "order by timestamp, received_at, message_id",
        "order by timestamp, received_at desc, message_id",
    ):
        printed = checkout.sqlmesh("test", code=1)
    count = re.search(r"Ran `(\d+)` Tests", printed)
    assert count and int(count[1]) >= 30
    assert re.findall(r"(?:FAIL|ERROR): (\w+)", printed) == [
        "of_two_statements_of_one_time_the_later_received_wins"
    ]


def test_columns_are_followed_to_where_they_come_from(
    checkout: Checkout, second: Tables
) -> None:
    code = """if True:
        import json
        from sqlmesh import Context
        from sqlmesh.core.lineage import column_dependencies
        found = column_dependencies(Context(), "profiles.profile_traits", "value")
        print(json.dumps({name: sorted(columns) for name, columns in found.items()}))
    """
    printed = checkout.beside([sys.executable, "-c", code])
    assert json.loads(printed.splitlines()[-1]) == {
        '"warehouse"."profiles"."profile_events"': ["traits"]
    }
