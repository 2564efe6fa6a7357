"""The definitions without a daemon: killed runs, failed checks, `--watch`.

All tests use events of the demo's shop. One home with landed events and one after a run
are created once and copied.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from connectors.home import Home
from connectors.ingest.importing import import_units
from connectors.landing.prepare import prepare
from connectors.sources.files import units
from orchestration.assets.schedules import refreshes
from orchestration.audiences import DAILY_HOUR, Audience
from orchestration.demo.generator import AS_OF, generate
from orchestration.demo.sandbox.server import Sandbox
from orchestration.pipeline import run as steps
from orchestration.pipeline.build_state import Built
from orchestration.pipeline.dagster_instance import home_tag
from orchestration.pipeline.dbt_runner import Models, ModelsFailed
from orchestration.pipeline.run import ChecksFailed, Run, RunResult
from orchestration.pipeline.runner import Pipeline
from orchestration.project import Project
from tests.support import PROJECT
from tests.support.checkouts import SECRET, Checkout

TABLES = (
    "staging.events",
    "identity.identity_nodes",
    "identity.identity_conflicts",
    "profiles.profiles",
    "profiles.profile_traits",
    "profiles.profile_events",
    "destinations.sync_members",
    "destinations.sync_delta",
)
MEMBERS = (
    "select audience, profile_id, entered_at, left_at from audiences.audience_members"
)
PUSHED = """
select destination, audience, operation, change, profile_id, identifier_hash
from raw.acks
"""


@dataclass
class Installation:
    """A home, its project, and the pipeline for its runs."""

    project: Project
    pipeline: Pipeline

    def run(self, at: datetime = AS_OF[1], **options: Any) -> RunResult:
        with self.at_home():
            return self.pipeline.run(at=at, **options)

    @contextmanager
    def at_home(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment().items():
                patch.setenv(name, value)
            yield

    def environment(self) -> dict[str, str]:
        home = self.project.home.path
        return {
            "LOOMLINE_PROJECT": str(self.project.path),
            "LOOMLINE_HOME": str(home),
            "DAGSTER_HOME": str(home / "dagster"),
        }

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        path = str(self.project.home.warehouse)
        with duckdb.connect(path, read_only=True) as warehouse:
            return sorted(warehouse.sql(query).fetchall(), key=repr)

    def state(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return the tables and deliveries of the installation."""
        found = {table: self.rows(f"from {table}") for table in TABLES}
        return found | {"members": self.rows(MEMBERS), "pushed": self.rows(PUSHED)}

    def version(self) -> str:
        return os.readlink(self.project.home.published / "current")


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with (
        Sandbox(tmp_path_factory.mktemp("box"), SECRET) as sandbox,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("CRM_WEBHOOK_SECRET", SECRET)
        patch.setenv("CRM_WEBHOOK_URL", sandbox.url + "/")
        yield sandbox


@pytest.fixture(scope="module")
def landed(project_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """An installation with landed events and no run."""
    home = Home(tmp_path_factory.mktemp("landed"))
    prepare(home)
    generate(home.path / "generated", events=1500, seed=7, as_of=AS_OF)
    files = sorted((home.path / "generated").glob("slice-*"))
    import_units(home, project_path, units(files), "shop", workers=1)
    return home


@pytest.fixture(scope="module")
def has_run(
    project_path: Path,
    landed: Home,
    box: Sandbox,
    tmp_path_factory: pytest.TempPathFactory,
) -> Installation:
    """An installation after a successful run."""
    found = installation(project_path, landed, tmp_path_factory.mktemp("has-run"))
    found.run()
    return found


def installation(project_path: Path, home: Home, folder: Path) -> Installation:
    copy = Home(folder / "home")
    shutil.copytree(home.path, copy.path, symlinks=True)
    project = Project(project_path, copy)
    return Installation(project, Pipeline(project))


def differences(one: Installation, other: Installation) -> list[str]:
    """Return differing tables with a count and an example."""
    found = []
    theirs = other.state()
    for name, rows in one.state().items():
        ours, yours = Counter(map(repr, rows)), Counter(map(repr, theirs[name]))
        for which, left in (("first", ours - yours), ("second", yours - ours)):
            if left:
                example = next(iter(left))[:200]
                found.append(f"{name}: {left.total()} only in the {which}: {example}")
    return found


# ── Killed anywhere ─────────────────────────────────────────────────────────────────


POINTS: dict[str, tuple[Any, str, int]] = {
    "the inbox is landed": (Run, "land", 1),
    "the models are built, nothing is noted": (Models, "run", 1),
    "a batch is confirmed": (steps, "deliver_changes", 1),
    "the snapshot is written": (steps, "publish", 1),
}


@pytest.mark.parametrize("point", POINTS)
def test_killed_when(
    point: str,
    project_path: Path,
    landed: Home,
    has_run: Installation,
    tmp_path: Path,
) -> None:
    killed = installation(project_path, landed, tmp_path)
    died = subprocess.run(
        [sys.executable, "-c", DIE, point],
        cwd=PROJECT,
        env=os.environ | killed.environment(),
        capture_output=True,
        text=True,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    killed.run()
    assert not differences(killed, has_run)
    with killed.at_home(), dg.DagsterInstance.get() as instance:
        ended = [run.status for run in instance.get_runs()]
    assert ended == [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]


DIE = f"import sys; from {__name__} import run_and_die; run_and_die(sys.argv[1])"


def run_and_die(point: str) -> None:
    """Run the configured installation, and kill this process at a given point."""
    owner, name, times = POINTS[point]
    call = getattr(owner, name)
    left = times

    def killing(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        found = call(*args, **kwargs)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(owner, name, killing)
    Pipeline(Project.find()).run(at=AS_OF[1])


# ── What stops a run ────────────────────────────────────────────────────────────────


def test_what_is_broken_is_not_pushed_nor_published(
    checkout: Checkout, has_run: Installation, box: Sandbox, tmp_path: Path
) -> None:
    broken = installation(checkout.path, has_run.project.home, tmp_path)
    before = broken.version(), box.deliveries(), broken.rows(PUSHED)

    def nothing_went_out() -> bool:
        return before == (broken.version(), box.deliveries(), broken.rows(PUSHED))

    profiles = checkout.path / "models" / "profiles" / "profiles.sql"
    good = profiles.read_text()
    profiles.write_text(good.replace("select * from {{ ref('int_nodes') }}", "slect 1"))
    with pytest.raises(ModelsFailed, match=r"profiles.sql, line \d+: .*slect"):
        Installation(broken.project, Pipeline(broken.project)).run()
    assert nothing_went_out()

    profiles.write_text(good + "\nlimit 0\n")  # removes all profiles
    with pytest.raises((ModelsFailed, ChecksFailed)):
        Installation(broken.project, Pipeline(broken.project)).run()
    assert nothing_went_out()
    profiles.write_text(good)

    for audience in (checkout.path / "models" / "audiences").glob("aud_*.sql"):
        audience.write_text("select profile_id from {{ ref('profiles') }} where false")
    with pytest.raises(ChecksFailed, match=r"audiences\.somebody_is_left: Where any"):
        Installation(broken.project, Pipeline(broken.project)).run()
    assert nothing_went_out()


def test_a_stale_source_stops_pushes_and_says_which(
    has_run: Installation, box: Sandbox, project_path: Path, tmp_path: Path
) -> None:
    stale = installation(project_path, has_run.project.home, tmp_path)
    before = stale.version(), box.deliveries()
    with pytest.raises(ChecksFailed, match=r"sources_are_fresh: .* against it: shop"):
        stale.run(AS_OF[1] + timedelta(days=3))
    assert (stale.version(), box.deliveries()) == before
    with stale.at_home(), dg.DagsterInstance.get() as instance:
        (failed, *_) = instance.get_runs()
        assert failed.status == dg.DagsterRunStatus.FAILURE
        key = dg.AssetCheckKey(
            dg.AssetKey(["staging", "landing_health"]), "sources_are_fresh"
        )
        record = instance.event_log_storage.get_latest_asset_check_execution_by_key(
            [key]
        )[key]
    assert record.event is not None
    evaluation = record.event.asset_check_evaluation
    assert evaluation is not None
    assert not evaluation.passed
    assert (stale.project.home.path / "data_docs" / "index.html").exists()


# ── When things run ─────────────────────────────────────────────────────────────────


def test_only_what_is_due_is_evaluated_and_pushed(
    has_run: Installation, project_path: Path, tmp_path: Path
) -> None:
    due = installation(project_path, has_run.project.home, tmp_path)
    later = AS_OF[1] + timedelta(hours=1)
    result = due.run(later, only=("aud_cart_abandoners",))
    assert {push.sync.audience for push in result.pushes} == {"aud_cart_abandoners"}
    evaluated = due.rows(
        "select audience, max(changed_at) from audiences.int_membership_changes "
        "group by audience"
    )
    for audience, changed_at in evaluated:
        if audience != "aud_cart_abandoners":
            assert changed_at < later.replace(tzinfo=None)


HOURLY = {"aud_h": Audience("aud_h", refresh="hourly")}
AUDIENCES = {
    "aud_c": Audience("aud_c", refresh="continuous"),
    "aud_d": Audience("aud_d", refresh="daily"),
} | HOURLY


def test_audiences_are_due_by_the_clock(tmp_path: Path) -> None:
    home = Home(tmp_path)
    prepare(home)
    built = Built(home)
    noon = datetime(2026, 5, 2, 12, 30, tzinfo=UTC)
    assert built.due(AUDIENCES, noon) == ("aud_c", "aud_d", "aud_h")
    built.remember(AUDIENCES, None, noon, 0)
    assert built.due(AUDIENCES, noon + timedelta(minutes=29)) == ("aud_c",)
    assert built.due(AUDIENCES, noon + timedelta(minutes=30)) == ("aud_c", "aud_h")
    built.remember(AUDIENCES, ("aud_c", "aud_h"), noon + timedelta(minutes=30), 0)
    assert built.due(AUDIENCES, noon + timedelta(minutes=40)) == ("aud_c",)
    night = datetime(2026, 5, 3, DAILY_HOUR, tzinfo=UTC)
    assert built.due(AUDIENCES, night - timedelta(minutes=1)) == ("aud_c", "aud_h")
    assert built.due(AUDIENCES, night) == ("aud_c", "aud_d", "aud_h")


def test_the_sensor_asks_for_a_run_when_something_is_new(
    tmp_path: Path, project_path: Path
) -> None:
    home = Home(tmp_path / "home")
    prepare(home)
    _, schedules, (sensor,) = refreshes(home, AUDIENCES)
    assert {schedule.cron_schedule for schedule in schedules} == {
        "*/5 * * * *",
        "0 * * * *",
        "0 3 * * *",
    }
    with dg.DagsterInstance.ephemeral() as instance:

        def asked() -> bool:
            context = dg.build_sensor_context(instance=instance)
            return isinstance(sensor(context), dg.RunRequest)

        assert not asked()
        file = home.inbox / "web" / "events.ndjson"
        file.parent.mkdir()
        file.write_text('{"type":"track","event":"x","userId":"u"}\n')
        assert asked()
        import_units(home, project_path, units([file]), "web", workers=1)
        file.unlink()
        assert asked()
        built = Built(home)
        built.remember(AUDIENCES, None, AS_OF[1], built.newest())
        assert not asked()
        under_way = dg.job(name="continuous")(lambda: None)
        instance.create_run_for_job(
            under_way,
            status=dg.DagsterRunStatus.STARTED,
            tags=home_tag(home),
        )
        file.write_text('{"type":"track","event":"y","userId":"u"}\n')
        assert not asked()  # one is under way


def test_watching_runs_when_a_file_arrives(
    has_run: Installation,
    project_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    watched = installation(project_path, has_run.project.home, tmp_path)
    home = watched.project.home
    stop = threading.Event()

    def say(message: str) -> None:
        said.append(message)
        if len(said) == 1:
            file = home.inbox / "shop" / "more.ndjson"
            file.parent.mkdir()
            file.write_text(
                '{"type":"track","event":"x","userId":"u","messageId":"m",'
                '"receivedAt":"2026-05-01T23:00:00Z"}\n'
            )
        if len(said) == 2:
            stop.set()

    monkeypatch.setenv("LOOMLINE_NOW", AS_OF[1].isoformat())
    with watched.at_home():
        Pipeline(watched.project, say=say).watch(push=True, stop=stop)
    assert "received 0, added 0, removed 0" in said[0]
    assert "received 1, added 0, removed 0" in said[1]


# ── One way, from every start ───────────────────────────────────────────────────────


def test_plain_dbt_gives_the_same_tables(
    has_run: Installation, project_path: Path, landed: Home, tmp_path: Path
) -> None:
    plain = installation(project_path, landed, tmp_path)
    # Not as the demo writes it into .env: that instant is for the demo's home alone.
    now = {"LOOMLINE_NOW": f"{AS_OF[1]:%Y-%m-%dT%H:%M:%SZ}"}
    subprocess.run(
        [Path(sys.executable).with_name("dbt"), "build"],
        check=True,
        cwd=project_path,
        env=os.environ | plain.environment() | now,
        capture_output=True,
    )
    found = differences(plain, has_run)
    # What was pushed is known to one of them only.
    assert {name.partition(":")[0] for name in found} <= {
        "pushed",
        "destinations.sync_delta",
    }


def test_of_two_runs_one_waits(
    has_run: Installation, project_path: Path, landed: Home, tmp_path: Path
) -> None:
    both = installation(project_path, landed, tmp_path)
    command = [
        str(Path(sys.executable).with_name("loomline")),
        "run",
        "--as-of",
        AS_OF[1].isoformat(),
    ]
    runs = [
        subprocess.Popen(
            command,
            env=os.environ | both.environment(),
            stderr=subprocess.PIPE,
            text=True,
            stdout=subprocess.DEVNULL,
        )
        for _ in range(2)
    ]
    said = [run.communicate(timeout=300)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    (waited,) = (text for text in said if "Waiting for another run to end" in text)
    first = runs[1 - said.index(waited)]
    assert f"process {first.pid} " in waited
    assert not differences(both, has_run)
