"""Unmodified Python SDKs: the collector stores each event exactly once."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest

from connectors.home import Home
from tests.support.collecting import Collecting, collecting, make_key
from tests.support.sdks import (
    constructor,
    count_of,
    count_stored,
    python_program,
    stored,
    wait_for_events,
)

pytestmark = pytest.mark.sdks

KEY = "WK_TEST_1"

AT = "__import__('datetime').datetime.fromisoformat('2026-05-01T12:00:00+00:00')"

# Segment's; RudderStack's takes the same calls.
CALLS = f"""
at = {AT}
client.identify("u1", {{"email": "ann@example.com", "plan": "free"}}, timestamp=at,
                message_id="m1")
client.track("u1", "Order Completed", {{"total": 42.5, "nan": float("nan")}},
             timestamp=at, message_id="m2")
client.page("u1", "Docs", "Install", {{"path": "/"}}, timestamp=at, message_id="m3")
client.screen("u1", "Shop", "Home", timestamp=at, message_id="m4")
client.group("u1", "acme", {{"employees": 120}}, timestamp=at, message_id="m5")
client.alias("old", "u1", timestamp=at, message_id="m6")
client.track(event="Cart Updated", anonymous_id="a1", timestamp=at, message_id="m7")
client.shutdown()
"""

POSTHOG_CALLS = f"""
from uuid import UUID
at = {AT}
def more(n): return {{"timestamp": at, "uuid": str(UUID(int=n))}}
client.set(distinct_id="u1", properties={{"email": "ann@example.com", "plan": "free"}},
           **more(1))
client.capture("Order Completed", distinct_id="u1",
               properties={{"total": 42.5, "nan": float("nan")}}, **more(2))
client.capture("$pageview", distinct_id="u1",
               properties={{"$current_url": "https://shop.example/"}}, **more(3))
client.capture("$screen", distinct_id="u1", properties={{"$screen_name": "Home"}},
               **more(4))
client.group_identify("company", "acme", {{"employees": 120}}, distinct_id="u1",
                      **more(5))
client.alias("old", "u1", **more(6))
client.capture("Cart Updated", distinct_id="a1", **more(7))
client.shutdown()
"""


@dataclass(frozen=True)
class Sdk:
    """One SDK, configured as in the guide."""

    name: str
    calls: str  # one of each type, and the end
    track: str  # the nth of many
    fast: str  # option that flushes the queue immediately

    def id(self, n: int) -> str:
        return str(UUID(int=n)) if self.name.startswith("PostHog") else f"m{n}"


TRACK = 'client.track("u1", "Cart Updated", {"n": n}, message_id=f"m{n}")'
SDKS = [
    Sdk("Segment, Python", CALLS, TRACK, "upload_interval=0.1"),
    Sdk("RudderStack, Python", CALLS, TRACK, "upload_interval=0.1"),
    Sdk(
        "PostHog, Python",
        POSTHOG_CALLS,
        'client.capture("Cart Updated", distinct_id="u1", properties={"n": n}, '
        "uuid=str(__import__('uuid').UUID(int=n)))",
        "flush_interval=0.1",
    ),
]
every_sdk = pytest.mark.parametrize("sdk", SDKS, ids=lambda sdk: sdk.name)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def client_of(
    sdk: Sdk, collector: Collecting, *options: str, without: str | None = None
) -> str:
    """Return the guide's constructor with added or removed options."""
    code = constructor(sdk.name, collector, KEY)
    if without is not None:
        code = code.replace(f", {without}", "")
    head, end, tail = code.rpartition(")")
    return ", ".join((head, *options)) + end + tail


@every_sdk
def test_every_call_arrives_with_its_meaning(sdk: Sdk, home: Home) -> None:
    make_key(home, KEY)
    with collecting(home) as collector, python_program() as program:
        program.do(client_of(sdk, collector) + sdk.calls)
        assert count_of(collector, "admitted") == 7
    events = stored(home)
    assert events.keys() == {sdk.id(n) for n in range(1, 8)}
    identify, order, page, screen, group, alias, cart = (
        events[sdk.id(n)] for n in range(1, 8)
    )
    types = [events[sdk.id(n)]["type"] for n in range(1, 8)]
    assert types == [
        *("identify", "track", "page", "screen", "group", "alias", "track")
    ]
    assert identify["traits"] == {"email": "ann@example.com", "plan": "free"}
    identifiers = {one["type"]: one["value"] for one in identify["identifiers"]}
    assert identifiers["email"] == "ann@example.com"
    assert (order["event"], order["event_text"]) == (
        *("order_completed", "Order Completed"),
    )
    assert (order["properties"]["total"], order["properties"]["nan"]) == (42.5, None)
    assert group["group_id"] == "acme" and group["traits"]["employees"] == 120
    # PostHog's SDK swaps the names of the ids; both must be present.
    assert {"old", "u1"} <= {
        alias[name] for name in ("previous_id", "user_id", "distinct_id")
    }
    assert screen["name"] == "Home"
    # PostHog's server side cannot say whether an id is a user's.
    for event in (identify, order, page, screen, group):
        assert "u1" in (event["user_id"], event["distinct_id"])
    assert "a1" in (cart["anonymous_id"], cart["distinct_id"])


