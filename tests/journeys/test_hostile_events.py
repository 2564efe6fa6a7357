"""No accepted event can stop a run or make it expensive."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import duckdb
import psutil
import pytest

from connectors.home import Home
from tests.support import PROJECT
from tests.support.collecting import COMMAND, collecting, make_key
from tests.support.hostile import KINDS, hostile_events

SEED = 20_261_121
MOST_BYTES = 1_000_000_000  # of memory, all processes of a run together
BATCH_BYTES = 4 << 20
KEY = "WK_TEST_1"


@dataclass(frozen=True)
class Spent:
    """Resources used by a run."""

    seconds: float
    peak_bytes: int  # resident, all its processes at one moment

    def __str__(self) -> str:
        return f"{self.seconds:.0f} s, {self.peak_bytes / 1e6:.0f} MB"


def run(home: Home) -> Spent:
    """Run `loomline run`, which must succeed."""
    started = time.monotonic()
    process = subprocess.Popen(
        [*COMMAND, "run", "--no-push"],
        env={
            **os.environ,
            "LOOMLINE_HOME": str(home.path),
            "LOOMLINE_PROJECT": str(PROJECT),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    peak = 0
    root = psutil.Process(process.pid)
    while True:
        peak = max(peak, _resident(root))
        try:
            said, _ = process.communicate(timeout=0.02)
        except subprocess.TimeoutExpired:
            continue
        break
    assert process.returncode == 0, said
    return Spent(time.monotonic() - started, peak)


def _resident(root: psutil.Process) -> int:
    count = 0
    try:
        for process in (root, *root.children(recursive=True)):
            count += process.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return count


def send(home: Home, count: int, seed: int, prefix: str) -> set[str]:
    """Send events through a collector, which must admit all; return their ids."""
    admitted: set[str] = set()
    sent = list(hostile_events(count, seed, prefix))
    with collecting(home) as collector:
        while sent:
            batch: list[bytes] = []
            while sent and sum(map(len, batch)) + len(sent[0][1]) < BATCH_BYTES:
                batch.append(sent.pop(0)[1])
            answer = collector.post(
                "/v1/batch?receipts=1",
                b'{"batch":[%b]}' % b",".join(batch),
                headers={"authorization": f"Bearer {KEY}"},
            )
            assert answer.status_code == 200, answer.text[:500]
            receipts = answer.json()["events"]
            assert len(receipts) == len(batch)
            assert {receipt["status"] for receipt in receipts} == {"admitted"}, [
                receipt for receipt in receipts if receipt["status"] != "admitted"
            ]
            admitted |= {receipt["id"] for receipt in receipts}
    assert len(admitted) == count
    return admitted


def assert_nothing_is_lost(home: Home, admitted: set[str]) -> None:
    with duckdb.connect(str(home.warehouse), read_only=True) as warehouse:

        def value(query: str) -> object:
            return warehouse.sql(query).fetchall()[0][0]

        assert value("select sum(items) from raw.received_counts") == len(admitted)
        assert value("select count(*) from raw.dispositions") == len(admitted)
        stored = warehouse.sql("select message_id from staging.events").fetchall()
        assert sorted(id_ for (id_,) in stored) == sorted(admitted)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    make_key(home, KEY)
    return home


def test_hostile_events_of_every_kind_leave_a_run_green_and_small(home: Home) -> None:
    admitted = send(home, 150, SEED, "h")
    assert len(KINDS) < 150
    spent = run(home)
    assert_nothing_is_lost(home, admitted)
    assert spent.peak_bytes < MOST_BYTES, str(spent)


def test_one_large_event_does_not_make_those_after_it_costly(home: Home) -> None:
    """DuckDB reads a long text again for each null after it: 1 MB, 4,000 times."""
    lines = [
        {
            "type": "track",
            "event": "Cart Updated",
            "messageId": f"m{number}",
            "userId": f"u{number % 100}",
            **({"context": {"note": "x" * 1_000_000}} if number == 0 else {}),
        }
        for number in range(4_000)
    ]
    with collecting(home) as collector:
        for start in range(0, len(lines), 1_000):
            answer = collector.post(
                "/v1/batch",
                {"batch": lines[start : start + 1_000]},
                headers={"authorization": f"Bearer {KEY}"},
            )
            assert answer.status_code == 200
    spent = run(home)
    assert_nothing_is_lost(home, {str(line["messageId"]) for line in lines})
    assert spent.peak_bytes < MOST_BYTES, str(spent)


@pytest.mark.soak
def test_2000_hostile_events_leave_every_run_green_and_small(home: Home) -> None:
    admitted = send(home, 2_000, SEED, "h")
    first = run(home)
    assert_nothing_is_lost(home, admitted)
    quiet = run(home)
    admitted |= send(home, 100, SEED + 1, "again")
    later = run(home)
    assert_nothing_is_lost(home, admitted)
    told = f"first {first}; nothing new {quiet}; 100 more {later}"
    print(told, file=sys.stderr)
    for spent in (first, quiet, later):
        assert spent.peak_bytes < MOST_BYTES, told
