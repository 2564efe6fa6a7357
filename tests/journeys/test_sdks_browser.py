"""Browser SDKs, unmodified, in a real browser, on a page of another port (CORS)."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from connectors.home import Home
from tests.support.collecting import collecting, make_key, wait_until
from tests.support.sdks import (
    Program,
    browser_page,
    constructor,
    count_of,
    stored,
    wait_for_events,
)

pytestmark = pytest.mark.browser

KEY = "WK_TEST_1"
JITSU_KEY = "WK_TEST_1:secret_1"


@dataclass(frozen=True)
class Sdk:
    """One SDK, configured as in the guide."""

    name: str
    types: tuple[str, ...]  # that it has calls for
    calls: str
    track: str  # the nth of many
    key: str = KEY


CALLS = """
client.identify("u1", { email: "ann@example.com", plan: "free" })
client.track("Order Completed", { total: 42.5 })
client.page("Docs", "Install")
client.group("acme", { employees: 120 })
"""
TYPES = ("identify", "track", "page", "group")
TRACK = 'client.track("Cart Updated", { n });'
SDKS = [
    Sdk(
        "Segment, browser",
        (*TYPES, "screen", "alias"),
        f'{CALLS}\nclient.screen("Shop", "Home")\nclient.alias("u1", "old")',
        TRACK,
    ),
    Sdk(
        "RudderStack, browser",
        (*TYPES, "alias"),
        f'{CALLS}\nclient.alias("u1", "old")',
        TRACK,
    ),
    Sdk(
        "PostHog, browser",
        TYPES,  # the page is sent by itself
        """
        client.identify("u1", { email: "ann@example.com", plan: "free" })
        client.capture("Order Completed", { total: 42.5 })
        client.group("company", "acme", { employees: 120 })
        """,
        'client.capture("Cart Updated", { n });',
    ),
    Sdk(
        "Jitsu",
        TYPES,
        CALLS.replace('("Docs", "Install")', '("Install")'),
        TRACK,
        key=JITSU_KEY,
    ),
]
every_sdk = pytest.mark.parametrize("sdk", SDKS, ids=lambda sdk: sdk.name)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def tracked(home: Home) -> list[int]:
    """Return the numbers of the stored events."""
    return sorted(
        event["properties"]["n"]
        for event in stored(home).values()
        if event["event"] == "cart_updated"
    )


def send(page: Program, sdk: Sdk, first: int, end: int) -> None:
    page.do(f"for (let n = {first}; n < {end}; n++) {{ {sdk.track} }}")


@every_sdk
def test_every_call_arrives_with_its_meaning(sdk: Sdk, home: Home) -> None:
    make_key(home, sdk.key)
    with collecting(home) as collector, browser_page() as page:
        page.do(constructor(sdk.name, collector, sdk.key))
        page.do(sdk.calls)
        wait_for_events(collector, len(sdk.types))
        assert count_of(collector, "rejected") == 0
    events = list(stored(home).values())
    assert {event["type"] for event in events} == set(sdk.types)
    by_type = {event["type"]: event for event in events}
    identify, order = by_type["identify"], by_type["track"]
    assert identify["user_id"] == order["user_id"] == "u1"
    assert identify["anonymous_id"]
    assert identify["traits"]["email"] == "ann@example.com"
    assert order["event"] == "order_completed"
    assert order["properties"]["total"] == 42.5
    assert by_type["group"]["group_id"] == "acme"
    assert by_type["group"]["traits"]["employees"] == 120
    if "alias" in by_type:
        assert by_type["alias"]["previous_id"] == "old"
    assert all("/pricing" in str(event["context"]) for event in events)


@every_sdk
def test_a_page_s_burst_is_stored_once_each(sdk: Sdk, home: Home) -> None:
    make_key(home, sdk.key)
    with collecting(home) as collector, browser_page() as page:
        page.do(constructor(sdk.name, collector, sdk.key))
        send(page, sdk, 0, 40)
        wait_for_events(collector, 40)
    assert tracked(home) == list(range(40))


@pytest.mark.parametrize("sdk", SDKS[:3], ids=lambda sdk: sdk.name)
def test_a_collector_killed_in_the_middle_loses_and_repeats_nothing(
    sdk: Sdk, home: Home
) -> None:
    """Jitsu's SDK never retries, as the guide says."""
    make_key(home, sdk.key)
    with browser_page() as page:
        with collecting(home) as collector:
            page.do(constructor(sdk.name, collector, sdk.key))
            send(page, sdk, 0, 10)
            wait_for_events(collector, 10)
            collector.kill()
        send(page, sdk, 10, 20)
        port = int(collector.url.rpartition(":")[2])
        with collecting(home, port=port) as collector:
            send(page, sdk, 20, 30)
            wait_until(lambda: tracked(home) == list(range(30)), timeout_s=60)


@pytest.mark.parametrize("sdk", SDKS[:2], ids=lambda sdk: sdk.name)
def test_what_came_too_fast_comes_again_later(sdk: Sdk, home: Home) -> None:
    """PostHog's and Jitsu's SDKs drop these events, as the guide says."""
    make_key(home, sdk.key, rate=10, burst=3)
    with collecting(home) as collector, browser_page() as page:
        page.do(constructor(sdk.name, collector, sdk.key))
        send(page, sdk, 0, 12)
        wait_for_events(collector, 12)
        assert count_of(collector, "rate_limited") > 0
    assert tracked(home) == list(range(12))


def test_what_a_left_page_did_not_deliver_is_sent_on_the_next_visit(
    home: Home,
) -> None:
    sdk = SDKS[0]
    make_key(home, sdk.key)
    with browser_page() as page:
        with collecting(home) as collector:
            page.do(constructor(sdk.name, collector, sdk.key))
            send(page, sdk, 0, 1)
            wait_for_events(collector, 1)
            collector.kill()
        send(page, sdk, 1, 6)
        port = int(collector.url.rpartition(":")[2])
        with collecting(home, port=port) as collector:
            page.do(constructor(sdk.name, collector, sdk.key))  # loads a new page
            wait_until(lambda: tracked(home) == list(range(6)), timeout_s=60)
