"""Senders that never give up: many threads post batches until each was acknowledged.

What a sender was told is compared with what is stored (`Books`), so a test can break
anything in between.
"""

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from connectors.home import Home
from tests.support.collecting import landed

__all__ = ["Books", "Load", "books", "event", "sending"]


def event(message_id: str, **more: Any) -> dict[str, Any]:
    """A valid call."""
    return {
        "type": "track",
        "event": "Cart Updated",
        "userId": "u1",
        "messageId": message_id,
        **more,
    }


@dataclass
class Load:
    """What the senders did and were told."""

    acknowledged: set[str] = field(default_factory=set)
    count_attempted: int = 0  # items in requests, sent again or not
    statuses: Counter[int] = field(default_factory=Counter)
    resets: Counter[str] = field(default_factory=Counter)  # on the way, by kind
    count_broken: int = 0  # of these, on a connection that had been answered on
    latencies_s: list[float] = field(default_factory=list)  # of acknowledged requests
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def percentile_s(self, percent: float) -> float:
        ordered = sorted(self.latencies_s)
        return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]

    def wait_for(self, count: int, timeout_s: float = 60) -> None:
        """Until so many more events were acknowledged."""
        until = time.monotonic() + timeout_s
        goal = len(self.acknowledged) + count
        while len(self.acknowledged) < goal:
            assert time.monotonic() < until, (self.statuses, self.resets)
            time.sleep(0.01)


@contextmanager
def sending(
    url: str,
    key: str = "WK_TEST_1",
    *,
    senders: int = 8,
    batch: int = 20,
    prefix: str = "m",
    pause_s: float = 0.02,
    load: Load | None = None,
) -> Iterator[Load]:
    """Post from several threads on connections that are kept, until the block ends.

    A batch that was not acknowledged is sent again, after `pause_s`, until it is or the
    block ends.
    """
    load = load or Load()
    load.stop.clear()
    threads = [
        threading.Thread(
            target=_send, args=(load, url, key, batch, f"{prefix}-{n}", pause_s)
        )
        for n in range(senders)
    ]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.stop.set()
        for thread in threads:
            thread.join(60)


def _send(
    load: Load, url: str, key: str, batch: int, prefix: str, pause_s: float
) -> None:
    address = urlsplit(url).netloc
    connection = http.client.HTTPConnection(address, timeout=30)
    headers = {"authorization": f"Bearer {key}"}
    number = 0
    is_used = False
    while not load.stop.is_set():
        ids = [f"{prefix}-{number + n}" for n in range(batch)]
        number += batch
        body = json.dumps({"batch": [event(id_) for id_ in ids]}).encode()
        is_acknowledged = False
        while not is_acknowledged and not load.stop.is_set():
            started = time.monotonic()
            try:
                connection.request("POST", "/v1/batch", body, headers)
                answer = connection.getresponse()
                answer.read()
                status = answer.status
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                with load.lock:
                    load.count_attempted += batch
                    load.resets[type(error).__name__] += 1
                    load.count_broken += is_used
                is_used = False
            else:
                is_acknowledged = status == 200
                is_used = not answer.will_close
                with load.lock:
                    load.count_attempted += batch
                    load.statuses[status] += 1
                    if is_acknowledged:
                        load.acknowledged.update(ids)
                        load.latencies_s.append(time.monotonic() - started)
            if not is_acknowledged:
                time.sleep(pause_s)
    connection.close()


@dataclass(frozen=True)
class Books:
    """What landed, of all that was ever sent."""

    received: Counter[str]  # items by source
    dispositions: Counter[tuple[str, str]]  # by source and disposition
    reasons: Counter[str | None]
    stored: Counter[str]  # rows of `raw.events` by message id

    def assert_balanced(self) -> None:
        by_source: Counter[str] = Counter()
        for (source, _), count in self.dispositions.items():
            by_source[source] += count
        assert self.received == by_source

    def assert_kept(self, load: Load, *, once: bool = False) -> None:
        """Everything acknowledged is there; exactly that, and `once`, if so asked."""
        self.assert_balanced()
        lost = load.acknowledged - self.stored.keys()
        assert not lost, f"{len(lost)} of {len(load.acknowledged)} lost"
        assert "segment_damaged" not in self.reasons
        received = self.received.total()
        assert len(load.acknowledged) <= received <= load.count_attempted
        if once:
            assert received == load.count_attempted == len(load.acknowledged)
            assert self.stored.total() == len(self.stored)


def books(home: Home) -> Books:
    """Land everything that is accepted, and count."""
    received: Counter[str] = Counter()
    for row in landed(home, "received_counts"):
        received[row["source"]] += row["items"]
    rows = landed(home, "dispositions")
    return Books(
        received,
        Counter((row["source"], row["disposition"]) for row in rows),
        Counter(row["reason"] for row in rows),
        Counter(row["message_id"] for row in landed(home, "events")),
    )
