"""The demo for a new user: run twice, and again after an audience was edited."""

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.support.checkouts import Checkout, clone

EVENTS = "6000"


def sandbox_members(checkout: Checkout) -> dict[str, set[str]]:
    """Return the receiver's profile ids by audience, from its own file."""
    members: dict[str, dict[str, set[tuple[str, str]]]] = {}
    file = checkout.path / "data" / "demo" / "sandbox" / "sandbox.ndjson"
    for line in file.read_text().splitlines():
        content = json.loads(line)["content"]
        people = members.setdefault(content["audience"], {})
        for change in content["changes"]:
            known = people.setdefault(change["profile_id"], set())
            known |= {(i["type"], i["value"]) for i in change["add"]}
            known -= {(i["type"], i["value"]) for i in change["remove"]}
    return {
        audience: {person for person, known in people.items() if known}
        for audience, people in members.items()
    }


def current_members(checkout: Checkout) -> dict[str, set[str]]:
    path = checkout.path / "data" / "demo" / "warehouse.duckdb"
    with duckdb.connect(str(path), read_only=True) as warehouse:
        rows = warehouse.sql(
            "select audience, profile_id from audiences.audience_members "
            "where left_at is null"
        ).fetchall()
    found: dict[str, set[str]] = {}
    for audience, profile_id in rows:
        found.setdefault(audience, set()).add(profile_id)
    return found


def left_ever(checkout: Checkout) -> dict[str, int]:
    """Return the count of ended memberships by audience."""
    path = checkout.path / "data" / "demo" / "warehouse.duckdb"
    with duckdb.connect(str(path), read_only=True) as warehouse:
        return dict(
            warehouse.sql(
                "select audience, count(left_at) from audiences.audience_members "
                "group by audience"
            ).fetchall()
        )


def check_receiver(checkout: Checkout) -> None:
    members = current_members(checkout)
    received = sandbox_members(checkout)
    assert received
    assert received == {audience: members[audience] for audience in received}


def check_rules_and_requests(checkout: Checkout) -> None:
    """Check the results of the shipped contract, transformation, webhook and form."""
    held = checkout.json("quarantine", "list", "--limit", "1000")["events"]
    reasons = {(one["event"], one["reason"]) for one in held}
    assert reasons == {
        (
            "demo_subscription_renewed",
            "contract demo_subscription_renewed v1: amount: type",
        ),
        ("newsletter_signed_up", "honeypot"),
    }
    table = (checkout.path / "seeds" / "countries.csv").read_text().splitlines()
    region_of = dict(line.split(",") for line in table[1:])
    path = checkout.path / "data" / "demo" / "warehouse.duckdb"
    with duckdb.connect(str(path), read_only=True) as warehouse:
        regions = warehouse.sql(
            "select distinct country, region from events.demo_subscription_renewed"
        ).fetchall()
        # The cookie that signed up is the person whose address was left.
        alone = warehouse.sql(
            "select count(*) from profiles.profile_events as events "
            "join profiles.profiles using (profile_id) "
            "where event in ('newsletter_signed_up', 'invoice_paid') and email is null"
        ).fetchall()
        joined = warehouse.sql(
            "select count(*) from identity.identity_nodes as customers "
            "join identity.identity_nodes as users using (profile_id) "
            "where customers.identifier_value like 'stripe:%' "
            "and users.identifier_type = 'user_id'"
        ).fetchall()
    assert len(regions) > 2
    assert all(region_of[country] == region for country, region in regions)
    assert alone == [(0,)]
    assert joined[0][0] >= 4


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkout, dict[str, Any]]:
    """A checkout after the demo, to copy, with the demo's output."""
    checkout = clone(tmp_path_factory.mktemp("demo") / "loomline")
    return checkout, checkout.json("demo", "--events", EVENTS)


@pytest.fixture
def first(demo: tuple[Checkout, dict[str, Any]]) -> dict[str, Any]:
    return demo[1]


@pytest.fixture
def ended(demo: tuple[Checkout, dict[str, Any]], tmp_path: Path) -> Checkout:
    """A separate checkout after the demo."""
    path = tmp_path / "loomline"
    shutil.copytree(demo[0].path, path, symlinks=True)
    env = path / ".env"
    env.write_text(env.read_text().replace(str(demo[0].path), str(path)))
    return Checkout(path)


