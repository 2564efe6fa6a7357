"""`loomline demo`: runs the pipeline on sample input and scores the result."""

import os
import secrets
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import msgspec
from dotenv import dotenv_values, set_key

from connectors.home import Home
from connectors.ingest.importing import (
    Imported,
    import_units,
    load_name,
    source_name,
)
from connectors.landing.manifest import Manifest
from connectors.landing.prepare import prepare
from connectors.sources.files import units
from orchestration.demo.demo_home import check_same, delete, has_sandbox
from orchestration.demo.forms_and_webhooks import (
    NEWSLETTER,
    STRIPE,
    collect,
    read_requests,
)
from orchestration.demo.generator import AS_OF, generate
from orchestration.demo.last_login import last_user_wins, read_lines
from orchestration.demo.sandbox.server import Sandbox
from orchestration.demo.truth import Score, Truth, score
from orchestration.pipeline.dagster_instance import prepare_records
from orchestration.pipeline.run import RunResult
from orchestration.pipeline.runner import Pipeline
from orchestration.project import NO_TELEMETRY, Project

__all__ = ["SANDBOX_PORT", "DemoResult", "demo"]

SANDBOX_PORT = 8787
SEED = 7
STRIPE_SECRET = "STRIPE_WEBHOOK_SECRET"
SOURCE = "demo"
STORY = 3
"""Version of the generated events; a demo with another version needs a reset."""

Say = Callable[[str], None]


