"""Unmodified Node.js SDKs: the collector stores each event exactly once."""

from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest

from connectors.home import Home
from tests.support.collecting import collecting, make_key
from tests.support.sdks import (
    constructor,
    count_of,
    count_stored,
    node_program,
    stored,
    wait_for_events,
)

pytestmark = pytest.mark.node

KEY = "WK_TEST_1"
JITSU_KEY = "WK_TEST_1:secret_1"


@dataclass(frozen=True)
class Sdk:
    """One SDK, configured as in the guide."""

    name: str
    calls: str  # one of each type
    track: str  # the nth of many
    end: str

    def id(self, n: int) -> str:
        return str(UUID(int=n)) if self.name.startswith("PostHog") else f"m{n}"


AT = 'new Date("2026-05-01T12:00:00.000Z")'
CALLS = f"""
const more = (n) => ({{ timestamp: {AT}, messageId: `m${{n}}` }})
const userId = "u1"
client.identify({{ userId, traits: {{ email: "ann@example.com", plan: "free" }},
                  ...more(1) }})
client.track({{ userId, event: "Order Completed",
               properties: {{ total: 42.5, nan: NaN }}, ...more(2) }})
client.page({{ userId, category: "Docs", name: "Install", ...more(3) }})
client.screen({{ userId, name: "Home", ...more(4) }})
client.group({{ userId, groupId: "acme", traits: {{ employees: 120 }}, ...more(5) }})
client.alias({{ userId, previousId: "old", ...more(6) }})
client.track({{ anonymousId: "a1", event: "Cart Updated", ...more(7) }})
"""
POSTHOG_CALLS = f"""
const more = (n) => ({{ timestamp: {AT},
  uuid: `00000000-0000-0000-0000-00000000000${{n}}` }})
const distinctId = "u1"
client.capture({{ distinctId, event: "$set",
  properties: {{ $set: {{ email: "ann@example.com", plan: "free" }} }}, ...more(1) }})
client.capture({{ distinctId, event: "Order Completed",
  properties: {{ total: 42.5, nan: NaN }}, ...more(2) }})
client.capture({{ distinctId, event: "$pageview",
  properties: {{ $current_url: "https://shop.example/" }}, ...more(3) }})
client.capture({{ distinctId, event: "$screen", properties: {{ $screen_name: "Home" }},
  ...more(4) }})
client.capture({{ distinctId, event: "$groupidentify", properties: {{
  $group_type: "company", $group_key: "acme", $group_set: {{ employees: 120 }} }},
  ...more(5) }})
client.capture({{ distinctId, event: "$create_alias", properties: {{ alias: "old" }},
  ...more(6) }})
client.capture({{ distinctId: "a1", event: "Cart Updated", ...more(7) }})
"""
TRACK = """client.track({ userId: "u1", event: "Cart Updated", properties: { n },
  messageId: `m${n}` })"""

SEGMENT = Sdk("Segment, Node.js", CALLS, TRACK, "await client.closeAndFlush()")
RUDDER = Sdk("RudderStack, Node.js", CALLS, TRACK, "await client.flush()")
POSTHOG = Sdk(
    "PostHog, Node.js",
    POSTHOG_CALLS,
    """client.capture({ distinctId: "u1", event: "Cart Updated", properties: { n },
      uuid: "00000000-0000-0000-0000-" + n.toString(16).padStart(12, "0") })""",
    "await client.shutdown()",
)
SDKS = [SEGMENT, RUDDER, POSTHOG]
every_sdk = pytest.mark.parametrize("sdk", SDKS, ids=lambda sdk: sdk.name)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@every_sdk
def test_every_call_arrives_with_its_meaning(sdk: Sdk, home: Home) -> None:
    make_key(home, KEY)
    with collecting(home) as collector, node_program() as program:
        program.do(constructor(sdk.name, collector, KEY))
        program.do(sdk.calls + sdk.end)
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
    assert alias["previous_id"] == "old"
    assert screen["name"] == "Home"
    assert {event["timestamp"].isoformat() for event in events.values()} == {
        "2026-05-01T12:00:00"
    }
    for event in (identify, order, page, screen, group, alias):
        assert "u1" in (event["user_id"], event["distinct_id"])
    assert "a1" in (cart["anonymous_id"], cart["distinct_id"])


