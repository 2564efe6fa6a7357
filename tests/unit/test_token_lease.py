"""What one worker takes from the rates that all share."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from connectors.home import Home
from connectors.sources.http_api.token_lease import TokenLease
from connectors.sources.rate_limits import SECOND_NS, Buckets
from connectors.sources.write_keys import KeyStore, WriteKey


@dataclass
class Clock:
    now_ns: int = 1_000 * SECOND_NS

    def __call__(self) -> int:
        return self.now_ns


@dataclass
class Workers:
    """Two workers of one collector, and a key."""

    first: TokenLease
    second: TokenLease
    buckets: Buckets
    clock: Clock
    key: WriteKey

    def with_rate(self, rate: float, burst: int) -> WriteKey:
        return msgspec.structs.replace(self.key, rate=rate, burst=burst)


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    clock = Clock()
    buckets = Buckets(tmp_path / "rates", 64, clock)
    store = KeyStore(Home(tmp_path / "home"))
    key, _ = store.create("web", "server")
    store.close()
    yield Workers(TokenLease(buckets), TokenLease(buckets), buckets, clock, key)
    buckets.close()


def passed(lease: TokenLease, key: WriteKey, tries: int, n: int = 1) -> int:
    """How many events passed."""
    return sum(n for _ in range(tries) if lease.take(key, n) == 0.0)


def test_a_short_burst_is_kept_to_the_event(workers: Workers) -> None:
    key = workers.with_rate(1_000_000, 99)
    assert passed(workers.first, key, 60) + passed(workers.second, key, 60) == 99


def test_two_workers_pass_no_more_than_the_burst_and_what_they_hold(
    workers: Workers,
) -> None:
    key = workers.with_rate(1000, 5000)  # ten at a time
    total = 0
    for _ in range(4000):
        total += passed(workers.first, key, 1) + passed(workers.second, key, 1)
    assert 5000 <= total <= 5000 + 2 * 10


def test_the_rate_passes_as_time_goes_by_and_nothing_is_lost(workers: Workers) -> None:
    key = workers.with_rate(1000, 1000)
    passed(workers.first, key, 2000)
    total = 0
    for _ in range(100):  # a second, at less than the rate
        workers.clock.now_ns += SECOND_NS // 100
        total += passed(workers.first, key, 9)
    assert total == 900


def test_a_worker_asks_the_bucket_once_for_many_events(workers: Workers) -> None:
    key = workers.with_rate(1000, 1000)
    assert workers.first.take(key, 1) == 0.0
    # 990 of them are left to all others: ten ahead are this worker's.
    assert workers.buckets.take(key.name, 1000, 1000, 989) == 0.0
    assert workers.buckets.take(key.name, 1000, 1000, 1) > 0
    assert passed(workers.first, key, 20) == 10


def test_a_batch_larger_than_what_is_held_takes_the_rest_only(workers: Workers) -> None:
    key = workers.with_rate(1000, 1000)
    for _ in range(9):
        assert workers.first.take(key, 100) == 0.0
    assert workers.buckets.take(key.name, 1000, 1000, 89) == 0.0  # 910 were taken
    assert workers.buckets.take(key.name, 1000, 1000, 1) == 0.0
    assert workers.buckets.take(key.name, 1000, 1000, 1) > 0


def test_a_refusal_says_how_long_to_wait(workers: Workers) -> None:
    key = workers.with_rate(10, 1)
    assert workers.first.take(key, 5) == 0.0  # a batch passes whole, and is owed
    assert workers.first.take(key, 1) == pytest.approx(0.4)
