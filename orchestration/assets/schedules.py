"""Jobs and schedules per `refresh`, and the sensor for new files."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster._core.definitions.definitions_load_context import DefinitionsLoadContext
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.storage.tags import REPOSITORY_LABEL_TAG

from connectors.home import Home
from connectors.landing.prepare import prepare
from connectors.locks import is_held
from orchestration.audiences import DAILY_HOUR, REFRESHES, Audience, Refresh
from orchestration.pipeline.build_state import Built
from orchestration.pipeline.dagster_instance import DIED, own_tags

__all__ = ["location", "refreshes", "unselected"]

CRON: dict[Refresh, str] = {
    "continuous": "*/5 * * * *",  # windows move even if nothing lands
    "hourly": "0 * * * *",
    "daily": f"0 {DAILY_HOUR} * * *",
}
WATCH_S = 30
FIRST_STEP_S = 120  # time in which a started run must take run.lock

UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]

Timing = tuple[list[Any], list[dg.ScheduleDefinition], list[dg.SensorDefinition]]
"""Jobs, schedules, sensors; Dagster has no public type for unresolved jobs."""


def location() -> str | None:
    """Return the code location that loads these definitions.

    Dagster passes it to sensors but not to schedules. None outside a code server.
    """
    return DefinitionsLoadContext.get().code_location_name


def refreshes(
    home: Home,
    audiences: Mapping[str, Audience],
    location: str | None = None,
    clock: Callable[[], float] = time.time,
) -> Timing:
    """Return a manual job `everything`, and scheduled jobs per refresh (UTC).

    A refresh lands new files and rebuilds the profiles, then the audiences that are due
    and their pushes. Schedules and sensor are on by default, unless the home's clock
    stands still (LOOMLINE_NOW, as in the demo).
    """
    everything = dg.define_asset_job(
        "everything", dg.AssetSelection.all(), description="All audiences, all pushes."
    )
    jobs = [everything]
    schedules = []
    is_still = bool(os.environ.get("LOOMLINE_NOW"))
    runs = _Runs(home, location, clock)
    for refresh in REFRESHES:
        due = {a.name for a in audiences.values() if a.refresh == refresh}
        if not due and refresh != "continuous":
            continue  # `continuous` always exists, to land new events
        job = dg.define_asset_job(
            refresh,
            dg.AssetSelection.all() - unselected(audiences, due),
            description=f"Lands new files and updates the {refresh} audiences: "
            f"{', '.join(sorted(due)) or 'none'}.",
            tags={"loomline/refresh": refresh},
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
    """Runs of this code location, and those of `loomline run` on its home folder.

    Other runs on the same Dagster instance are ignored: `run.lock` does not cover them.
    """

    home: Home
    location: str | None
    clock: Callable[[], float]

    def is_under_way(self, instance: dg.DagsterInstance, job: str) -> bool:
        """Return whether a run of the job is queued or alive.

        Also marks dead runs of all jobs as failed, so that Dagster retries them and no
        run waits for them: Dagster does not monitor processes on its own machine. A
        live run holds `run.lock` from its first step on.
        """
        is_alive = is_held(self.home.run_lock)
        alive = set()
        for record in self._under_way(instance):
            run = record.dagster_run
            now = self.clock()
            seconds = now - (record.start_time or now)
            if is_alive or seconds < FIRST_STEP_S:
                alive.add(run.job_name)
            else:
                instance.report_run_failed(run, DIED)
        return job in alive

    def _under_way(self, instance: dg.DagsterInstance) -> Iterator[dg.RunRecord]:
        tags = [own_tags(self.home)]
        if self.location is not None:
            label = f"{SINGLETON_REPOSITORY_NAME}@{self.location}"
            tags.append({REPOSITORY_LABEL_TAG: label})
        for ours in tags:
            yield from instance.get_run_records(
                dg.RunsFilter(statuses=UNDER_WAY, tags=ours)
            )
