"""What a stranger can send never stops a run, and nothing of it is lost."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil  # type: ignore[import-untyped]
import pytest

from connectors.landing.home import Home
from tests.collecting import COMMAND, PROJECT, collecting, make_key
from tests.hostile import KINDS, hostile_items

LIMIT_BYTES = 1 << 30
BATCH_BYTES = 8 << 20


def bodies(items: Iterator[bytes]) -> Iterator[tuple[int, bytes]]:
    """Batches that a collector takes: their number of items, and the JSON."""
    batch: list[bytes] = []
    for item in items:
        if batch and sum(map(len, batch)) + len(item) > BATCH_BYTES:
            yield len(batch), b'{"batch":[%b]}' % b",".join(batch)
            batch = []
        batch.append(item)
    yield len(batch), b'{"batch":[%b]}' % b",".join(batch)


def run(home: Home) -> int:
    """`loomline run`; the most memory its processes had together, in bytes."""
    env = {**os.environ, "LOOMLINE_HOME": str(home.path)}
    process = psutil.Popen(
        [*COMMAND, "run", "--no-push"],
        env={**env, "LOOMLINE_PROJECT": str(PROJECT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    peak = 0
    while process.poll() is None:
        peak = max(peak, memory(process))
        time.sleep(0.05)  # between two samples
    output = process.stdout.read()
    assert process.returncode == 0, output[-3000:]
    return peak


def memory(process: psutil.Process) -> int:
    total = 0
    for one in (process, *process.children(recursive=True)):
        try:
            total += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue  # it has ended since
    return total


def answer(home: Home, query: str) -> list[list[int]]:
    printed = subprocess.run(
        [*COMMAND, "sql", "--json", query],
        env={**os.environ, "LOOMLINE_HOME": str(home.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    rows: list[list[int]] = json.loads(printed.stdout)["rows"]
    return rows


@pytest.mark.parametrize(
    "count",
    [8 * len(KINDS), pytest.param(2_000, marks=pytest.mark.soak)],
)
def test_hostile_events_never_stop_a_run(tmp_path: Path, count: int) -> None:
    home = Home(tmp_path / "home")
    key = make_key(home, kind="browser")
    sent = 0
    with collecting(home) as collector:
        for number, body in bodies(hostile_items(7, count)):
            given = collector.post("/v1/batch", body, auth=(key, ""))
            assert given.status_code == httpx.codes.OK, given.text
            sent += number
    assert sent == count
    peaks = [run(home), run(home)]
    print(f"{count} items: peak {[peak >> 20 for peak in peaks]} MiB")
    assert max(peaks) < LIMIT_BYTES
    ((received, disposed, accepted, events),) = answer(
        home,
        """
        select
            (select cast(sum(items) as bigint) from raw.received_counts),
            (select count(*) from raw.dispositions),
            (
                select count(*) from staging.dispositions
                where disposition = 'accepted'
            ) as accepted,
            (select count(*) from staging.events) as events
        """,
    )
    assert received == disposed == count
    assert accepted == events > count / 2
