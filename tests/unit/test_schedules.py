"""Schedules and sensor beside runs that others have on the same Dagster instance."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)

from connectors.home import Home
from connectors.landing.prepare import prepare
from connectors.locks import exclusive
from orchestration.assets.graph import _run_resource
from orchestration.assets.schedules import FIRST_STEP_S, LAST_EVENT_S, refreshes
from orchestration.audiences import Audience
from orchestration.pipeline.dagster_instance import home_tag, own_tags
from orchestration.pipeline.dbt_runner import Models
from orchestration.project import Project

AUDIENCES = {"aud_d": Audience("aud_d", refresh="daily")}
STARTED = dg.DagsterRunStatus.STARTED
SUCCESS = dg.DagsterRunStatus.SUCCESS
FAILURE = dg.DagsterRunStatus.FAILURE


def started(
    instance: dg.DagsterInstance, job: str, tags: dict[str, str] | None = None
) -> str:
    """A run as the daemon starts it for the code location `loomline`."""
    repository = RemoteRepositoryOrigin(
        RegisteredCodeLocationOrigin("loomline"), "__repository__"
    )
    run = instance.create_run_for_job(
        dg.job(name=job)(lambda: None),
        remote_job_origin=RemoteJobOrigin(repository, job),
        tags=tags,
    )
    report(instance, run.run_id, DagsterEventType.RUN_START)
    return run.run_id


def report(instance: dg.DagsterInstance, run: str, event: DagsterEventType) -> None:
    instance.report_dagster_event(DagsterEvent(event.value, "job"), run)


class Ticking:
    """What schedule and sensor do two minutes later.

    `meanwhile` happens while they wait to look again.
    """

    def __init__(
        self,
        home: Home,
        instance: dg.DagsterInstance,
        meanwhile: Callable[[], object] = lambda: None,
    ) -> None:
        self.instance = instance
        self.waited_s: list[float] = []

        def wait(seconds: float) -> None:
            self.waited_s.append(seconds)
            meanwhile()

        self.jobs, self.schedules, (self.sensor,) = refreshes(
            home, AUDIENCES, lambda: time.time() + FIRST_STEP_S + 1, wait
        )
        file = home.inbox / "web" / "events.ndjson"
        file.parent.mkdir(parents=True)
        file.write_text('{"type":"track","event":"x","userId":"u"}\n')

    def asks(self, job: str) -> bool:
        if job == "sensor":
            context = dg.build_sensor_context(instance=self.instance)
            return isinstance(self.sensor(context), dg.RunRequest)
        (schedule,) = (s for s in self.schedules if s.job_name == job)
        asked = schedule(dg.build_schedule_context(instance=self.instance))
        return isinstance(asked, dg.RunRequest)

    def status(self, run: str) -> dg.DagsterRunStatus:
        found = self.instance.get_run_by_id(run)
        assert found is not None
        return found.status


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    prepare(home)
    return home


@pytest.mark.parametrize("ticks", ["daily", "sensor"])
def test_only_dead_runs_on_ones_own_home_are_entered_as_failed(
    home: Home, tmp_path: Path, ticks: str
) -> None:
    job = "daily" if ticks == "daily" else "continuous"
    elsewhere = Home(tmp_path / "elsewhere")
    with dg.instance_for_test() as instance:
        foreign = [
            started(instance, job),
            started(instance, job, home_tag(elsewhere)),
            started(instance, "everything", own_tags(elsewhere)),
        ]
        dead = [
            started(instance, job, home_tag(home)),
            started(instance, "__ASSET_JOB", home_tag(home)),
            started(instance, "everything", own_tags(home)),
        ]
        ticking = Ticking(home, instance)
        assert ticking.asks(ticks)
        assert [ticking.status(run) for run in dead] == [FAILURE] * 3
        assert [ticking.status(run) for run in foreign] == [STARTED] * 3
        assert ticking.waited_s == [LAST_EVENT_S]


@pytest.mark.parametrize("ticks", ["daily", "sensor"])
def test_a_live_run_on_ones_own_home_is_waited_for(
    home: Home, tmp_path: Path, ticks: str
) -> None:
    job = "daily" if ticks == "daily" else "continuous"
    with dg.instance_for_test() as instance, exclusive(home.run_lock):
        ticking = Ticking(home, instance)
        started(instance, job, home_tag(Home(tmp_path / "elsewhere")))
        assert ticking.asks(ticks)
        run = started(instance, job, home_tag(home))
        assert not ticking.asks(ticks)
        assert ticking.status(run) == STARTED
        assert ticking.waited_s == []


def test_a_run_whose_end_is_being_recorded_has_not_died(home: Home) -> None:
    with dg.instance_for_test() as instance:
        run = started(instance, "daily", home_tag(home))
        end = DagsterEventType.RUN_SUCCESS
        ticking = Ticking(home, instance, lambda: report(instance, run, end))
        assert ticking.asks("daily")
        assert ticking.status(run) == SUCCESS


def test_a_run_that_takes_the_lock_meanwhile_is_alive(home: Home) -> None:
    with dg.instance_for_test() as instance, ExitStack() as stack:
        run = started(instance, "daily", home_tag(home))
        lock = exclusive(home.run_lock)
        ticking = Ticking(home, instance, lambda: stack.enter_context(lock))
        assert not ticking.asks("daily")
        assert ticking.status(run) == STARTED


def test_runs_of_every_job_and_of_assets_alone_name_their_home(home: Home) -> None:
    models = Models(Project(home.path.parent, home))
    run = _run_resource(models, lambda: None)

    @dg.op(required_resource_keys={"run"})
    def step() -> None: ...

    @dg.job(resource_defs={"run": run})
    def without_tags() -> None:
        step()

    with dg.instance_for_test() as instance:
        for job in Ticking(home, instance).jobs:
            assert job.tags.items() >= home_tag(home).items(), job.name
        done = without_tags.execute_in_process(instance=instance)
        (recorded,) = instance.get_runs(dg.RunsFilter(tags=home_tag(home)))
        assert recorded.run_id == done.run_id
