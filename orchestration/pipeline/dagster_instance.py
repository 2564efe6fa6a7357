"""Dagster's records of runs: where they are, and how they are written."""

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

DIED = "Its process ended before it did."

INSTANCE = """\
# Written once, yours to edit: https://docs.dagster.io/deployment/dagster-yaml
telemetry:
  enabled: false
nux:
  enabled: false # no question for an address on the first page
concurrency:
  pools:
    granularity: run # the pool `warehouse`: one run at a time writes, others queue
    default_limit: 1
run_monitoring:
  enabled: true
run_retries: # of runs whose process died; a step that failed is for somebody to see
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
    """Make DAGSTER_HOME, with a dagster.yaml unless it has one."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "dagster.yaml").exists():
        (folder / "dagster.yaml").write_text(INSTANCE)


@contextmanager
def records(home: Home) -> Iterator[dg.DagsterInstance]:
    """The Dagster instance of DAGSTER_HOME, for a run in this process.

    To be opened while `run.lock` is held: runs that other processes like this one are
    said to have under way on the home folder have died, and are entered as failed.
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

    Whoever closes such a file last has it synced and its log folded in: for 400 events
    36 s on a busy disk and 5 s on an idle one, 2.7 s with this (2026-11-21). A power
    cut may lose the last events of a run's record; it cannot damage it
    (https://www.sqlite.org/pragma.html#pragma_synchronous). PostgreSQL is left alone.
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
                # Each time: a new file is not in WAL mode yet when it is first opened,
                # and only who has read it since keeps its log.
                held[path].execute("select count(*) from sqlite_master").fetchone()

        event.listen(Engine, "connect", connected)
        try:
            yield
        finally:
            event.remove(Engine, "connect", connected)
