"""One run: land, build the models, push the differences."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import duckdb

from connectors.errors import ConfigError
from connectors.landing.compaction import compact, sweep
from connectors.landing.home import Home
from connectors.landing.importing import Imported
from connectors.landing.inbox import land_inbox
from connectors.landing.locks import exclusive
from connectors.landing.prepare import prepare
from orchestration.delivery import (
    Push,
    Recovered,
    deliver_changes,
    deliver_pending,
    read_syncs,
)
from orchestration.models import Models
from orchestration.rules import building

__all__ = ["RunResult", "run"]

Say = Callable[[str], None]


@dataclass(slots=True)
class RunResult:
    """What a run did; `seconds` by stage: land, models, push."""

    at: datetime
    imported: Imported = field(default_factory=Imported)
    pushes: list[Push] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            spent = time.monotonic() - started
            self.seconds[stage] = self.seconds.get(stage, 0) + spent


def run(
    models: Models,
    *,
    at: datetime,
    full_refresh: bool = False,
    push: bool = True,
    only: tuple[str, ...] = (),
    say: Say = lambda message: None,
) -> RunResult:
    """Land what waits in the inbox, build and test the models, push what changed.

    Holds `run.lock`: a second run waits. Stopped anywhere, the next one carries on.
    Nothing is pushed when a model or a test failed.

    Raises:
        ModelsFailed: a model or a test failed.
        ConfigError: a destination's variable is missing, so nothing was pushed, or
            the instant is before the last evaluation, so nothing was done.
    """
    project = models.project
    home = project.home
    result = RunResult(at)
    destinations = project.destinations()
    prepare(home)
    waiting = "Waiting for another run to end: {}".format
    with exclusive(home.run_lock, on_wait=lambda who: say(waiting(who))):
        with result.timed("land"):
            result.imported = land_inbox(home, project.path, on_problem=say)
            compact(home)
        recovered: Recovered = {}
        models.wait_until_free()
        _refuse_the_past(home, at)
        if push:
            with result.timed("push"):
                recovered = deliver_pending(home, destinations)
        with result.timed("models"), building(project) as must_rebuild:
            if must_rebuild:
                say("The identity rules have changed: building everything anew.")
            is_full = full_refresh or must_rebuild
            models.run("build", at=at, full_refresh=is_full, only=only)
        sweep(home)
        if push:
            with result.timed("push"):
                syncs = read_syncs(home)
                for sync in syncs:
                    if sync.destination not in destinations:
                        say(
                            f"{sync.destination} is configured no longer, but still "
                            f"holds {sync.held} of {sync.audience}."
                        )
                if only:
                    syncs = [sync for sync in syncs if sync.audience in only]
                result.pushes = deliver_changes(
                    home, destinations, syncs, at=at, recovered=recovered
                )
            with result.timed("models"):
                models.refresh_confirmed(at=at)
    for one in result.pushes:
        if one.held_back:
            sync = one.sync
            say(f"{sync.audience} → {sync.destination}: waiting; {one.held_back}")
    return result


def _refuse_the_past(home: Home, at: datetime) -> None:
    """Histories only grow: who left cannot have left before they entered."""
    if not home.warehouse.exists():
        return
    with duckdb.connect(str(home.warehouse), read_only=True) as warehouse:
        try:
            found = warehouse.sql(
                "select max(changed_at) from audiences.int_membership_changes"
            ).fetchone()
        except duckdb.CatalogException:
            return  # nothing has been evaluated yet
    latest: datetime | None = found[0] if found else None
    if latest is not None and at < latest.replace(tzinfo=UTC):
        raise ConfigError(
            f"{at:%Y-%m-%dT%H:%M:%SZ} is before the last evaluation, "
            f"{latest:%Y-%m-%dT%H:%M:%SZ}: memberships are history and only grow. "
            "Give --as-of (or LOOMLINE_NOW) that instant or a later one."
        )
