"""Visitors without identifiers until they identify, through a collector."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connectors.events.policy import Policy
from connectors.ingest.inbox import land_inbox
from tests.oracles.identity import profile_id
from tests.support import PROJECT
from tests.support.collecting import Collecting, collecting, make_key
from tests.support.warehouses import IDENTITY, Warehouse

PEOPLE = f"{IDENTITY} +profiles +profile_events +profile_aliases"
OFFICE = {"User-Agent": "TestBrowser/1", "Accept-Language": "de-AT"}
REFUSED = {"consent": {"categoryPreferences": {"analytics": False}}}


class Site:
    """A site whose visitors share an address and a browser."""

    def __init__(self, collector: Collecting) -> None:
        self._collector = collector

    def send(self, *calls: dict[str, Any], key: str = "ASKS", **more: str) -> list[str]:
        """Send the calls in one request; return their reasons or statuses."""
        answer = self._collector.post(
            "/v1/batch?receipts=1",
            {"batch": calls},
            headers={"Authorization": f"Bearer {key}", **OFFICE, **more},
        )
        return [one["reason"] or one["status"] for one in answer.json()["events"]]


@pytest.fixture
def site(warehouse: Warehouse) -> Iterator[Site]:
    """A site with one key for `analytics` and one for `advertising`."""
    home = warehouse.home
    for key, category in (("ASKS", "analytics"), ("ASKS_ADS", "advertising")):
        policy = Policy(fingerprint=category)
        make_key(home, key, name=category, kind="browser", policy=policy)
    with collecting(home, env={"FORWARDED_ALLOW_IPS": "127.0.0.1"}) as collector:
        yield Site(collector)


def view(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "page", "messageId": name, **more}


def identify(user: str, **more: Any) -> dict[str, Any]:
    return {"type": "identify", "messageId": f"is-{user}", "userId": user, **more}


def build(warehouse: Warehouse) -> dict[str, set[str]]:
    """Return the messages by profile id."""
    land_inbox(warehouse.home, PROJECT)
    warehouse.build(at=datetime.now(UTC) + timedelta(minutes=1), select=PEOPLE)
    found: dict[str, set[str]] = {}
    for profile, message in warehouse.rows(
        "select profile_id, message_id from profiles.profile_events"
    ):
        found.setdefault(profile, set()).add(message)
    assert warehouse.count("profiles.profiles") == len(found)
    return found


def test_what_a_visitor_without_cookies_saw_belongs_to_whom_they_turn_out_to_be(
    warehouse: Warehouse, site: Site
) -> None:
    jane = profile_id(("user_id", "jane"))
    assert site.send(view("first"), view("second")) == ["admitted"] * 2
    ((anonymous, seen),) = build(warehouse).items()
    assert seen == {"first", "second"} and anonymous != jane
    site.send(identify("jane", traits={"plan": "free"}))
    site.send(view("third"))
    assert build(warehouse) == {jane: {"first", "second", "is-jane", "third"}}
    assert warehouse.rows(
        "select old_profile_id, profile_id from identity.profile_aliases"
    ) == [(anonymous, jane)]


def test_an_office_behind_one_address_never_becomes_one_person(
    warehouse: Warehouse, site: Site
) -> None:
    ann, bob = (profile_id(("user_id", user)) for user in ("ann", "bob"))
    site.send(view("unknown"))
    site.send(identify("ann", anonymousId="anns-cookie"))
    site.send(identify("bob", anonymousId="bobs-cookie"))
    site.send(view("unknown too"))
    site.send(view("anns", anonymousId="anns-cookie"))
    site.send(view("bobs", anonymousId="bobs-cookie"))
    # Two unidentified visitors, the second with a placeholder id.
    site.send(
        {"type": "identify", "messageId": "c", "anonymousId": "cleos-cookie"},
        identify("null", anonymousId="dans-cookie"),
    )
    assert build(warehouse) == {
        ann: {"unknown", "is-ann", "unknown too", "anns"},
        bob: {"is-bob", "bobs"},
        profile_id(("anonymous_id", "cleos-cookie")): {"c"},
        profile_id(("anonymous_id", "dans-cookie")): {"is-null"},
    }
    assert warehouse.rows(
        "select rule, left_value, right_type from identity.identity_conflicts"
    ) == [("later_link", "bob", "fingerprint")]


def test_visitors_behind_a_proxy_are_told_apart(
    warehouse: Warehouse, site: Site
) -> None:
    ann, bob = (profile_id(("user_id", user)) for user in ("ann", "bob"))
    for user, address in (("ann", "203.0.113.1"), ("bob", "203.0.113.2")):
        forwarded = {"X-Forwarded-For": address}
        site.send(view(f"{user} looks"), **forwarded)
        site.send(identify(user), **forwarded)
    assert build(warehouse) == {
        ann: {"ann looks", "is-ann"},
        bob: {"bob looks", "is-bob"},
    }


def test_who_refuses_is_not_recognized(warehouse: Warehouse, site: Site) -> None:
    assert site.send(view("no", context=REFUSED)) == ["missing_identity"]
    assert site.send(identify("jane", context=REFUSED)) == ["admitted"]
    private = {"key": "ASKS_ADS", "Sec-GPC": "1"}
    assert site.send(view("private"), **private) == ["missing_identity"]
    assert site.send(identify("joe"), **private) == ["admitted"]
    build(warehouse)
    assert warehouse.rows(
        "select identifier_type, identifier_value from identity.identity_nodes "
        "order by all"
    ) == [("user_id", "jane"), ("user_id", "joe")]