@every_sdk
def test_batches_arrive_whole(sdk: Sdk, home: Home) -> None:
    make_key(home, KEY)
    with collecting(home) as collector, node_program() as program:
        program.do(constructor(sdk.name, collector, KEY))
        program.do(f"for (let n = 0; n < 300; n++) {{ {sdk.track} }}\n{sdk.end}")
    assert stored(home).keys() == {sdk.id(n) for n in range(300)}
    assert count_stored(home) == 300


@pytest.mark.parametrize("sdk", [SEGMENT, POSTHOG], ids=lambda sdk: sdk.name)
def test_a_collector_killed_in_the_middle_loses_and_repeats_nothing(
    sdk: Sdk, home: Home
) -> None:
    """RudderStack's SDK gives up after 1.5 s; the guide says so and what to do."""
    make_key(home, KEY)
    with node_program() as program:
        with collecting(home) as collector:
            program.do(constructor(sdk.name, collector, KEY))
            program.begin(
                f"""for (let n = 0; n < 300; n++) {{
                  {sdk.track}
                  await new Promise((resolve) => setTimeout(resolve, 5))
                }}"""
            )
            wait_for_events(collector, 50)
            collector.kill()
        port = int(collector.url.rpartition(":")[2])
        with collecting(home, port=port):
            program.result()
            program.do(sdk.end)
    assert stored(home).keys() == {sdk.id(n) for n in range(300)}


@pytest.mark.parametrize(
    ("sdk", "count"),
    [(SEGMENT, 60), (RUDDER, 40), (POSTHOG, 150)],  # two batches and more
    ids=lambda value: getattr(value, "name", None),
)
def test_what_came_too_fast_comes_again_later(sdk: Sdk, count: int, home: Home) -> None:
    """RudderStack's SDK retries three times, which truncates longer queues."""
    make_key(home, KEY, rate=50, burst=10)
    with collecting(home) as collector, node_program() as program:
        program.do(constructor(sdk.name, collector, KEY))
        program.do(f"for (let n = 0; n < {count}; n++) {{ {sdk.track} }}\n{sdk.end}")
        assert count_of(collector, "rate_limited") > 0
    assert stored(home).keys() == {sdk.id(n) for n in range(count)}
    assert count_stored(home) == count


def test_rudderstack_s_gives_up_a_batch_without_ending_the_program(
    home: Home,
) -> None:
    make_key(home, KEY)
    with node_program() as program:
        with collecting(home) as collector:
            program.do(constructor(RUDDER.name, collector, KEY))
            collector.kill()
        program.do(
            f"const n = 1; {RUDDER.track}\nawait client.flush().catch(() => null)"
        )
    assert stored(home) == {}


@every_sdk
def test_the_same_ids_sent_twice_are_the_same_messages(sdk: Sdk, home: Home) -> None:
    make_key(home, KEY)
    with collecting(home) as collector:
        for _ in range(2):
            with node_program() as program:
                program.do(constructor(sdk.name, collector, KEY))
                program.do(sdk.calls + sdk.end)
    assert stored(home).keys() == {sdk.id(n) for n in range(1, 8)}
    assert count_stored(home) == 14


def test_posthog_s_newer_protocol_stores_every_event(home: Home) -> None:
    make_key(home, KEY)
    with (
        collecting(home) as collector,
        node_program(POSTHOG_CAPTURE_MODE="v1") as program,
    ):
        program.do(constructor(POSTHOG.name, collector, KEY))
        program.do(
            f"for (let n = 0; n < 100; n++) {{ {POSTHOG.track} }}\n{POSTHOG.end}"
        )
    assert stored(home).keys() == {POSTHOG.id(n) for n in range(100)}
    assert count_stored(home) == 100


def test_jitsu_s_calls_arrive_once_each(home: Home) -> None:
    """The SDK never retries, and its ids cannot be set."""
    make_key(home, JITSU_KEY)
    with collecting(home) as collector, node_program() as program:
        program.do(constructor("Jitsu", collector, JITSU_KEY))
        program.do(
            """
            await client.identify("u1", { email: "ann@example.com", plan: "free" })
            await client.track("Order Completed", { total: 42.5 })
            await client.page("Install", { path: "/install" })
            await client.group("acme", { employees: 120 })
            """
        )
    events = {event["type"]: event for event in stored(home).values()}
    assert count_stored(home) == 4
    assert events.keys() == {"identify", "track", "page", "group"}
    assert events["identify"]["traits"]["email"] == "ann@example.com"
    assert events["track"]["event"] == "order_completed"
    assert events["track"]["user_id"] == "u1"
    assert events["group"]["group_id"] == "acme"
