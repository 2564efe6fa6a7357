"""A lookup service that does not answer delays only its own lookups."""

import gzip
import json
import select
import shutil
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from connectors.home import Home
from tests.support import PROJECT
from tests.support.collecting import (
    Collecting,
    collecting,
    landed,
    make_key,
    wait_until,
)
from tests.support.lookup_services import Service, answering

KEY = {"X-Write-Key": "WK_TEST_1"}
LOOKUP = """
match: {{event: signed_up}}
do:
  - lookup:
      url: {url}
      key: user_id
      take: {{region: properties.region}}
      timeout_s: 30
"""


@pytest.fixture
def service() -> Iterator[Service]:
    with answering() as service:
        yield service


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    make_key(home)
    return home


@pytest.fixture
def collector(home: Home, service: Service, tmp_path: Path) -> Iterator[Collecting]:
    """A collector with a lookup in a service that does not answer."""
    project = tmp_path / "project"
    shutil.copytree(PROJECT / "seeds", project / "seeds")
    shutil.copy(PROJECT / "dbt_project.yml", project)
    file = project / "connectors/events/transformations/010_region.yml"
    file.parent.mkdir(parents=True)
    file.write_text(LOOKUP.format(url=service.url))
    service.may_answer.clear()
    with collecting(home, project=project) as collector:
        yield collector


def signed_up(number: int) -> dict[str, str]:
    id = f"u{number}"
    return {"event": "Signed Up", "userId": id, "messageId": id}


def test_slow_lookups_keep_no_other_event_waiting(
    home: Home, service: Service, collector: Collecting
) -> None:
    with ThreadPoolExecutor(40) as senders:
        slow = [
            senders.submit(collector.post, "/v1/track", signed_up(n), headers=KEY)
            for n in range(40)
        ]
        wait_until(lambda: len(service.asked) >= 5)
        # Large bodies are unpacked in threads, as revoked keys are looked for.
        item = {"event": "other", "userId": "u", "properties": {"a": "a" * 400_000}}
        large = json.dumps({"batch": [item]}).encode()
        for body in (large, gzip.compress(large)):
            began_at = time.monotonic()
            assert collector.post("/v1/batch", body, headers=KEY).is_success
            assert time.monotonic() - began_at < 3
        assert not any(one.done() for one in slow)
        service.may_answer.set()
        assert {one.result().status_code for one in slow} == {200}
    stored = Counter(event["event"] for event in landed(home, "events"))
    assert stored == {"signed_up": 40, "other": 2}


def test_only_so_many_requests_wait_for_lookups(
    home: Home, service: Service, collector: Collecting
) -> None:
    host, port = collector.url.removeprefix("http://").split(":")
    with ExitStack() as stack:
        senders = []
        for number in range(300):
            body = json.dumps(signed_up(number)).encode()
            head = (
                f"POST /v1/track HTTP/1.1\r\nhost: x\r\nx-write-key: WK_TEST_1\r\n"
                f"connection: close\r\ncontent-length: {len(body)}\r\n\r\n"
            )
            sender = socket.create_connection((host, int(port)), timeout=30)
            senders.append(stack.enter_context(sender))
            sender.sendall(head.encode() + body)

        refused: list[socket.socket] = []
        while len(refused) < 44:  # in whatever order they came in
            waiting = [one for one in senders if one not in refused]
            answered, _, _ = select.select(waiting, [], [], 30)
            assert answered
            refused += answered
        assert len(refused) == 44
        for answer in map(all_of, refused):
            assert answer.startswith(b"HTTP/1.1 503 ") and b"too_busy" in answer
            assert b"\r\nretry-after: 1\r\n" in answer
        service.may_answer.set()
        statuses = Counter(all_of(one)[:13] for one in senders if one not in refused)
    assert statuses == {b"HTTP/1.1 200 ": 256}
    assert len(landed(home, "events")) == 256


def all_of(connection: socket.socket) -> bytes:
    """Read until the other side closes the connection."""
    return b"".join(iter(lambda: connection.recv(65536), b""))
