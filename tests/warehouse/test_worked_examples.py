"""Worked examples: a few events with results computed by hand."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from connectors.events.policy import Policy
from connectors.home import Home
from connectors.ingest.inbox import land_inbox
from orchestration.pipeline.dbt_runner import Models
from orchestration.project import Project
from tests.oracles.identity import profile_id
from tests.support.collecting import collecting, make_key
from tests.support.warehouses import IDENTITY, MakeWarehouse, Warehouse

BASE = datetime(2026, 5, 1, tzinfo=UTC)
PEOPLE = f"{IDENTITY} +stg_events +profiles +groups +group_members +consent"
Call = dict[str, Any]

AUDIENCES = {
    "aud_example_edges": """
        {{ audience(
            all_of=[
                event_count('viewed_pricing', at_least=2, within_days=7),
                trait('plan', equals='free'),
            ],
            none_of=[trait('completed_onboarding', equals=true)],
        ) }}
    """,
    "aud_example_buyers": """
        {{ audience(all_of=[event_count('order_completed', at_least=2)]) }}
    """,
    "aud_example_order": """
        {{ audience(all_of=[
            event_count('viewed_pricing', at_least=3, within_days=30),
        ]) }}
    """,
}


@pytest.fixture(scope="session")
def example_models(
    project_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Path], Models]:
    """Models of the project with two more audiences, parsed once."""
    project = tmp_path_factory.mktemp("project")
    for name in ("dbt_project.yml", "profiles.yml"):
        shutil.copy(project_path / name, project)
    for name in ("models", "macros", "seeds", "orchestration/defs"):
        shutil.copytree(project_path / name, project / name)
    for name, sql in AUDIENCES.items():
        (project / "models" / "audiences" / f"{name}.sql").write_text(sql)
    parsed: list[Any] = []

    def make(home: Path) -> Models:
        models = Models(Project(project, Home(home)), *parsed)
        if not parsed:
            models.parse()
            parsed.append(models._manifest)
        return models

    return make


@pytest.fixture
def make_example(
    make_warehouse: MakeWarehouse, example_models: Callable[[Path], Models]
) -> MakeWarehouse:
    def make() -> Warehouse:
        return Warehouse(example_models(make_warehouse().home.path))

    return make


def call(name: str, at: timedelta, **fields: Any) -> Call:
    """Return a call made and received at that offset from the base time."""
    moment = (BASE + at).isoformat()
    return {
        "messageId": name,
        "type": "track",
        "timestamp": moment,
        "receivedAt": moment,
    } | fields


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


def identify(number: int, user: str, **traits: str) -> Call:
    return call(f"i{number}", minutes(number), type="identify", userId=user) | (
        {"traits": traits} if traits else {}
    )


def identities(warehouse: Warehouse) -> set[frozenset[tuple[str, str]]]:
    """Return the identifiers of each profile."""
    found: dict[str, set[tuple[str, str]]] = {}
    for profile, identifier_type, value in warehouse.rows(
        """
        select profile_id, identifier_type, identifier_value
        from identity.identity_nodes
        """
    ):
        found.setdefault(profile, set()).add((identifier_type, value))
    return {frozenset(profile) for profile in found.values()}


def rules(warehouse: Warehouse) -> list[str]:
    query = "select rule from identity.identity_conflicts order by all"
    return [rule for (rule,) in warehouse.rows(query)]


# Placeholders

PLACEHOLDERS = [
    *("N/A", "n/a", "NA", "unknown", "Unknown", "test", "TEST", "null", "NULL", "Null"),
    *("nan", "NaN", "None", "none", "NONE", "nil", "undefined", "guest", "0", "-1"),
    *("00000000-0000-0000-0000-000000000000", " unknown ", '"null"', "'N/A'", "{}"),
    *("[object Object]", "<nil>", "anonymous", "True", "not_authenticated"),
]
FIELDS = ("userId", "anonymousId", "distinct_id")
REAL = ["tester", "Test1", "test@shop.example", "n/a-1", "nanette", "unknown_7", "10"]


def test_what_people_type_instead_of_an_id_is_no_person(warehouse: Warehouse) -> None:
    calls = [
        call(f"{number}-{field}", minutes(number), event="Viewed", **{field: value})
        for number, value in enumerate(PLACEHOLDERS + REAL)
        for field in FIELDS
    ]
    # Next to a real id, a placeholder links nothing.
    calls += [
        identify(number, f"u{number}", email="N/A") | {"anonymousId": value}
        for number, value in enumerate(PLACEHOLDERS)
    ]
    imported = warehouse.land(calls, "app")
    assert imported.dispositions == {"admitted": len(calls)}
    warehouse.build(select=f"{PEOPLE} +profile_events")

    assert warehouse.count("staging.events") == len(calls)
    owners = {frozenset({("user_id", f"u{n}")}) for n in range(len(PLACEHOLDERS))}
    for identifier_type in ("user_id", "anonymous_id"):
        owners |= {frozenset({(identifier_type, value)}) for value in REAL}
    assert identities(warehouse) == owners
    assert warehouse.count("profiles.profiles") == len(owners)
    query = "select message_id from profiles.profile_events"
    attached = {message for (message,) in warehouse.rows(query)}
    unattached = {f"{n}-{f}" for n in range(len(PLACEHOLDERS)) for f in FIELDS}
    assert not attached & unattached
    assert len(attached) == len(calls) - len(unattached)


# One call, all or nothing


def one_call(group_id: str | None) -> Call:
    return {
        "event": "$identify",
        "message_id": "one-call",
        "distinct_id": "anon_abc",
        "timestamp": BASE.isoformat(),
        "properties": {
            "$user_id": "user_123",
            "$email": "jane@acme.com",
            "$group": {
                "$group_type": "company",
                "$group_id": group_id,
                "plan": "enterprise",
            },
        },
    }


def test_one_call_makes_user_group_membership_and_link(warehouse: Warehouse) -> None:
    imported = warehouse.land([one_call("acme_inc")], "app")
    assert imported.dispositions == {"admitted": 1}
    warehouse.build(select=PEOPLE)
    ids = {("user_id", "user_123"), ("email", "jane@acme.com")}
    assert identities(warehouse) == {frozenset(ids | {("anonymous_id", "anon_abc")})}
    ((profile, user_id, email),) = warehouse.rows(
        "select profile_id, user_id, email from profiles.profiles"
    )
    assert (user_id, email) == ("user_123", "jane@acme.com")
    assert warehouse.rows(
        "select group_type, group_id, traits ->> '$.plan' from profiles.groups"
    ) == [("company", "acme_inc", "enterprise")]
    assert warehouse.rows(
        "select group_type, group_id, profile_id, valid_to from profiles.group_members"
    ) == [("company", "acme_inc", profile, None)]


def test_one_call_with_a_group_without_id_makes_nothing(warehouse: Warehouse) -> None:
    imported = warehouse.land([one_call(None)], "app")
    assert imported.dispositions == {"rejected": 1}
    warehouse.build(select=f"{PEOPLE} +stg_dispositions")
    assert warehouse.rows("select disposition, reason from staging.dispositions") == [
        ("rejected", "group_id_missing")
    ]
    for table in (
        "staging.events",
        "profiles.profiles",
        "profiles.groups",
        "profiles.group_members",
        "identity.identity_nodes",
        "identity.identity_edges",
    ):
        assert warehouse.count(table) == 0, table


# Retry storm


def test_a_retry_storm_changes_no_count(warehouse: Warehouse) -> None:
    def batch(sent: timedelta, *names: str) -> list[Call]:
        return [
            call(name, minutes(0), event="Viewed Pricing", userId="u")
            | {"receivedAt": (BASE + sent).isoformat()}
            for name in names
        ]

    first = ("e1", "e2", "e3")
    for sent, names, count in (
        (minutes(1), first, 3),
        (minutes(2), first, 3),
        (minutes(5), first, 3),
        (timedelta(hours=30), (*first, "e4"), 4),
    ):
        warehouse.land(batch(sent, *names), "app")
        warehouse.build(select=f"{PEOPLE} +stg_dispositions")
        assert warehouse.rows("select count_events from profiles.profiles") == [
            (count,)
        ]
    (changed,) = batch(timedelta(hours=31), "e2")
    warehouse.land([changed | {"properties": {"plan": "scale"}}], "app")
    warehouse.build(select=f"{PEOPLE} +stg_dispositions")
    assert warehouse.rows("select count_events from profiles.profiles") == [(4,)]
    assert warehouse.count("staging.events") == 4
    assert warehouse.rows(
        "select disposition, count(*) from staging.dispositions group by 1 order by 1"
    ) == [("accepted", 4), ("conflict", 1), ("duplicate", 9)]


# Order does not matter


ORDERS = list(permutations("abcd"))


def part(name: str, world: int) -> list[Call]:
    """Return a part of the example, with separate people for each world."""

    def pricing(name: str, at: timedelta, browser: str) -> Call:
        event = "Viewed Pricing"
        return call(
            f"{name}-{world}", at, event=event, anonymousId=f"{browser}-{world}"
        )

    def known(name: str, at: timedelta, browser: str, email: str) -> Call:
        return call(f"{name}-{world}", at, type="identify", userId=f"u1-{world}") | {
            "anonymousId": f"{browser}-{world}",
            "traits": {"email": email},
        }

    match name:
        case "a":
            return [pricing(f"a{n}", minutes(600 + 5 * n), "anon_1") for n in range(3)]
        case "b":
            return [known("b", minutes(620), "anon_1", f"jane{world}@acme.com")]
        case "c":
            return [known("c", minutes(660), "anon_2", f" Jane{world}@Acme.com ")]
    late = pricing("d", minutes(570), "anon_2")
    return [late | {"receivedAt": (BASE + timedelta(days=3, minutes=570)).isoformat()}]


@pytest.mark.parametrize("how", ["four batches", "one batch"])
def test_order_does_not_matter(make_example: MakeWarehouse, how: str) -> None:
    """All 24 orders at once, each in a separate world of the same warehouse."""
    warehouse = make_example()
    at = BASE + timedelta(days=4)
    select = f"{IDENTITY} +aud_example_order +profile_events"
    batches = [
        [given for world, order in enumerate(ORDERS) for given in part(order[n], world)]
        for n in range(4)
    ]
    if how == "one batch":
        batches = [[given for batch in batches for given in batch]]
    # The same in each world: e-mail and u1 come together, types in order.
    janes = [profile_id(("email", f"jane{world}@acme.com")) for world in range(24)]

    def check() -> None:
        assert identities(warehouse) == {
            frozenset(
                {
                    ("anonymous_id", f"anon_1-{world}"),
                    ("anonymous_id", f"anon_2-{world}"),
                    ("user_id", f"u1-{world}"),
                    ("email", f"jane{world}@acme.com"),
                }
            )
            for world in range(24)
        }
        found = warehouse.rows(
            """
            select profile_id, count(*) from profiles.profile_events
            where event = 'viewed_pricing' group by all
            """
        )
        assert sorted(found) == sorted((jane, 4) for jane in janes)
        members = warehouse.rows("select profile_id from audiences.aud_example_order")
        assert sorted(members) == sorted((jane,) for jane in janes)

    for batch in batches:
        warehouse.land(batch, "app")
        warehouse.build(at=at, select=select)
    check()
    warehouse.build(at=at, select=select, full_refresh=True)
    check()


# Preview equals truth


def test_windows_are_half_open_and_texts_exact(make_example: MakeWarehouse) -> None:
    def views(user: str, plan: str, *ago: timedelta, **traits: Any) -> list[Call]:
        viewed = [
            call(f"{user}-{n}", -moment, event="Viewed Pricing", userId=user)
            for n, moment in enumerate(ago)
        ]
        about = call(user, timedelta(days=-20), type="identify", userId=user)
        return [*viewed, about | {"traits": {"plan": plan, **traits}}]

    day, tick = timedelta(days=1), timedelta(microseconds=1)
    people = {
        "u1": views("u1", "free", 7 * day - minutes(1), day),
        "u2, at the first instant": views("u2", "free", 7 * day, day),
        "u3, another spelling": views(
            "u3", "Free", 2 * day, day, completed_onboarding=False
        ),
        "u4, just before the window": views("u4", "free", 7 * day + tick, day),
        "u5, at the window's end": views("u5", "free", timedelta(0), day),
        "u6, just before its end": views("u6", "free", tick, day),
        "u7, onboarded": views("u7", "free", 2 * day, day, completed_onboarding=True),
        "u8, not onboarded": views(
            "u8", "free", 2 * day, day, completed_onboarding=False
        ),
    }
    warehouse = make_example()
    warehouse.land([given for calls in people.values() for given in calls], "app")
    select = "+aud_example_edges +audience_members"
    warehouse.build(at=BASE, select=select)
    members = warehouse.rows(
        """
        select user_id from audiences.aud_example_edges
        inner join profiles.profiles using (profile_id) order by all
        """
    )
    assert [user for (user,) in members] == ["u1", "u2", "u6", "u8"]
    in_ledger = """
        select count(*) from audiences.audience_members
        where audience = 'aud_example_edges' and left_at is null
    """
    assert warehouse.rows(in_ledger) == [(4,)]
    # A moment later U2's first view is out, and U5's is in.
    warehouse.build(at=BASE + tick, select=select)
    assert warehouse.rows(
        """
        select user_id, entered_at, left_at from audiences.audience_members
        inner join profiles.profiles using (profile_id)
        where audience = 'aud_example_edges' and user_id in ('u2', 'u5') order by all
        """
    ) == [
        ("u2", BASE.replace(tzinfo=None), (BASE + tick).replace(tzinfo=None)),
        ("u5", (BASE + tick).replace(tzinfo=None), None),
    ]
    assert warehouse.rows(in_ledger) == [(4,)]


# Small identity examples


def test_a_shared_tablet_never_fuses_two_people(warehouse: Warehouse) -> None:
    tablet = {"anonymousId": "tablet", "context": {"device": {"id": "tablet-device"}}}
    users = ("ann", "bob", "cleo")
    for number, user in enumerate(users):
        warehouse.land([identify(number, user) | tablet], "app")
        warehouse.build(select=IDENTITY)
    with_tablet = {("anonymous_id", "tablet"), ("device_id", "tablet-device")}
    assert identities(warehouse) == {
        frozenset({("user_id", "ann")} | with_tablet),
        frozenset({("user_id", "bob")}),
        frozenset({("user_id", "cleo")}),
    }
    assert rules(warehouse) == ["later_link"] * 4


def test_three_accounts_on_one_e_mail_are_one_person_and_a_fourth_makes_it_a_hub(
    warehouse: Warehouse,
) -> None:
    calls = [identify(n, f"u{n}", email="box@acme.com") for n in range(4)]
    warehouse.land(calls[:3], "app")
    warehouse.build(select=IDENTITY)
    users = [("user_id", f"u{n}") for n in range(4)]
    mailbox = ("email", "box@acme.com")
    assert identities(warehouse) == {frozenset([*users[:3], mailbox])}
    assert rules(warehouse) == []

    warehouse.land(calls[3:], "app")
    warehouse.build(select=IDENTITY)
    assert identities(warehouse) == {frozenset([one]) for one in (*users, mailbox)}
    assert rules(warehouse) == ["hub"] * 4


def test_a_new_e_mail_and_phone_stay_with_the_person(warehouse: Warehouse) -> None:
    warehouse.land(
        [
            identify(1, "u", email="old@acme.com", phone="+14155552671"),
            identify(2, "u", email="NEW@acme.com", phone="+1 415 555 2672"),
        ],
        "app",
    )
    warehouse.build(select=PEOPLE)
    assert identities(warehouse) == {
        frozenset(
            {
                ("user_id", "u"),
                ("email", "old@acme.com"),
                ("email", "new@acme.com"),
                ("phone", "+14155552671"),
                ("phone", "+14155552672"),
            }
        )
    }
    assert warehouse.rows("select email from profiles.profiles") == [("new@acme.com",)]
    assert warehouse.rows(
        "select value, updated_at from profiles.profile_traits where trait = 'phone'"
    ) == [("+1 415 555 2672", datetime(2026, 5, 1, 0, 2))]


def test_another_group_ends_the_membership_before_it(warehouse: Warehouse) -> None:
    def joins(number: int, group: str) -> Call:
        at = minutes(number)
        return call(f"g{number}", at, type="group", userId="u", groupId=group) | {
            "traits": {"plan": f"plan-{number}"}
        }

    def moments(query: str) -> list[tuple[Any, ...]]:
        def minute(value: Any) -> Any:
            if type(value) is not datetime:
                return value
            return (value - BASE.replace(tzinfo=None)) / minutes(1)

        return [tuple(map(minute, row)) for row in warehouse.rows(query)]

    members = "select group_id, valid_from, valid_to from profiles.group_members"
    warehouse.land([joins(1, "acme"), joins(2, "acme"), joins(5, "umbra")], "app")
    warehouse.build(select=PEOPLE)
    assert sorted(moments(members)) == [("acme", 1, 5), ("umbra", 5, None)]
    # A move in between that arrives later.
    warehouse.land([joins(3, "orbit")], "app")
    warehouse.build(select=PEOPLE)
    assert sorted(moments(members)) == [
        ("acme", 1, 3),
        ("orbit", 3, 5),
        ("umbra", 5, None),
    ]
    assert warehouse.rows(
        "select group_id, traits ->> '$.plan' from profiles.groups order by all"
    ) == [("acme", "plan-2"), ("orbit", "plan-3"), ("umbra", "plan-5")]


def test_consent_is_the_most_restrictive_until_a_new_statement(
    warehouse: Warehouse,
) -> None:
    def states(number: int, granted: bool, **ids: str) -> Call:
        preferences = {"categoryPreferences": {"advertising": granted}}
        return call(f"c{number}", minutes(number), event="Said", **ids) | {
            "context": {"consent": preferences}
        }

    def granted() -> dict[str, bool]:
        return dict(
            warehouse.rows(
                """
                select identifier_value, granted from profiles.consent
                inner join identity.identity_nodes using (profile_id)
                where category = 'advertising'
                """
            )
        )

    said = [states(1, False, anonymousId="browser"), states(2, True, userId="u")]
    warehouse.land(said, "app")
    warehouse.build(select=PEOPLE)
    assert granted() == {"browser": False, "u": True}
    # They turn out to be one person, without a later statement.
    warehouse.land([identify(3, "u") | {"anonymousId": "browser"}], "app")
    warehouse.build(select=PEOPLE)
    assert granted() == {"browser": False, "u": False}
    warehouse.land([states(4, True, userId="u")], "app")
    warehouse.build(select=PEOPLE)
    assert granted() == {"browser": True, "u": True}
    warehouse.land([states(5, False, anonymousId="browser")], "app")
    warehouse.build(select=PEOPLE)
    assert granted() == {"browser": False, "u": False}


# One event has one name


def test_an_event_is_the_same_whichever_way_its_senders_write_it(
    make_example: MakeWarehouse,
) -> None:
    warehouse = make_example()
    home, project = warehouse.home, warehouse.models.project.path
    app = make_key(home, "APP", name="app", policy=Policy(convention="camelCase"))
    shop = make_key(home, "SHOP", name="shop")
    with collecting(home) as collector:
        for key, name in ((app, "orderCompleted"), (shop, "Order Completed")):
            sent = {"userId": "u1", "messageId": name, "event": name}
            head = {"Authorization": f"Bearer {key}"}
            answer = collector.post("/v1/track?receipts=1", sent, headers=head)
            assert answer.json()["events"][0]["status"] == "admitted"
    land_inbox(home, project)
    warehouse.build(
        at=datetime.now(UTC) + timedelta(minutes=1),
        select="+int_dispositions +schema_changes +stg_events +aud_example_buyers",
    )
    tables = "select distinct table_name from events.event_columns"
    assert warehouse.rows(tables) == [("order_completed",)]
    assert warehouse.rows(
        "select source, event, event_text from events.order_completed order by source"
    ) == [
        ("app", "order_completed", "orderCompleted"),
        ("shop", "order_completed", "Order Completed"),
    ]
    assert warehouse.rows("select violations from staging.events") == [(None,)] * 2
    assert warehouse.count("audiences.aud_example_buyers") == 1
