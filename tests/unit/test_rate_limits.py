"""Token buckets that several processes share."""

import fcntl
import itertools
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.sources.rate_limits import SECOND_NS, Buckets, BucketsFull

MakeBuckets = Callable[..., Buckets]


class Clock:
    """Stands still until told."""

    def __init__(self, now_ns: int = 1_000 * SECOND_NS) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns

    def wait(self, seconds: float) -> None:
        self.now_ns += math.ceil(seconds * SECOND_NS)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[MakeBuckets]:
    opened = []

    def made(slots: int = 64, clock: Callable[[], int] | None = None) -> Buckets:
        buckets = Buckets(tmp_path / "limits", slots, clock or Clock())
        opened.append(buckets)
        return buckets

    yield made
    for buckets in opened:
        buckets.close()


def test_a_burst_passes_and_then_the_rate(make: MakeBuckets) -> None:
    clock = Clock()
    buckets = make(clock=clock)
    assert [buckets.take("web", 10, 5, 1) for _ in range(5)] == [0.0] * 5
    assert 0 < buckets.take("web", 10, 5, 1) < 1e-6
    clock.wait(0.05)
    assert buckets.take("web", 10, 5, 1) == 0.0
    assert buckets.take("web", 10, 5, 1) == pytest.approx(0.05)


def test_what_is_refused_passes_after_the_time_told(make: MakeBuckets) -> None:
    clock = Clock()
    buckets = make(clock=clock)
    assert buckets.take("web", 3, 7, 1000) == 0.0
    wait_s = buckets.take("web", 3, 7, 1)
    assert wait_s == pytest.approx(993 / 3)
    clock.wait(wait_s - 0.001)
    assert buckets.take("web", 3, 7, 1) > 0
    clock.wait(0.001)
    assert buckets.take("web", 3, 7, 1) == 0.0


def test_what_is_refused_costs_nothing(make: MakeBuckets) -> None:
    clock = Clock()
    buckets = make(clock=clock)
    buckets.take("web", 1, 10, 11)
    waits = {buckets.take("web", 1, 10, 1000) for _ in range(100)}
    assert list(waits) == [pytest.approx(1.0)]


def test_a_bucket_holds_no_more_than_its_burst(make: MakeBuckets) -> None:
    clock = Clock()
    buckets = make(clock=clock)
    buckets.take("web", 1000, 5, 1)
    clock.wait(86_400)
    taken = [buckets.take("web", 1000, 5, 1) == 0.0 for _ in range(10)]
    assert taken.count(True) == 5


STEPS = st.lists(
    st.tuples(st.floats(0, 3), st.integers(1, 50), st.sampled_from(["a", "b", "c"])),
    max_size=60,
)


