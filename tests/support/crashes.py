"""Landing stopped at every step, and what must hold of a home after that."""

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb

from connectors.home import Home
from connectors.landing.manifest import Manifest
from tests.support import PROJECT

__all__ = [
    "LEFT_OUT",
    "STREAMS",
    "Rows",
    "assert_balanced",
    "assert_whole",
    "raw",
    "stopped",
]

Rows = dict[str, list[tuple[Any, ...]]]
STREAMS = ("events", "received_counts", "dispositions", "consent")


def stopped(home: Home, project: Path, *actions: str) -> list[Home]:
    """Copies of the home on which the action was stopped at its 1st, 2nd, … step.

    Killed there, or, with a second action, paused while that one is done.
    """
    command = [sys.executable, "-m", "tests.support.steps", str(home.path)]
    done = subprocess.run(
        [*command, str(project), *actions],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    count = int(done.stdout)
    assert count > 3, "the action takes steps"
    name = home.path.name
    return [Home(home.path.with_name(f"{name}-{n:03}")) for n in range(1, count + 1)]


def raw(home: Home) -> Rows:
    """What the manifest holds, stream by stream; instants of the import left out."""
    found: Rows = {}
    files = Manifest(home).files()
    with duckdb.connect() as engine:
        for stream in STREAMS:
            rows: list[tuple[Any, ...]] = []
            for file in files:
                if file.stream == stream:
                    path = home.raw / file.path
                    has_own = file.tier != "load"
                    seq = "load_seq" if has_own else f"{file.load_seq} as load_seq"
                    left_out = "load_seq, " if has_own else ""
                    given = engine.sql(
                        f"select * exclude ({left_out} {LEFT_OUT[stream]}), {seq} "
                        f"from read_parquet('{path}')"
                    ).fetchall()
                    assert len(given) == file.rows
                    rows += given
            found[stream] = sorted(rows, key=repr)
    return found


LEFT_OUT = {
    "events": "received_at, timestamp, row_hash",
    "received_counts": "segment, hour",
    "dispositions": "received_at, reason",
    "consent": "received_at",
}


def assert_whole(home: Home) -> None:
    """Every file the manifest names is there, is what was entered, and counts once."""
    files = Manifest(home).files()
    for file in files:
        data = (home.raw / file.path).read_bytes()
        assert hashlib.sha256(data).hexdigest() == file.sha256, file.path
    entered = [(file.stream, name) for file in files for name in file.names]
    assert len(entered) == len(set(entered))


def assert_balanced(home: Home) -> None:
    rows = raw(home)
    received = sum(row[1] for row in rows["received_counts"])
    assert received == len(rows["dispositions"])
