"""Measures how long after its answer an event is visible to `loomline sql`.

`loomline collect`, `loomline land --watch` and `loomline run --watch` share a home of
1,000 events. Events are sent to the collector one by one, some seconds apart. One is
visible once a published version has it in `staging.events`, opened as `loomline sql`
does. Nothing is synced: the time destinations take to answer would come on top.
"""

import http.client
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.collector import DATA, KEY, event, running, serving
from benchmarks.measure import machine
from connectors.home import Home
from orchestration.project import Project
from orchestration.snapshot.reader import open_snapshot

__all__ = ["main"]

EVENTS = 1000
PROBES = 30
PAUSE_S = (4.0, 12.0)
"""Random pause between two probes, so that they meet every phase of a run."""

LOOK_S = 0.05
PATIENCE_S = 300
SEED = 20261121


def main() -> None:
    print(f"visible: {machine()}, load average {os.getloadavg()[0]:.1f}")
    DATA.mkdir(exist_ok=True)
    loomline = str(Path(sys.executable).with_name("loomline"))
    with tempfile.TemporaryDirectory(dir=DATA) as folder, ExitStack() as stack:
        home = Home(Path(folder) / "loomline")
        url, _ = stack.enter_context(serving(home.path, 1))
        env = {
            "LOOMLINE_HOME": str(home.path),
            "LOOMLINE_PROJECT": str(Project.find().path),
            "DBT_TARGET_PATH": str(home.path / "target"),
        }
        _send(url, [event(number) for number in range(EVENTS)])
        for arguments in (["land", "--watch"], ["run", "--watch", "--no-push"]):
            command = [loomline, *arguments]
            log = stack.enter_context((home.path / f"{arguments[0]}.log").open("w"))
            process = running(command, env, stop_s=PATIENCE_S, stderr=log)
            stack.enter_context(process)
        _wait_for_first(home)
        delays_s, versions, spent_s = _probe(home, url)
        asked_s = [_ask(loomline, env) for _ in range(5)]
    cuts = statistics.quantiles(delays_s, n=100, method="inclusive")
    print(
        f"  from the answer until visible: p50 {cuts[49]:.1f} s, p95 {cuts[94]:.1f} s, "
        f"at most {max(delays_s):.1f} s; {len(delays_s)} events one by one\n"
        f"  {versions} versions, one every {spent_s / versions:.1f} s\n"
        f"  `loomline sql` itself takes {statistics.median(asked_s):.1f} s\n"
        f"  load average at the end {os.getloadavg()[0]:.1f}",
        flush=True,
    )


def _send(url: str, calls: list[dict[str, Any]]) -> float:
    """Send a batch; return the moment its answer was read.

    Raises:
        RuntimeError: the answer was not 200.
    """
    headers = {"Authorization": f"Bearer {KEY}"}
    body = json.dumps({"batch": calls})
    with closing(http.client.HTTPConnection(urlsplit(url).netloc)) as connection:
        connection.request("POST", "/v1/batch", body, headers)
        status = connection.getresponse().status
        answered_at = time.monotonic()
    if status != 200:
        raise RuntimeError(f"The collector answered {status}.")
    return answered_at


def _wait_for_first(home: Home) -> None:
    until = time.monotonic() + PATIENCE_S
    while not (home.published / "current").is_symlink():
        if time.monotonic() > until:
            raise RuntimeError(f"Nothing was published within {PATIENCE_S} s.")
        time.sleep(LOOK_S)


def _probe(home: Home, url: str) -> tuple[list[float], int, float]:
    """Return the delay of every probe, the number of versions, and the total time.

    Raises:
        RuntimeError: a probe was not visible in time.
    """
    chance = random.Random(SEED)
    answered_at: dict[str, float] = {}
    delays_s: dict[str, float] = {}
    version, versions = os.readlink(home.published / "current"), 0
    started = due = time.monotonic()
    while len(delays_s) < PROBES:
        now = time.monotonic()
        if len(answered_at) < PROBES and now >= due:
            call = event(EVENTS + len(answered_at))
            answered_at[call["messageId"]] = _send(url, [call])
            due = now + chance.uniform(*PAUSE_S)
        current = os.readlink(home.published / "current")
        if current != version:
            version, versions = current, versions + 1
            waiting = answered_at.keys() - delays_s.keys()
            seen = _visible(home, waiting)
            delays_s |= {id_: time.monotonic() - answered_at[id_] for id_ in seen}
        if now - max(answered_at.values()) > PATIENCE_S:
            raise RuntimeError(f"{PROBES - len(delays_s)} events did not appear.")
        time.sleep(LOOK_S)
    return list(delays_s.values()), versions, time.monotonic() - started


def _visible(home: Home, ids: set[str]) -> set[str]:
    query = "select message_id from staging.events where message_id in "
    query += "(select unnest(?))"
    with open_snapshot(home) as snapshot:
        rows: list[tuple[str]] = snapshot.execute(query, [list(ids)]).fetchall()
    return {row[0] for row in rows}


def _ask(loomline: str, env: dict[str, str]) -> float:
    started = time.monotonic()
    subprocess.run(
        [loomline, "sql", "select count(*) from staging.events"],
        env={**os.environ, **env},
        capture_output=True,
        check=True,
    )
    return time.monotonic() - started


if __name__ == "__main__":
    main()