@every_sdk
@pytest.mark.parametrize("gzip", [True, False])
def test_batches_arrive_whole_plain_and_compressed(
    sdk: Sdk, gzip: bool, home: Home
) -> None:
    make_key(home, KEY)
    with collecting(home) as collector, python_program() as program:
        client = client_of(sdk, collector, f"gzip={gzip}", without="gzip=True")
        program.do(client)
        program.do(f"for n in range(1000): {sdk.track}")
        program.do("client.shutdown()")  # it flushes
    assert stored(home).keys() == {sdk.id(n) for n in range(1000)}
    assert count_stored(home) == 1000


@every_sdk
def test_a_collector_killed_in_the_middle_loses_and_repeats_nothing(
    sdk: Sdk, home: Home
) -> None:
    make_key(home, KEY)
    with python_program() as program:
        with collecting(home) as collector:
            program.do(client_of(sdk, collector, sdk.fast))
            program.begin(
                f"import time\nfor n in range(600):\n  {sdk.track}\n  time.sleep(0.003)"
            )
            wait_for_events(collector, 100)
            collector.kill()
        port = int(collector.url.rpartition(":")[2])
        with collecting(home, port=port):
            program.result()
            program.do("client.flush(); client.shutdown()")
    assert stored(home).keys() == {sdk.id(n) for n in range(600)}


@every_sdk
def test_what_came_too_fast_comes_again_later(sdk: Sdk, home: Home) -> None:
    make_key(home, KEY, rate=200, burst=50)
    with collecting(home) as collector, python_program() as program:
        # Four batches of a hundred: each but the first has to wait for the one before.
        program.do(client_of(sdk, collector, sdk.fast))
        program.do(f"for n in range(400): {sdk.track}")
        program.do("client.flush(); client.shutdown()")
        assert count_of(collector, "rate_limited") > 0
    assert stored(home).keys() == {sdk.id(n) for n in range(400)}
    assert count_stored(home) == 400


@every_sdk
def test_the_same_ids_sent_twice_are_the_same_messages(sdk: Sdk, home: Home) -> None:
    make_key(home, KEY)
    with collecting(home) as collector:
        for _ in range(2):
            with python_program() as program:
                program.do(client_of(sdk, collector) + sdk.calls)
        assert count_of(collector, "admitted") == 14
    assert stored(home).keys() == {sdk.id(n) for n in range(1, 8)}
    assert count_stored(home) == 14


@every_sdk
def test_a_wrong_key_is_told_in_words(sdk: Sdk, home: Home) -> None:
    make_key(home, "ANOTHER")
    with collecting(home) as collector, python_program() as program:
        told = program.do(
            "told = []\n"
            + client_of(sdk, collector, "on_error=lambda error, _: told.append(error)")
            + f"n = 1\n{sdk.track}\nclient.flush()\n"
            "client.shutdown()\nresult = str(told[0])"
        )
    assert "The write key is missing or unknown." in told


def test_the_guide_s_plain_request_is_taken(home: Home) -> None:
    make_key(home, KEY)
    with collecting(home) as collector:
        command = constructor("Plain HTTP", collector, KEY)
        done = subprocess.run(command, shell=True, capture_output=True, check=True)
    assert done.stdout == b'{"success":true}'
    events = stored(home)
    assert events["4f1c"]["traits"] == {"plan": "free"}
    assert events["4f1d"]["event"] == "order_completed"


def test_posthog_s_newer_protocol_stores_every_event(home: Home) -> None:
    sdk = SDKS[2]
    make_key(home, KEY)
    packings = ("none", "gzip", "deflate", "zstd")
    with collecting(home) as collector:
        for offset, packing in enumerate(packings):
            with python_program() as program:
                program.do(
                    client_of(
                        sdk,
                        collector,
                        'capture_mode="v1"',
                        f'capture_compression="{packing}"',
                        without="gzip=True",
                    )
                )
                program.do(
                    f"for n in range({offset * 100}, {offset * 100 + 100}): {sdk.track}"
                )
                program.do("client.flush(); client.shutdown()")
    assert stored(home).keys() == {sdk.id(n) for n in range(400)}
    assert count_stored(home) == 400
