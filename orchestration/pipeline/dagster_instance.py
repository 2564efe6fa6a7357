"""The Dagster instance that records runs."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import dagster as dg
from sqlalchemy import event
from sqlalchemy.engine import Engine

from connectors.home import Home

__all__ = ["DIED", "home_tag", "kept_open", "own_tags", "prepare_records", "records"]

DIED = "The process of this run ended before the run."

INSTANCE = """\
# Created once; edit as needed: https://docs.dagster.io/deployment/dagster-yaml
telemetry:
  enabled: false
nux:
  enabled: false # do not ask for an email address on the first page
concurrency:
  pools:
    granularity: run # pool `warehouse`: one run writes at a time, others queue
    default_limit: 1
run_monitoring:
  enabled: true
run_retries: # only of runs whose process died; failed steps need a person
  enabled: true
  max_retries: 2
  retry_on_asset_or_op_failure: false
"""


def own_tags(home: Home) -> dict[str, str]:
    """Tags of runs that `loomline run` starts on a home folder."""
    return {"loomline/started_by": "loomline run", **home_tag(home)}


def home_tag(home: Home) -> dict[str, str]:
    """The tag of every run on a home folder: instances may be shared."""
    return {"loomline/home": str(home.path)}


def prepare_records(folder: Path) -> None:
    """Create DAGSTER_HOME and its dagster.yaml, if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "dagster.yaml").exists():
        (folder / "dagster.yaml").write_text(INSTANCE)


@contextmanager
def records(home: Home) -> Iterator[dg.DagsterInstance]:
    """Open the Dagster instance of DAGSTER_HOME, for a run in this process.

    Hold `run.lock` when calling this: other runs of `loomline run` that are recorded as
    started on the home folder must have died, and are marked as failed.
    """
    prepare_records(Path(os.environ["DAGSTER_HOME"]))
    with kept_open(), dg.DagsterInstance.get() as instance:
        left = dg.RunsFilter(
            tags=own_tags(home), statuses=[dg.DagsterRunStatus.STARTED]
        )
        for run in instance.get_runs(left):
            instance.report_run_failed(run, DIED)
        yield instance


@contextmanager
def kept_open() -> Iterator[None]:
    """Keep the SQLite files open that Dagster opens and closes for each event.

    The last connection that closes a file syncs it and checkpoints its log: 400 events
    took 36 s on a busy disk and 5 s on an idle one, and take 2.7 s with this
    (2026-11-21). A power cut can lose the last events of a run's record but cannot
    damage it (https://www.sqlite.org/pragma.html#pragma_synchronous). PostgreSQL is not
    affected.
    """
    with ExitStack() as files:
        held: dict[str, sqlite3.Connection] = {}

        def connected(connection: object, _: object) -> None:
            if not isinstance(connection, sqlite3.Connection):
                return
            connection.execute("pragma synchronous = normal")
            path = connection.execute("pragma database_list").fetchone()[2]
            if path and path not in held:
                held[path] = sqlite3.connect(path, check_same_thread=False)
                files.enter_context(closing(held[path]))
            if path:
                # On each connect: a new file is not in WAL mode when first opened, and
                # only a connection that has read since then keeps the log.
                held[path].execute("select count(*) from sqlite_master").fetchone()

        event.listen(Engine, "connect", connected)
        try:
            yield
        finally:
            event.remove(Engine, "connect", connected)
