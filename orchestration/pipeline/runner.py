"""Runs the definitions in this process, without a daemon.

The Dagster instance of DAGSTER_HOME records each run with its checks and metadata.
"""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import dagster as dg

from connectors.errors import LoomlineError
from orchestration.assets.graph import graph
from orchestration.assets.schedules import unselected
from orchestration.assets.sync_assets import push_keys
from orchestration.pipeline.build_state import Built
from orchestration.pipeline.dagster_instance import own_tags, records
from orchestration.pipeline.dbt_runner import Models
from orchestration.pipeline.run import Run, RunResult, running
from orchestration.project import Project, instant

__all__ = ["Pipeline", "RunStopped"]

Say = Callable[[str], None]

LOOK_S = 1.0
RETRY_S = 60.0  # after a failed run
WINDOWS_MOVE = timedelta(minutes=5)  # like the schedule of `continuous`

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class RunStopped(LoomlineError):
    """The run was stopped; the next one resumes its work."""


class Pipeline:
    """The definitions of a project and dbt's manifest, for many runs.

    Raises:
        ConfigError: the configuration is invalid; lists every fault.
        ModelsFailed: dbt cannot read the models.
    """

    def __init__(
        self,
        project: Project,
        say: Say = lambda message: None,
        on_stage: Say = lambda stage: None,
    ) -> None:
        self.project = project
        self._say = say
        self._on_stage = on_stage
        self._models = Models(project, say=say)
        self._under_way: Run | None = None
        self._define()

    def run(
        self,
        *,
        at: datetime,
        full_refresh: bool = False,
        push: bool = True,
        only: tuple[str, ...] | None = None,
    ) -> RunResult:
        """Land the inbox, build and check the models, push, and publish.

        `only` names the audiences that are due, None means all. Holds `run.lock`, so a
        second run waits. If a run is stopped, the next one resumes its work. If a
        model, a test or a critical check fails, nothing is pushed or published.

        Raises:
            ModelsFailed: a model or a test failed.
            ChecksFailed: a critical check failed.
            ConfigError: a destination's variable is missing, or the as-of instant is
                before the last evaluation. Nothing was done.
        """
        audiences = self.project.audiences()
        due = {*audiences} if only is None else {*only}
        selection = dg.AssetSelection.all() - unselected(audiences, due)
        if not push:
            pushes = push_keys(audiences, self.project.destinations())
            selection -= dg.AssetSelection.assets(*pushes)
        keys = selection.resolve(self._assets)
        result = self._execute([*keys], at=at, full_refresh=full_refresh)
        for one in result.pushes:
            if one.held_back:
                sync = one.sync
                self._say(
                    f"{sync.audience} → {sync.destination} was not delivered: "
                    f"{one.held_back}"
                )
        return result

    def watch(self, *, push: bool, stop: threading.Event) -> None:
        """Run when files have landed and when audiences are due by the clock.

        dbt's manifest stays in memory and is parsed again when a file of the project
        changes. A failed run is reported, and retried after a minute.
        """
        built = Built(self.project.home)
        last = datetime.min.replace(tzinfo=UTC)
        while not stop.is_set():
            at = instant(None)
            if built.has_news() or at - last >= WINDOWS_MOVE:
                last = at
                try:
                    if self._models.is_outdated():
                        self._define()
                    due = built.due(self.project.audiences(), at)
                    self._say(_line(self.run(at=at, push=push, only=due)))
                except RunStopped as stopped:
                    self._say(str(stopped))
                    return
                except LoomlineError as error:
                    self._say(str(error))
                    stop.wait(RETRY_S)
            stop.wait(LOOK_S)

    def _execute(
        self, keys: list[dg.AssetKey], *, at: datetime, full_refresh: bool = False
    ) -> RunResult:
        began = time.monotonic()
        with (
            running(
                self._models,
                at=at,
                full_refresh=full_refresh,
                say=self._say,
                on_stage=self._on_stage,
            ) as self._under_way,
            records(self.project.home) as instance,
        ):
            try:
                done = self._job.execute_in_process(
                    instance=instance,
                    asset_selection=keys,
                    run_config=QUIET,
                    tags=own_tags(self.project.home),
                )
            except dg.DagsterExecutionInterruptedError:
                raise RunStopped("Stopped. The next run resumes the work.") from None
        result = self._under_way.result
        result.recorded_as = done.run_id
        spent = time.monotonic() - began
        result.seconds["dagster"] = spent - sum(result.seconds.values())
        return result

    def _define(self) -> None:
        definitions = graph(self._models, lambda: self._under_way)
        self._job = definitions.resolve_job_def("everything")
        self._assets = definitions.resolve_asset_graph()


def _line(result: RunResult) -> str:
    added = sum(push.added for push in result.pushes)
    removed = sum(push.removed for push in result.pushes)
    spent = sum(result.seconds.values())
    return (
        f"{result.at:%H:%M:%S} received {result.imported.received:,}, "
        f"added {added:,}, removed {removed:,}; {spent:.1f} s"
    )