def test_the_demo_twice_then_with_an_edited_audience(
    ended: Checkout, first: dict[str, Any]
) -> None:
    checkout = ended
    saved = checkout.path / "data" / "demo" / "summary.json"
    assert json.loads(saved.read_text()) == first
    assert first["received"] > int(EVENTS)  # the real layouts come on top
    assert sum(first["dispositions"].values()) == first["received"]
    assert first["identity"]["wrong_fusions"] == 0
    assert first["identity"]["missed"] == 0
    assert first["naive"]["wrong_fusions"] > 0
    assert len(first["audiences"]) >= 6
    assert all(first["audiences"].values())
    assert set(first["pushes"]) == {"crm_webhook", "warehouse_drop"}
    assert all(p["added"] and p["removed"] for p in first["pushes"].values())
    assert first["decided"] == first["expected"]
    check_rules_and_requests(checkout)
    check_receiver(checkout)
    assert set(left_ever(checkout)) == set(first["audiences"])
    assert all(left_ever(checkout).values())

    second = checkout.json("demo", "--events", EVENTS)
    assert second["received"] == 0
    assert second["dispositions"] == {}
    assert second["changes"] == {}
    assert second["pushes"] == {
        "crm_webhook": {"added": 0, "removed": 0},
        "warehouse_drop": {"added": 0, "removed": 0},
    }
    same: tuple[str, ...] = ("events", "profiles", "audiences", "identity", "decided")
    assert {key: second[key] for key in same} == {key: first[key] for key in same}

    model = checkout.path / "models" / "audiences" / "aud_cart_abandoners.sql"
    text = model.read_text()
    assert "event_count('cart_updated', within_days=3)" in text
    model.write_text(
        text.replace("'cart_updated', within_days=3", "'cart_updated', within_days=2")
    )
    third = checkout.json("demo", "--events", EVENTS)
    before, after = first["audiences"], third["audiences"]
    left = before["aud_cart_abandoners"] - after["aud_cart_abandoners"]
    assert left > 0
    assert {**after, "aud_cart_abandoners": 0} == {**before, "aud_cart_abandoners": 0}
    assert third["pushes"] == {
        "crm_webhook": {"added": 0, "removed": left},
        "warehouse_drop": {"added": 0, "removed": left},
    }
    assert third["changes"] == {"aud_cart_abandoners": {"entered": 0, "left": left}}
    check_receiver(checkout)

    # undone at the same instant: the same people return, once
    model.write_text(text)
    fourth = checkout.json("demo", "--events", EVENTS)
    assert fourth["audiences"] == before
    assert fourth["pushes"]["crm_webhook"] == {"added": left, "removed": 0}
    check_receiver(checkout)

    # built with dbt: no changes, and the demo still works
    checkout.run([str(checkout.bin / "dbt"), "run", "-s", "aud_cart_abandoners+"])
    assert checkout.json("demo", "--events", EVENTS)["audiences"] == before

    command = [str(checkout.bin / "loomline"), "demo", "--events", EVENTS, "--reset"]
    reset = checkout.run([*command, "--json"])
    assert f"Deleted the demo in {checkout.path / 'data' / 'demo'}." in reset.stderr
    again = json.loads(reset.stdout)
    same = ("received", "events", "profiles", "audiences", "identity", "decided")
    assert {key: again[key] for key in same} == {key: first[key] for key in same}
    check_receiver(checkout)


@pytest.mark.parametrize("wait_s", [5.0, 10.0])
def test_killed_in_the_middle_the_demo_ends_the_same(
    checkout: Checkout, first: dict[str, Any], wait_s: float
) -> None:
    command = [str(checkout.bin / "loomline"), "demo", "--events", EVENTS]
    process = subprocess.Popen(
        command,
        cwd=checkout.path,
        env=checkout.env(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(wait_s)
    process.send_signal(signal.SIGKILL)
    process.wait()
    after = checkout.json("demo", "--events", EVENTS)
    same = ("events", "profiles", "audiences", "identity", "decided")
    assert {key: after[key] for key in same} == {key: first[key] for key in same}
    check_receiver(checkout)


def test_a_broken_model_pushes_nothing_and_the_inbox_reaches_the_audience(
    ended: Checkout,
) -> None:
    checkout = ended
    held = sandbox_members(checkout)
    model = checkout.path / "models" / "audiences" / "aud_cart_abandoners.sql"
    text = model.read_text()
    model.write_text("select profile_id, nonsense from {{ ref('profiles') }}")
    done = checkout.run([str(checkout.bin / "loomline"), "run"], code=1)
    assert "aud_cart_abandoners" in done.stderr
    assert sandbox_members(checkout) == held
    model.write_text(text)

    inbox = checkout.path / "data" / "demo" / "inbox" / "web"
    inbox.mkdir(parents=True)
    lines = [
        {
            "type": kind,
            "messageId": f"new-{number}",
            "event": "Cart Updated" if kind == "track" else None,
            "userId": "new-person",
            "traits": {"email": "new-person@shop.example"},
            "timestamp": "2026-05-01T20:00:00Z",
            "receivedAt": "2026-05-01T20:00:01Z",
        }
        for number, kind in enumerate(("identify", "track"))
    ]
    (inbox / "events.ndjson").write_text(
        "\n".join(map(json.dumps, lines)) + "\nnot json\n"
    )
    before = current_members(checkout)
    landed = checkout.json("land")
    assert landed["received"] == 3
    assert landed["dispositions"] == {"admitted": 2, "rejected": 1}
    assert list(inbox.iterdir()) == []
    done = checkout.json("run", "--no-push")
    assert done["pushes"] == []
    entered = (
        current_members(checkout)["aud_cart_abandoners"] - before["aud_cart_abandoners"]
    )
    assert len(entered) == 1
    path = checkout.path / "data" / "demo" / "warehouse.duckdb"
    with duckdb.connect(str(path), read_only=True) as warehouse:
        (reason, payload), *others = warehouse.sql(
            "select reason, payload from raw.dispositions "
            "where disposition = 'rejected' and source = 'web'"
        ).fetchall()
    assert not others
    assert reason.endswith("events.ndjson:3: not_json")
    assert payload == "not json"