@dataclass(slots=True)
class DemoResult:
    """Result of the demo, summed over the slices of this call."""

    home: Home
    as_of: datetime
    imported: Imported
    runs: list[RunResult]
    events: int
    profiles: int
    conflicts: dict[str, int]
    audiences: dict[str, int]
    changes: dict[str, tuple[int, int]]  # audience → entered, left in the last run
    identity: Score
    naive: Score
    expected: dict[str, dict[str, int]]  # dispositions of contracts and requests
    decided: dict[str, dict[str, int]]  # … as decided by admission
    pushes: dict[str, Counter[str]]
    seconds: dict[str, float] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Return the content of `summary.json`."""
        return {
            "received": self.imported.received,
            "dispositions": dict(self.imported.dispositions),
            "events": self.events,
            "profiles": self.profiles,
            "audiences": self.audiences,
            "changes": {
                audience: {"entered": entered, "left": left}
                for audience, (entered, left) in self.changes.items()
            },
            "pushes": {
                name: {"added": counts["added"], "removed": counts["removed"]}
                for name, counts in self.pushes.items()
            },
            "seconds": {
                stage: round(spent, 2) for stage, spent in self.seconds.items()
            },
            "identity": asdict(self.identity),
            "naive": asdict(self.naive),
            "expected": self.expected,
            "decided": self.decided,
        }


def demo(
    project_path: Path,
    *,
    events: int = 200_000,
    as_of: datetime = AS_OF[1],
    reset: bool = False,
    started_s: float = 0.0,
    say: Say = lambda message: None,
) -> DemoResult:
    """Land generated and sample event files in two slices, a day apart, and push.

    Works in the project's `data/demo` and writes a `.env` that points `loomline` and
    `loomline dev` there. A repeated call finds both slices landed and evaluates only
    the last instant. `reset` starts from an empty home. `started_s` is the process's
    time before this call, for the list of seconds.

    Raises:
        ConfigError: `data/demo` has other content than a demo, or a demo with other
            arguments; or a reset was asked for while `loomline dev` is running.
    """
    home = Home(project_path / "data" / "demo")
    instants = (as_of - timedelta(days=1), as_of)
    wanted = {
        "events": events,
        "as_of": as_of.isoformat(),
        "seed": SEED,
        "story": STORY,
    }
    if reset:
        delete(home, SANDBOX_PORT, say)
    check_same(home, wanted)
    home.make()
    home.demo.write_bytes(msgspec.json.encode(wanted))
    _write_env(project_path, home, as_of)
    project = Project.find()
    prepare(home)
    result = RunResult(as_of, seconds={"start": started_s})
    generated = home.path / "generated"
    if not (generated / "truth.json").exists():
        say(f"Generating {events:,} events of a shop with known identities …")
        with result.timed("generate"):
            generate(generated, events=events, seed=SEED, as_of=instants)

    with result.timed("read"):
        pipeline = Pipeline(project, say=say)
    runs: list[RunResult] = []
    imported = Imported()
    earlier = 0
    with _sandbox(home):
        first_is_due = not _has_run(home, instants[0]) and not _has_landed(home, 2)
        for number, at in enumerate(instants, 1):
            say(f"Slice {number} of 2, as of {at:%Y-%m-%d %H:%M} UTC …")
            if number == 2:
                with result.timed("collect"):
                    imported.add(
                        collect(
                            project.home,
                            project.path,
                            generated,
                            os.environ[STRIPE_SECRET],
                            say=say,
                        )
                    )
            with result.timed("land"):
                if number == 1:
                    for layout in _layouts(project_path):
                        imported.add(_import(project, [layout], layout.name))
                path = generated / f"slice-{number}.ndjson.gz"
                imported.add(_import(project, [path], SOURCE))
            if number == 2 or first_is_due:
                earlier = _count_changing_runs(home)
                runs.append(pipeline.run(at=at))
    for one in runs:
        for stage, spent in one.seconds.items():
            result.seconds[stage] = result.seconds.get(stage, 0) + spent
    with result.timed("score"):
        state = _read_state(home, earlier)
        truth = Truth.load(generated / "truth.json")
        identity = score(truth, state.pop("assignment"))
        calls = last_user_wins(read_lines(generated), read_requests(generated))
        naive = score(truth, calls)
    done = DemoResult(
        home=home,
        as_of=as_of,
        imported=imported,
        runs=runs,
        identity=identity,
        naive=naive,
        expected=truth.expected,
        pushes=_pushes(project, runs),
        seconds=result.seconds,
        **state,
    )
    text = msgspec.json.format(msgspec.json.encode(done.summary()), indent=2)
    (home.path / "summary.json").write_bytes(text + b"\n")
    return done


def _write_env(project_path: Path, home: Home, as_of: datetime) -> None:
    """Point `.env` at the demo; keep its other lines."""
    path = project_path / ".env"
    before = dotenv_values(path) if path.exists() else {}
    values = {
        "LOOMLINE_HOME": str(home.path),
        "LOOMLINE_NOW": as_of.isoformat(),
        **{
            name: before.get(name)
            or f"whsec_{b64encode(secrets.token_bytes(32)).decode()}"
            for name in ("CRM_WEBHOOK_SECRET", STRIPE_SECRET)
        },
        "CRM_WEBHOOK_URL": f"http://127.0.0.1:{SANDBOX_PORT}/",
        "DAGSTER_HOME": str(home.path / "dagster"),
        **NO_TELEMETRY,
    }
    path.touch(mode=0o600)
    for name, value in values.items():
        set_key(path, name, value, quote_mode="never")
    prepare_records(home.path / "dagster")
    os.environ.update(values)


@contextmanager
def _sandbox(home: Home) -> Iterator[None]:
    """Use the sandbox that already runs on the port, or run one for this demo."""
    if has_sandbox(home, SANDBOX_PORT):
        yield
        return
    with Sandbox(home.path / "sandbox", os.environ["CRM_WEBHOOK_SECRET"]) as sandbox:
        os.environ["CRM_WEBHOOK_URL"] = sandbox.url + "/"
        try:
            yield
        finally:
            os.environ["CRM_WEBHOOK_URL"] = f"http://127.0.0.1:{SANDBOX_PORT}/"


def _layouts(project_path: Path) -> list[Path]:
    """Return the folders of sample export files, one per vendor format."""
    folder = project_path / "tests" / "fixtures" / "files"
    return sorted(path for path in folder.iterdir() if path.is_dir())


def _import(project: Project, paths: list[Path], source: str) -> Imported:
    files = [
        path
        for root in paths
        for path in ([root] if root.is_file() else root.rglob("*"))
        if path.is_file() and path.name != "expected.ndjson"
    ]
    return import_units(project.home, project.path, units(files), source_name(source))


def _has_run(home: Home, at: datetime) -> bool:
    prefix = f"run-{at:%Y%m%dT%H%M%S%f}"
    return any(name.startswith(prefix) for name in Manifest(home).names())


def _has_landed(home: Home, number: int) -> bool:
    (unit,) = units([home.path / "generated" / f"slice-{number}.ndjson.gz"])
    return load_name(SOURCE, unit, 0) in Manifest(home).names()


def _count_changing_runs(home: Home) -> int:
    """Return how many runs have changed an audience."""
    if not home.warehouse.exists():
        return 0
    with duckdb.connect(str(home.warehouse), read_only=True) as warehouse:
        try:
            (count,) = warehouse.execute(
                "select coalesce(max(run_number), 0) "
                "from audiences.int_membership_changes"
            ).fetchall()[0]
        except duckdb.CatalogException:  # no run has built audiences yet
            return 0
    return int(count)


def _read_state(home: Home, earlier: int) -> dict[str, Any]:
    """Read counts from the warehouse, and the changes after run number `earlier`."""
    with duckdb.connect(str(home.warehouse), read_only=True) as warehouse:

        def rows(query: str, *values: Any) -> list[Any]:
            return warehouse.execute(query, values).fetchall()

        return {
            "events": rows("select count(*) from staging.events")[0][0],
            "profiles": rows("select count(*) from profiles.profiles")[0][0],
            "conflicts": dict(
                rows(
                    "select rule, count(*) from identity.identity_conflicts "
                    "group by rule order by rule"
                )
            ),
            "audiences": dict(
                rows(
                    "select audience, count(distinct profile_id) "
                    "from audiences.audience_members where left_at is null "
                    "group by audience order by audience"
                )
            ),
            "changes": {
                audience: (entered, left)
                for audience, entered, left in rows(
                    "select audience, count(*) filter (where change = 'enter'), "
                    "count(*) filter (where change = 'leave') "
                    "from audiences.int_membership_changes where run_number > ? "
                    "group by audience order by audience",
                    earlier,
                )
            },
            "decided": _decided(
                rows(
                    "select event, channel, disposition, count(*) "
                    "from raw.dispositions where event = 'demo_subscription_renewed' "
                    "or channel in ('webhook', 'form') group by all order by all"
                )
            ),
            "assignment": {
                (kind, value): profile_id
                for kind, value, profile_id in rows(
                    "select identifier_type, identifier_value, profile_id "
                    "from identity.identity_nodes"
                )
            },
        }


def _decided(rows: list[Any]) -> dict[str, dict[str, int]]:
    """Return counts of dispositions, by the truth's names."""
    by_name: dict[str, dict[str, int]] = {}
    for event, channel, disposition, count in rows:
        name = {"webhook": STRIPE, "form": NEWSLETTER}.get(channel, event)
        counts = by_name.setdefault(name, {})
        counts[disposition] = counts.get(disposition, 0) + count
    return by_name


def _pushes(project: Project, runs: list[RunResult]) -> dict[str, Counter[str]]:
    pushes = {name: Counter[str]() for name in project.destinations()}
    for one in runs:
        for push in one.pushes:
            counts = pushes[push.sync.destination]
            counts["added"] += push.added
            counts["removed"] += push.removed
            counts["resent"] += push.resent
            counts["pending"] += push.pending
    return pushes
