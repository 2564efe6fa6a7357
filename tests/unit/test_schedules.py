"""Schedules and sensor beside runs that others have on the same Dagster instance."""

import time
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
from orchestration.assets.schedules import FIRST_STEP_S, refreshes
from orchestration.audiences import Audience
from orchestration.pipeline.dagster_instance import own_tags

AUDIENCES = {"aud_d": Audience("aud_d", refresh="daily")}
STARTED = dg.DagsterRunStatus.STARTED
FAILURE = dg.DagsterRunStatus.FAILURE


def started(instance: dg.DagsterInstance, location: str, job: str) -> str:
    """A run as the daemon starts it for a code location."""
    repository = RemoteRepositoryOrigin(
        RegisteredCodeLocationOrigin(location), "__repository__"
    )
    return _started(instance, job, origin=RemoteJobOrigin(repository, job))


def _started(
    instance: dg.DagsterInstance,
    job: str,
    origin: RemoteJobOrigin | None = None,
    tags: dict[str, str] | None = None,
) -> str:
    run = instance.create_run_for_job(
        dg.job(name=job)(lambda: None), remote_job_origin=origin, tags=tags
    )
    event = DagsterEvent(DagsterEventType.RUN_START.value, job)
    instance.report_dagster_event(event, run.run_id)
    return run.run_id


class Ticking:
    """What schedule and sensor of the location `loomline` do two minutes later."""

    def __init__(self, home: Home, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        _, self.schedules, (self.sensor,) = refreshes(
            home, AUDIENCES, "loomline", lambda: time.time() + FIRST_STEP_S + 1
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
def test_only_dead_runs_of_ones_own_are_entered_as_failed(
    home: Home, tmp_path: Path, ticks: str
) -> None:
    job = "daily" if ticks == "daily" else "continuous"
    elsewhere = Home(tmp_path / "elsewhere")
    with dg.instance_for_test() as instance:
        foreign = [
            started(instance, "finance", job),
            _started(instance, "by_hand"),
            _started(instance, "everything", tags=own_tags(elsewhere)),
        ]
        dead = [
            started(instance, "loomline", job),
            started(instance, "loomline", "__ASSET_JOB"),
            _started(instance, "everything", tags=own_tags(home)),
        ]
        ticking = Ticking(home, instance)
        assert ticking.asks(ticks)
        assert [ticking.status(run) for run in dead] == [FAILURE] * 3
        assert [ticking.status(run) for run in foreign] == [STARTED] * 3


@pytest.mark.parametrize("ticks", ["daily", "sensor"])
def test_a_live_run_of_ones_own_is_waited_for(home: Home, ticks: str) -> None:
    job = "daily" if ticks == "daily" else "continuous"
    with dg.instance_for_test() as instance, exclusive(home.run_lock):
        ticking = Ticking(home, instance)
        started(instance, "finance", job)
        assert ticking.asks(ticks)
        run = started(instance, "loomline", job)
        assert not ticking.asks(ticks)
        assert ticking.status(run) == STARTED
