"""Write keys of the command line, used by a server in another process."""

import json
import re
import stat

import pytest

from connectors.events.policy import Policy
from connectors.home import Home
from connectors.sources.write_keys import KeyRing
from tests.support.checkouts import Checkout


def test_a_key_lives_until_it_is_replaced_or_revoked(checkout: Checkout) -> None:
    made = checkout.json("keys", "create", "--name", "web", "--kind", "browser")
    assert made["name"] == made["scope"] == "web"
    assert (made["kind"], made["rate"], made["burst"]) == ("browser", 100, 500)
    home = Home(checkout.path / "data")
    assert stat.S_IMODE(home.control.stat().st_mode) == 0o600

    ring = KeyRing(home)
    found = ring.find(made["key"])
    assert found is not None and found.id == made["id"]

    new = checkout.json("keys", "rotate", "web", "--keep", "1h")
    assert ring.refresh()
    assert ring.find(made["key"]) and ring.find(new["key"])

    checkout.loomline("keys", "revoke", made["id"])
    assert ring.refresh()
    assert ring.find(made["key"]) is None and ring.find(new["key"])

    checkout.json("keys", "rotate", "web", "--keep", "0")
    ring.refresh()
    assert ring.find(new["key"]) is None

    listed = checkout.loomline("keys", "list")
    states = [key["state"] for key in checkout.json("keys", "list")["keys"]]
    assert states == ["revoked", "expired", "live"]
    for word in ("web", "browser", made["hint"], "revoked", "live"):
        assert word in listed
    assert made["key"] not in listed and new["key"] not in listed


def test_what_a_key_asks_of_its_events_is_kept(checkout: Checkout) -> None:
    options = (
        "--name shop --scope both --value clvwx01:topsecret --rate 2.5 --burst 10 "
        "--allow track --allow identify --allow path:jitsu --max-event-bytes 32kb "
        "--unknown-events flag --naming reject --convention TitleCase --object-action "
        "--no-consent require --fingerprint analytics"
    )
    made = checkout.json(
        "keys", "create", *options.split(), "--allow", "event:Order Completed"
    )
    assert made["key"] == "clvwx01:topsecret"
    key = KeyRing(Home(checkout.path / "data")).find("clvwx01:topsecret")
    assert key is not None
    assert (key.name, key.scope, key.rate, key.burst) == ("shop", "both", 2.5, 10)
    assert key.paths == frozenset(["jitsu"])
    assert key.policy == Policy(
        unknown_events="flag",
        naming="reject",
        convention="TitleCase",
        object_action=True,
        no_consent="require",
        types=frozenset(["track", "identify"]),
        events=frozenset(["order_completed"]),
        max_event_bytes=32 * 1024,
        fingerprint="analytics",
    )


def test_an_admin_key_has_no_rate_and_no_burst(checkout: Checkout) -> None:
    checkout.loomline("keys", "create", "--name", "web", "--kind", "browser")
    checkout.loomline("keys", "create", "--name", "debug", "--kind", "admin")
    rows = {
        cells[1]: (cells[4], cells[5])
        for line in checkout.loomline("keys", "list").splitlines()
        if len(cells := [cell.strip() for cell in line.strip("│").split("│")]) > 5
    }
    assert rows == {"browser": ("100", "500"), "admin": ("–", "–")}


def test_standard_output_is_the_key_alone(checkout: Checkout) -> None:
    done = checkout.run([str(checkout.bin / "loomline"), "keys", "create", "--name=w"])
    assert re.fullmatch(r"lws_[0-9A-Za-z]{32}\n", done.stdout)
    assert "loomline collect" in done.stderr and done.stdout.strip() not in done.stderr
    assert [*json.loads(checkout.loomline("keys", "list", "--json"))] == ["keys"]


def test_a_server_key_that_asks_for_fingerprints_is_warned_about(
    checkout: Checkout,
) -> None:
    for kind, is_told in (("server", True), ("browser", False)):
        options = f"--name {kind} --kind {kind} --fingerprint analytics"
        command = [str(checkout.bin / "loomline"), "keys", "create", *options.split()]
        assert ("share one fingerprint" in checkout.run(command).stderr) is is_told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("create", ["--name"]),
        ("create --name My", ["'My'", "lower-case"]),
        ("create --name a --kind robot", ["robot", "browser"]),
        ("create --name a --allow buy --rate 0", ["'buy'", "track", "rate"]),
        ("create --name a --allow path:x", ["'x'", "posthog"]),
        (
            "create --name a --allow event:! --max-event-bytes 4x --fingerprint b",
            ["event:!", "kb, mb", "'b'", "analytics"],
        ),
        ("create --name a --kind admin --allow track", ["accepts no events"]),
        ("rotate unknown", ["No live key"]),
        ("rotate unknown --keep 3w", ["'3w'", "s, m, h, d"]),
        ("revoke unknown", ["No live key", "keys list"]),
        ("revoke lws_KYT84M5OWX2yRqrc", ["mistyped"]),
    ],
)
def test_wrong_use_is_told_and_makes_no_key(
    checkout: Checkout, arguments: str, told: list[str]
) -> None:
    command = [str(checkout.bin / "loomline"), "keys", *arguments.split()]
    done = checkout.run(command, code=2)
    assert "Traceback" not in done.stderr
    assert [part for part in told if part not in done.stderr] == []
    assert checkout.json("keys", "list") == {"keys": []}