@settings(deadline=None)
@given(steps=STEPS, rate=st.floats(0.1, 1e4), burst=st.integers(1, 100))
def test_over_any_time_no_more_passes_than_burst_rate_and_one_batch(
    steps: list[tuple[float, int, str]],
    rate: float,
    burst: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    clock = Clock()
    buckets = Buckets(tmp_path_factory.mktemp("limits") / "limits", 4, clock)
    passed: dict[str, list[tuple[int, int]]] = {"a": [], "b": [], "c": []}
    for pause_s, n, bucket in steps:
        clock.wait(pause_s)
        if buckets.take(bucket, rate, burst, n) == 0.0:
            passed[bucket].append((clock.now_ns, n))
    buckets.close()
    for batches in passed.values():
        for first, last in itertools.combinations_with_replacement(
            range(len(batches)), 2
        ):
            window_s = (batches[last][0] - batches[first][0]) / SECOND_NS
            events = sum(n for _, n in batches[first : last + 1])
            bound = burst + rate * window_s + batches[last][1]
            assert events <= bound + 1e-6


@settings(deadline=None)
@given(rate=st.floats(0.1, 1e4), burst=st.integers(1, 100), n=st.integers(1, 50))
def test_who_waits_as_told_gets_the_whole_rate(
    rate: float, burst: int, n: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    clock = Clock()
    buckets = Buckets(tmp_path_factory.mktemp("limits") / "limits", 4, clock)
    start_ns, events = clock.now_ns, 0
    for _ in range(100):
        wait_s = buckets.take("web", rate, burst, n)
        clock.wait(wait_s)
        events += n if wait_s == 0.0 else 0
    buckets.close()
    passed_s = (clock.now_ns - start_ns) / SECOND_NS
    assert events >= burst + rate * passed_s - n * 1e-3 - 1


def test_a_flood_of_one_leaves_the_others_alone(make: MakeBuckets) -> None:
    # 16 ids in 16 slots: most share a chain with others.
    buckets = make(slots=16)
    ids = [f"source{number}" for number in range(16)]
    for id_ in ids:
        buckets.take(id_, 0.01, 10, 1)
    while buckets.take("source0", 0.01, 10, 7) == 0.0:
        pass
    for id_ in ids[1:]:
        taken = [buckets.take(id_, 0.01, 10, 1) == 0.0 for _ in range(20)]
        assert taken.count(True) == 9


def test_a_restarted_worker_goes_on_where_the_others_are(make: MakeBuckets) -> None:
    clock = Clock()
    buckets = make(slots=20, clock=clock)
    for number in range(20):
        buckets.take(f"source{number}", 1, 10, 10 + number)
    again = make(slots=20, clock=clock)
    for number in reversed(range(20)):
        wait_s = again.take(f"source{number}", 1, 10, 1)
        assert wait_s == pytest.approx(number, abs=1e-6)


def test_buckets_are_full_when_the_machine_was_started_again(make: MakeBuckets) -> None:
    clock = Clock()
    make(clock=clock).take("web", 0.001, 1, 1000)
    assert make(clock=clock).take("web", 0.001, 1, 1) > 0
    started_again = Clock(now_ns=5 * SECOND_NS)
    buckets = make(clock=started_again)
    assert buckets.take("web", 0.001, 1, 1) == 0.0
    assert buckets.take("web", 0.001, 1, 1) > 0


def test_another_number_of_slots_leaves_running_workers_alone(
    make: MakeBuckets,
) -> None:
    for buckets in [make(slots=slots) for slots in (4096, 2, 4096)]:
        assert buckets.take("web", 1, 1, 1) == 0.0
        assert buckets.take("web", 1, 1, 1) > 0


def test_a_full_bucket_gives_its_slot_away_and_gets_another(make: MakeBuckets) -> None:
    clock = Clock()
    one, other = make(slots=2, clock=clock), make(slots=2, clock=clock)
    for buckets in (one, other):
        buckets.take("a", 1, 10, 1)
        buckets.take("b", 1, 10, 1)
    with pytest.raises(BucketsFull):
        one.take("c", 1, 10, 1)
    clock.wait(2)
    assert one.take("c", 1, 10, 15) == 0.0
    assert one.take("d", 1, 10, 15) == 0.0
    with pytest.raises(BucketsFull):
        other.take("a", 1, 10, 1)
    clock.wait(15)
    assert other.take("a", 1, 10, 11) == 0.0
    assert one.take("a", 1, 10, 1) == pytest.approx(1.0)


def test_a_batch_beyond_all_measure_is_taken_once(make: MakeBuckets) -> None:
    buckets = make()
    assert buckets.take("web", 1e-9, 1, 10**9) == 0.0
    assert buckets.take("web", 1e-9, 1, 1) > 0
    while buckets.take("mobile", 1e-9, 10**9, 10**9) == 0.0:
        pass


TAKE_ALL = """
import sys
from pathlib import Path
from connectors.sources.rate_limits import Buckets
buckets = Buckets(Path(sys.argv[1]), 64)
print(flush=True)
sys.stdin.readline()
taken = 0
while buckets.take("web", 1e-3, 40_000, 1) == 0.0:
    taken += 1
    buckets.take(f"own{sys.argv[2]}", 1, 1, 1)
print(taken)
"""


def test_two_processes_obey_one_limit(tmp_path: Path, project_path: Path) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", TAKE_ALL, str(tmp_path / "limits"), str(number)],
            cwd=project_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    for worker in workers:
        assert worker.stdout is not None
        worker.stdout.readline()  # both are ready before either begins
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    try:
        taken = [int(worker.communicate(timeout=60)[0]) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert 40_000 <= sum(taken) <= 40_001
    assert min(taken) > 0


DIE_HOLDING = """
import fcntl, os, sys, time
file = os.open(sys.argv[1], os.O_RDWR)
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(600)
"""


def test_a_worker_that_dies_with_all_locks_stops_no_other(
    tmp_path: Path, make: MakeBuckets
) -> None:
    buckets = make(clock=time.monotonic_ns)
    assert buckets.take("web", 1, 10, 1) == 0.0
    holder = subprocess.Popen(
        [sys.executable, "-c", DIE_HOLDING, str(tmp_path / "limits")],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        # One byte of the file is enough to see that the locks are the real ones.
        with pytest.raises(BlockingIOError):
            fcntl.lockf(buckets._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.communicate()
    assert buckets.take("web", 1, 10, 1) == 0.0
    assert buckets.take("mobile", 1, 10, 1) == 0.0
