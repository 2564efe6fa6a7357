"""Jobs and schedules per `refresh`, and the sensor for new files."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from connectors.home import Home
from connectors.landing.prepare import prepare
from connectors.locks import is_held
from orchestration.audiences import DAILY_HOUR, REFRESHES, Audience, Refresh
from orchestration.pipeline.build_state import Built
from orchestration.pipeline.dagster_instance import DIED, home_tag

__all__ = ["refreshes", "unselected"]

CRON: dict[Refresh, str] = {
    "continuous": "*/5 * * * *",  # windows move even if nothing lands
    "hourly": "0 * * * *",
    "daily": f"0 {DAILY_HOUR} * * *",
}
WATCH_S = 30
FIRST_STEP_S = 120  # from a run's start until it must have taken run.lock
LAST_EVENT_S = 10  # from run.lock's release until Dagster must have recorded the end

UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]

Timing = tuple[list[Any], list[dg.ScheduleDefinition], list[dg.SensorDefinition]]
"""Jobs, schedules, sensors; Dagster has no public type for unresolved jobs."""


def refreshes(
    home: Home,
    audiences: Mapping[str, Audience],
    clock: Callable[[], float] = time.time,
    wait: Callable[[float], None] = time.sleep,
) -> Timing:
    """Return a manual job `everything`, and scheduled jobs per refresh (UTC).

    A refresh lands new files and rebuilds the profiles, then the audiences that are due
    and their pushes. Schedules and sensor are on by default, unless the home's clock
    stands still (LOOMLINE_NOW, as in the demo).
    """
    everything = dg.define_asset_job(
        "everything",
        dg.AssetSelection.all(),
        description="All audiences, all pushes.",
        tags=home_tag(home),
    )
    jobs = [everything]
    schedules = []
    is_still = bool(os.environ.get("LOOMLINE_NOW"))
    runs = _Runs(home, clock, wait)
    for refresh in REFRESHES:
        due = {a.name for a in audiences.values() if a.refresh == refresh}
        if not due and refresh != "continuous":
            continue  # `continuous` always exists, to land new events
        job = dg.define_asset_job(
            refresh,
            dg.AssetSelection.all() - unselected(audiences, due),
            description=f"Lands new files and updates the {refresh} audiences: "
            f"{', '.join(sorted(due)) or 'none'}.",
            tags={"loomline/refresh": refresh, **home_tag(home)},
        )
        jobs.append(job)
        schedules.append(_schedule(runs, refresh, is_still))
    return jobs, schedules, [_new_files_sensor(runs, home, is_still)]


def unselected(audiences: Mapping[str, Audience], due: set[str]) -> dg.AssetSelection:
    """Return the audiences that are not due, and their pushes."""
    keys = [
        dg.AssetKey([place, name])
        for name, audience in audiences.items()
        if name not in due
        for place in ("audiences", *audience.sync_to)
    ]
    return dg.AssetSelection.assets(*keys)


def _schedule(runs: "_Runs", refresh: Refresh, is_still: bool) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=f"{refresh}_schedule",
        job_name=refresh,
        cron_schedule=CRON[refresh],
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.STOPPED
        if is_still
        else dg.DefaultScheduleStatus.RUNNING,
    )
    def tick(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if runs.is_under_way(context.instance, refresh):
            return dg.SkipReason(f"The last {refresh} run has not ended yet.")
        return dg.RunRequest()

    return tick


def _new_files_sensor(runs: "_Runs", home: Home, is_still: bool) -> dg.SensorDefinition:
    @dg.sensor(
        job_name="continuous",
        minimum_interval_seconds=WATCH_S,
        default_status=dg.DefaultSensorStatus.STOPPED
        if is_still
        else dg.DefaultSensorStatus.RUNNING,
        description="Detects files in the inbox, and files landed since the last run.",
    )
    def new_files_sensor(
        context: dg.SensorEvaluationContext,
    ) -> dg.RunRequest | dg.SkipReason:
        prepare(home)
        if not Built(home).has_news():
            return dg.SkipReason("Nothing has landed since the last run.")
        if runs.is_under_way(context.instance, "continuous"):
            return dg.SkipReason("The last continuous run has not ended yet.")
        return dg.RunRequest(tags={"loomline/because": "new files"})

    return new_files_sensor


@dataclass(frozen=True, slots=True)
class _Runs:
    """Runs on this home folder, by their tag.

    Others may be on the same instance, even from a code location of the same name:
    `run.lock` says nothing about them.
    """

    home: Home
    clock: Callable[[], float]
    wait: Callable[[float], None]

    def is_under_way(self, instance: dg.DagsterInstance, job: str) -> bool:
        """Return whether a run of the job is queued or alive.

        Runs of any job that have died are entered as failed on the way, so that they
        are retried and no other waits for them: Dagster does not look after the
        processes of runs on its own machine. A live run holds `run.lock` from its first
        step until shortly before Dagster records its end.
        """
        under_way, dead = self._look(instance)
        if dead:
            self.wait(LAST_EVENT_S)
            before = dead
            under_way, dead = self._look(instance)
            dead &= before
        for run_id in dead:
            instance.report_run_failed(under_way.pop(run_id), DIED)
        return any(run.job_name == job for run in under_way.values())

    def _look(
        self, instance: dg.DagsterInstance
    ) -> tuple[dict[str, dg.DagsterRun], set[str]]:
        """Return the runs under way by id, and which of them seem to be dead."""
        is_alive = is_held(self.home.run_lock)
        ours = dg.RunsFilter(statuses=UNDER_WAY, tags=home_tag(self.home))
        under_way, dead = {}, set()
        for record in instance.get_run_records(ours):
            run = record.dagster_run
            under_way[run.run_id] = run
            now = self.clock()
            seconds = now - (record.start_time or now)
            if not is_alive and seconds >= FIRST_STEP_S:
                dead.add(run.run_id)
        return under_way, dead
