"""When things run: a job and schedule per `refresh`, a sensor on what has landed."""

import os
import time
from collections.abc import Mapping
from typing import Any

import dagster as dg

from connectors.home import Home
from connectors.landing.prepare import prepare
from connectors.locks import is_held
from orchestration.audiences import REFRESHES, Audience, Refresh
from orchestration.pipeline.build_state import Built

__all__ = ["refreshes", "unselected"]

CRON: dict[Refresh, str] = {
    "continuous": "*/5 * * * *",  # windows move also when nothing lands
    "hourly": "0 * * * *",
    "daily": "0 3 * * *",
}
WATCH_S = 30
FIRST_STEP_S = 120  # from a run's start until it must have taken run.lock

UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]

Timing = tuple[list[Any], list[dg.ScheduleDefinition], list[dg.SensorDefinition]]
"""Jobs, schedules, sensors; Dagster has no public name for a job yet to be resolved."""


def refreshes(home: Home, audiences: Mapping[str, Audience]) -> Timing:
    """`everything` by hand; `continuous`, `hourly` and `daily` by the clock, in UTC.

    A refresh brings in what has landed and recomputes what is known of people, then
    the audiences that are due and their pushes. They are switched on from the start,
    unless the home's clock stands still (LOOMLINE_NOW, as in the demo).
    """
    everything = dg.define_asset_job(
        "everything", dg.AssetSelection.all(), description="All audiences, all pushes."
    )
    jobs = [everything]
    schedules = []
    is_still = bool(os.environ.get("LOOMLINE_NOW"))
    for refresh in REFRESHES:
        due = {a.name for a in audiences.values() if a.refresh == refresh}
        if not due and refresh != "continuous":
            continue  # new events are brought in by `continuous` in any case
        job = dg.define_asset_job(
            refresh,
            dg.AssetSelection.all() - unselected(audiences, due),
            description=f"What has landed, and the {refresh} audiences: "
            f"{', '.join(sorted(due)) or 'none'}.",
            tags={"loomline/refresh": refresh},
        )
        jobs.append(job)
        schedules.append(_schedule(home, refresh, is_still))
    return jobs, schedules, [_new_files(home, is_still)]


def unselected(audiences: Mapping[str, Audience], due: set[str]) -> dg.AssetSelection:
    """The audiences that are not due, and their pushes."""
    keys = [
        dg.AssetKey([place, name])
        for name, audience in audiences.items()
        if name not in due
        for place in ("audiences", *audience.sync_to)
    ]
    return dg.AssetSelection.assets(*keys)


def _schedule(home: Home, refresh: Refresh, is_still: bool) -> dg.ScheduleDefinition:
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
        if _is_under_way(context.instance, refresh, home):
            return dg.SkipReason(f"The last {refresh} run has not ended yet.")
        return dg.RunRequest()

    return tick


def _new_files(home: Home, is_still: bool) -> dg.SensorDefinition:
    @dg.sensor(
        name="new_files",
        job_name="continuous",
        minimum_interval_seconds=WATCH_S,
        default_status=dg.DefaultSensorStatus.STOPPED
        if is_still
        else dg.DefaultSensorStatus.RUNNING,
        description="Files that have landed, or wait in the inbox, since the last run.",
    )
    def new_files(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        prepare(home)
        if not Built(home).has_news():
            return dg.SkipReason("Nothing has landed since the last run.")
        if _is_under_way(context.instance, "continuous", home):
            return dg.SkipReason("The last continuous run has not ended yet.")
        return dg.RunRequest(tags={"loomline/because": "new files"})

    return new_files


def _is_under_way(instance: dg.DagsterInstance, job: str, home: Home) -> bool:
    """Whether a run of the job waits or is alive.

    Runs of any job that have died are entered as failed on the way, so that they are
    retried and no other waits for them: Dagster does not look after the processes of
    runs on its own machine. A live run holds `run.lock` from its first step on.
    """
    found = instance.get_run_records(dg.RunsFilter(statuses=UNDER_WAY))
    is_alive = is_held(home.run_lock)
    alive = set()
    for record in found:
        run = record.dagster_run
        seconds = time.time() - (record.start_time or time.time())
        if is_alive or seconds < FIRST_STEP_S:
            alive.add(run.job_name)
        else:
            instance.report_run_failed(run, "Its process ended before it did.")
    return job in alive
