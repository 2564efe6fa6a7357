"""One run of the pipeline and its steps: land, build, push, publish.

The assets call these steps. A run holds `run.lock` from its first step to its last, so
a second run waits. The run after a killed one resumes its work.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa

from connectors.destinations.settings import Settings
from connectors.errors import ConfigError, LoomlineError
from connectors.home import Home
from connectors.ingest.importing import Imported
from connectors.ingest.inbox import land_inbox
from connectors.landing.compaction import compact, sweep
from connectors.landing.manifest import replace_file
from connectors.landing.prepare import prepare
from connectors.locks import exclusive
from orchestration.pipeline.build_state import Built, building, built_from
from orchestration.pipeline.dbt_runner import Models, open_when_free
from orchestration.pipeline.delivery import (
    Push,
    Recovered,
    deliver_changes,
    deliver_pending,
    read_syncs,
)
from orchestration.pipeline.memberships import (
    AudienceChange,
    last_run_number,
    membership_changes,
)
from orchestration.pipeline.model_errors import without_values
from orchestration.pipeline.unknown_names import UnknownName, unknown_names
from orchestration.snapshot.writer import Published, publish

__all__ = ["ChecksFailed", "Run", "RunResult", "locked", "refuse_the_past", "running"]

Say = Callable[[str], None]


class ChecksFailed(LoomlineError):
    """A check that stops pushes failed; destinations keep their lists."""


@dataclass(slots=True)
class RunResult:
    """Result of a run, with its `seconds` by stage.

    The stages are wait (for another run), land, models, lineage (of columns, for
    Dagster), checks, push, publish and dagster (recording the others).
    """

    at: datetime
    imported: Imported = field(default_factory=Imported)
    audiences: list[AudienceChange] = field(default_factory=list)  # changed ones
    checks: Counter[str] = field(default_factory=Counter)  # passed, warned
    pushes: list[Push] = field(default_factory=list)
    published: Published | None = None
    warnings: list[str] = field(default_factory=list)  # of noncritical checks
    seconds: dict[str, float] = field(default_factory=dict)
    recorded_as: str | None = None  # id of the run in Dagster
    on_stage: Say = lambda stage: None

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        self.on_stage(stage)
        started = time.monotonic()
        try:
            yield
        finally:
            spent = time.monotonic() - started
            self.seconds[stage] = self.seconds.get(stage, 0) + spent
            self.on_stage("dagster")

    def note_check(self, warnings: Sequence[str]) -> None:
        """Count a check that did not stop the run, and keep its warnings."""
        self.checks["warned" if warnings else "passed"] += 1
        self.warnings += warnings


@dataclass(slots=True)
class Run:
    """A run in progress, created by `running`."""

    models: Models
    result: RunResult
    full_refresh: bool = False
    say: Say = lambda message: None
    _destinations: dict[str, Settings] = field(default_factory=dict)
    _recovered: Recovered = field(default_factory=dict)
    _settled: set[str] = field(default_factory=set)  # destinations
    _is_current: bool = False  # whether the models of deliveries are current

    @property
    def home(self) -> Home:
        return self.models.project.home

    @property
    def at(self) -> datetime:
        """The as-of instant."""
        return self.result.at

    def land(self) -> Imported:
        """Land the files of the inbox, then compact landed files."""
        path = self.models.project.path
        with self.result.timed("land"):
            landed = land_inbox(self.home, path, on_problem=self.say)
            self.result.imported.add(landed)
            compact(self.home)
            pa.default_memory_pool().release_unused()
        return landed

    def build(
        self, select: str | None = None, only: tuple[str, ...] | None = None
    ) -> list[Any]:
        """Build and test all or the selected models, and return dbt's results.

        `only` names the audiences that are due, None means all. If the identity rules
        have changed, everything is rebuilt regardless of the selection.

        Raises:
            ModelsFailed: a model or a test failed; its `nodes` are the results.
            ConfigError: the as-of instant is before the last evaluation.
        """
        with self.result.timed("models"):
            self.models.wait_until_free()
            refuse_the_past(self.home, self.at, self.say)
            last = last_run_number(self.home, self.say)
            project, built = self.models.project, Built(self.home)
            newest = built.newest()
            with building(project.path, self.home) as must_rebuild:
                if must_rebuild:
                    self.say("The identity rules have changed. Rebuilding all models.")
                nodes = self.models.run(
                    "build",
                    at=self.at,
                    select=None if must_rebuild else select,
                    full_refresh=self.full_refresh or must_rebuild,
                    only=only,
                )
            built.remember(project.audiences(), only, self.at, newest)
            if select is None or must_rebuild:
                replace_file(built_from(self.home), self.models.definitions())
            sweep(self.home)
            self.result.audiences += membership_changes(self.home, last, self.say)
        for one in nodes:
            if one.node.resource_type == "test":
                message = without_values(f"{one.node.name}: {one.message}")
                self.result.note_check([] if str(one.status) == "pass" else [message])
        self._is_current = True
        return nodes

    def unknown_names(self) -> list[UnknownName]:
        """Events and traits that audiences ask for and no profile has had."""
        with self.result.timed("checks"):
            self.models.wait_until_free()
            return unknown_names(self.models)

    def push(self, destination: str, audience: str | None) -> list[Push]:
        """Update a destination's list of an audience.

        Without an audience, empty the lists of audiences that are no longer synced
        there. Unconfirmed batches of earlier runs are sent first.

        Raises:
            ConfigError: a variable of the destination is missing; nothing was sent.
        """
        with self.result.timed("push"):
            if not self._destinations:
                self._destinations = self.models.project.destinations()
            if destination not in self._settled:
                settings = {destination: self._destinations[destination]}
                recovered = deliver_pending(self.home, settings)
                self._recovered |= recovered
                self._settled.add(destination)
                # The models do not know these confirmations yet.
                self._is_current &= not recovered
            if not self._is_current:
                self.models.update_confirmed(at=self.at)
                self._is_current = True
            self.models.wait_until_free()
            syncs = [
                sync
                for sync in read_syncs(self.home, self.say)
                if sync.destination == destination
                and (sync.audience == audience if audience else not sync.is_listed)
            ]
            pushes = deliver_changes(
                self.home,
                self._destinations,
                syncs,
                at=self.at,
                recovered=self._recovered,
            )
        self.result.pushes += pushes
        return pushes

    def publish(self) -> Published:
        """Update the models of deliveries, then publish the tables for readers."""
        with self.result.timed("models"):
            self.models.update_confirmed(at=self.at)
        with self.result.timed("publish"):
            self.models.wait_until_free()
            self.result.published = publish(self.home, at=self.at)
        for view in self.result.published.unreadable:
            self.say(f"{view} is not published, because a table it reads is missing.")
        known = self.models.project.destinations()
        for sync in read_syncs(self.home, self.say):
            if sync.destination not in known and sync.held:
                self.say(
                    f"{sync.destination} is no longer configured, but its list of "
                    f"{sync.audience} still has {sync.held} people."
                )
        return self.result.published


@contextmanager
def running(
    models: Models,
    *,
    at: datetime,
    full_refresh: bool = False,
    say: Say = lambda message: None,
    on_stage: Say = lambda stage: None,
) -> Iterator[Run]:
    """Hold `run.lock` for a run; wait for another run, and name its process."""
    result = RunResult(at, on_stage=on_stage)
    with ExitStack() as stack:
        with result.timed("wait"):
            stack.enter_context(locked(models.project.home, say))
        yield Run(models, result, full_refresh, say)


@contextmanager
def locked(home: Home, say: Say) -> Iterator[None]:
    """Prepare a home and hold its `run.lock`; wait for a run, and name its process."""
    prepare(home)
    waiting = "Waiting for another run to end: {}".format
    with exclusive(home.run_lock, on_wait=lambda process: say(waiting(process))):
        yield


def refuse_the_past(home: Home, at: datetime, say: Say) -> None:
    """Histories only grow: who left cannot have left before they entered.

    Raises:
        ConfigError: the as-of instant is before the last evaluation.
    """
    if not home.warehouse.exists():
        return
    with open_when_free(home.warehouse, say, read_only=True) as warehouse:
        try:
            last = warehouse.sql(
                "select max(changed_at) from audiences.int_membership_changes"
            ).fetchone()
        except duckdb.CatalogException:
            return  # nothing has been evaluated yet
    latest: datetime | None = last[0] if last else None
    if latest is not None and at < latest.replace(tzinfo=UTC):
        demo = " Or reset the demo with `loomline demo --reset`."
        raise ConfigError(
            f"{at:%Y-%m-%dT%H:%M:%SZ} is before the last evaluation, "
            f"{latest:%Y-%m-%dT%H:%M:%SZ}, and histories are append-only. "
            "Set --as-of (or LOOMLINE_NOW) to that instant or later."
            f"{demo if home.demo.exists() else ''}"
        )
