"""The oracle of identity on cases small enough to decide by hand."""

import csv
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import md5
from itertools import chain, permutations
from random import Random

import networkx as nx
import phonenumbers
import pytest

from tests.oracles.graphs import never_links, random_events, to_call
from tests.oracles.identity import (
    SEEDS,
    BlockRule,
    Identifier,
    Identities,
    OracleEvent,
    identifiers,
    read_blocked,
    read_identifier_types,
    resolve,
)

START = datetime(2026, 5, 1, tzinfo=UTC)
FIELDS = {
    "u": "user_id",
    "e": "email",
    "p": "phone",
    "x": "external_id",
    "a": "anonymous_id",
    "d": "device_id",
    "f": "fingerprint",
    "distinct": "distinct_id",
    "previous": "previous_id",
}


def node(text: str) -> Identifier:
    """`u:1` is the user_id `u:1`."""
    return FIELDS[text.partition(":")[0]], text


def carrying(
    minute: int, *nodes: str | Identifier, id: str | None = None
) -> OracleEvent:
    found = tuple(node(n) if isinstance(n, str) else n for n in nodes)
    return OracleEvent(id or f"m{minute:04}", START + timedelta(minutes=minute), found)


def events_of(*lines: str) -> list[OracleEvent]:
    """One event a minute, each line its identifiers."""
    return [carrying(n, *line.split()) for n, line in enumerate(lines)]


def people(result: Identities) -> set[frozenset[str]]:
    return {frozenset(value for _, value in p) for p in result.profiles()}


def groups(*lines: str) -> set[frozenset[str]]:
    return {frozenset(line.split()) for line in lines}


def refusals(result: Identities) -> set[tuple[str, str, str]]:
    return {(c.rule, c.left_value, c.right_value) for c in result.conflicts}


def pair(left: str, right: str) -> frozenset[Identifier]:
    return frozenset((node(left), node(right)))


def hashed(text: str) -> str:
    return md5(text.encode()).hexdigest()


def test_order_does_not_matter() -> None:
    u1, jane = ("user_id", "u1"), ("email", "jane@acme.com")
    anon_1, anon_2 = ("anonymous_id", "anon_1"), ("anonymous_id", "anon_2")
    steps = (
        [carrying(minute, anon_1) for minute in (600, 605, 610)],
        [carrying(620, anon_1, u1, jane)],
        [carrying(660, anon_2, u1, jane)],
        [carrying(3 * 1440 + 570, anon_2)],
    )
    results = [resolve(chain.from_iterable(p)) for p in permutations(steps)]
    assert all(result == results[0] for result in results)
    first = results[0]
    assert first.profiles() == {frozenset((u1, jane, anon_1, anon_2))}
    # user_id and e-mail came in the same event: `email` sorts first.
    assert {seen.profile_id for seen in first.nodes.values()} == {
        hashed("email:jane@acme.com")
    }
    assert first.edges[u1, jane] == (START + timedelta(minutes=620), "m0620", 2)
    assert first.nodes[anon_1].first_received_at == START + timedelta(minutes=600)


def test_an_event_links_its_highest_priority_identifier_to_the_others() -> None:
    edges = resolve(events_of("d:1 a:1 p:1 u:1 e:1", "a:2 p:2 e:2")).edges
    assert set(edges) == {
        *((node("u:1"), node(other)) for other in ("e:1", "p:1", "a:1", "d:1")),
        *((node("e:2"), node(other)) for other in ("p:2", "a:2")),
    }


def test_a_shared_tablet_never_fuses_two_people() -> None:
    result = resolve(events_of("d:tablet u:1", "d:tablet u:2", "d:tablet e:3"))
    assert people(result) == groups("u:1 d:tablet", "u:2", "e:3")
    assert refusals(result) == {
        ("later_link", "u:2", "d:tablet"),
        ("later_link", "e:3", "d:tablet"),
    }


def test_later_links_of_a_tablet_to_the_same_person_are_no_conflict() -> None:
    result = resolve(events_of("d:1 u:1", "d:1 e:1", "u:1 e:1"))
    assert people(result) == groups("u:1 e:1 d:1")
    assert not result.conflicts


def test_three_accounts_on_one_email_are_one_person() -> None:
    result = resolve(events_of("e:1 u:1", "e:1 u:2", "e:1 u:3"))
    assert people(result) == groups("e:1 u:1 u:2 u:3")
    assert not result.conflicts


@pytest.mark.parametrize("contact", ["e:info", "p:desk", "x:household"])
def test_the_fourth_account_on_a_contact_splits_what_three_had_joined(
    contact: str,
) -> None:
    lines = [f"{contact} u:{n} a:{n}" for n in range(4)]
    result = resolve(events_of(*lines))
    assert people(result) == groups(contact, *(f"u:{n} a:{n}" for n in range(4)))
    assert refusals(result) == {("hub", f"u:{n}", contact) for n in range(4)}


def test_a_hub_also_loses_its_edges_to_other_contacts_and_cookies() -> None:
    mailbox = [f"e:info u:{n}" for n in range(4)]
    result = resolve(events_of(*mailbox, "e:info p:1", "e:info a:1"))
    assert people(result) == groups(
        "e:info", "p:1", "a:1", *(f"u:{n}" for n in range(4))
    )
    assert {("hub", "e:info", "p:1"), ("hub", "e:info", "a:1")} < refusals(result)


def test_only_user_ids_count_as_stronger_links() -> None:
    result = resolve(events_of(*(f"p:1 e:{n}" for n in range(4))))
    assert people(result) == groups("p:1 e:0 e:1 e:2 e:3")


def test_hubs_are_counted_before_any_edge_is_lost() -> None:
    both = [f"e:{m} u:{n}" for m in (1, 2) for n in range(4)]
    result = resolve(events_of(*both))
    assert len(people(result)) == 6
    assert {rule for rule, _, _ in refusals(result)} == {"hub"}


def test_who_identifies_every_day_with_a_new_fingerprint_is_no_crowd() -> None:
    days = [f"e:1 f:{n}" for n in range(200)]
    assert len(people(resolve(events_of("u:1 e:1", *days)))) == 1


@pytest.mark.parametrize(("cookies", "profiles"), [(100, 1), (101, 102)])
def test_an_email_holds_100_cookies(cookies: int, profiles: int) -> None:
    result = resolve(events_of(*(f"e:1 a:{n}" for n in range(cookies))))
    assert len(result.profiles()) == profiles
    assert len(result.conflicts) == (101 if cookies == 101 else 0)


def test_cookies_seen_beside_a_user_id_do_not_count_for_the_email() -> None:
    result = resolve(events_of(*(f"u:1 e:1 a:{n}" for n in range(101))))
    assert len(result.profiles()) == 1


def test_a_chain_stops_at_the_fourth_account() -> None:
    lines = [
        "u:1 e:1",
        "u:2 e:1",
        "u:2 e:2",
        "u:3 e:2",
        "u:3 e:3",
        "u:4 e:3",
        "u:4 a:4",
    ]
    result = resolve(events_of(*lines))
    assert people(result) == groups("u:1 u:2 u:3 e:1 e:2 e:3", "u:4 a:4")
    assert refusals(result) == {("max_per_profile", "u:4", "e:3")}
    # Evidence decides which edge is refused: here the first link is the latest.
    result = resolve(events_of(*lines[1:], lines[0]))
    assert refusals(result) == {("max_per_profile", "u:1", "e:1")}


def test_a_more_trusted_kind_joins_before_earlier_evidence() -> None:
    phones = ["u:1 p:1", "u:2 p:1"]
    emails = ["u:2 e:2", "u:3 e:2", "u:3 e:3", "u:4 e:3"]
    result = resolve(events_of(*phones, *emails))
    assert people(result) == groups("u:1 p:1", "u:2 u:3 u:4 e:2 e:3")
    assert refusals(result) == {("max_per_profile", "u:2", "p:1")}


def test_the_weaker_end_decides_before_the_stronger_end() -> None:
    lines = ["u:1 x:1", "e:1 p:1", "u:1 p:1"]
    result = resolve(events_of(*lines), never_link={pair("e:1", "x:1")})
    assert refusals(result) == {("never_link", "u:1", "x:1")}


def test_between_equal_weaker_ends_the_stronger_end_decides() -> None:
    types = read_identifier_types()
    types["phone"] = replace(types["phone"], max_per_profile=1)
    result = resolve(events_of("e:1 p:2", "u:1 p:1", "u:1 e:1"), types=types)
    assert refusals(result) == {("max_per_profile", "e:1", "p:2")}


def test_the_smaller_values_go_first_when_all_evidence_is_equal() -> None:
    events = [carrying(0, f"u:{n}", f"e:{n}", f"p:{n}", id="m") for n in range(4)]
    links = [carrying(1, f"u:{n}", f"e:{n + 1}", id="m") for n in range(3)]
    for order in permutations(links):
        result = resolve([*events, *order])
        assert refusals(result) == {("max_per_profile", "u:2", "e:3")}


def test_the_smaller_message_id_goes_first_at_one_instant() -> None:
    events = [
        carrying(0, "u:1", "d:1", id="m2"),
        carrying(0, "u:2", "d:1", id="m1"),
        carrying(0, "u:4", "d:2", id="m3"),
        carrying(0, "u:3", "d:2", id="m3"),
    ]
    assert people(resolve(events)) == groups("u:1", "u:2 d:1", "u:3 d:2", "u:4")


def test_never_link_holds_along_every_path() -> None:
    lines = ["u:1 e:1", "u:2 e:1", "u:2 e:2", "u:1 e:2"]
    result = resolve(events_of(*lines), never_link={pair("u:1", "u:2")})
    assert people(result) == groups("u:1 e:1", "u:2 e:2")
    assert refusals(result) == {
        ("never_link", "u:2", "e:1"),
        ("never_link", "u:1", "e:2"),
    }


def test_never_link_is_named_before_a_limit() -> None:
    types = read_identifier_types()
    types["user_id"] = replace(types["user_id"], max_per_profile=1)
    result = resolve(
        events_of("u:1 e:1", "u:2 e:1"),
        never_link={pair("u:1", "u:2")},
        types=types,
    )
    assert refusals(result) == {("never_link", "u:2", "e:1")}


def test_a_cookie_cut_off_goes_to_its_next_link() -> None:
    lines = ["u:1 a:1", "e:1 a:1", "u:1 e:1", "u:2 a:1"]
    result = resolve(events_of(*lines), never_link={pair("u:1", "a:1")})
    assert people(result) == groups("u:1 e:1", "u:2 a:1")
    assert refusals(result) == {
        ("never_link", "u:1", "a:1"),
        ("never_link", "e:1", "a:1"),
    }


def test_a_cookie_cut_off_does_not_come_back_through_its_device() -> None:
    lines = ["u:1 d:1", "a:1 d:1"]
    result = resolve(events_of(*lines), never_link={pair("u:1", "a:1")})
    assert people(result) == groups("u:1 d:1", "a:1")
    assert refusals(result) == {("never_link", "a:1", "d:1")}


def test_a_forbidden_link_is_named_so_even_when_it_is_also_a_later_one() -> None:
    events = [
        *events_of("u:1 a:1", "u:2 a:2", "u:2 a:1"),
        carrying(3, "a:1", ("distinct_id", "a:2")),
    ]
    result = resolve(events, never_link={pair("u:2", "a:1"), pair("a:1", "a:2")})
    assert refusals(result) == {
        ("never_link", "u:2", "a:1"),
        ("never_link", "a:1", "a:2"),
    }


def test_weak_values_without_a_person_are_one_anonymous_profile() -> None:
    result = resolve(events_of("a:1 d:1", "d:1 f:1", "a:2"))
    assert people(result) == groups("a:1 d:1 f:1", "a:2")
    # Seen in the same event: `anonymous_id` sorts before `device_id`.
    assert result.nodes[node("f:1")].profile_id == hashed("anonymous_id:a:1")


def test_a_weak_value_belongs_with_the_weak_value_it_was_first_seen_with() -> None:
    result = resolve(events_of("a:1 f:1", "a:2 f:1", "u:1 a:1", "u:2 a:2"))
    assert people(result) == groups("u:1 a:1 f:1", "u:2 a:2")
    assert refusals(result) == {("later_link", "a:2", "f:1")}


def test_a_weak_value_follows_to_the_person_through_another() -> None:
    result = resolve(events_of("d:1 f:1", "a:1 d:1", "u:1 a:1"))
    # d:1 was first seen with f:1, and f:1 with d:1: neither points at a:1.
    assert people(result) == groups("u:1 a:1", "d:1 f:1")
    result = resolve(events_of("a:1 d:1", "d:1 f:1", "u:1 a:1"))
    assert people(result) == groups("u:1 a:1 d:1 f:1")


def test_a_weak_value_whose_only_person_is_a_hub_stays_anonymous() -> None:
    mailbox = [f"e:info u:{n}" for n in range(4)]
    result = resolve(events_of("e:info a:1", *mailbox, "a:1 d:1"))
    assert groups("a:1 d:1") < people(result)


def test_distinct_and_previous_ids_take_the_kind_their_value_is_known_as() -> None:
    lines = [
        [("distinct_id", "7"), ("anonymous_id", "c")],
        [("distinct_id", "8"), ("previous_id", "c")],
        [("distinct_id", "9"), ("anonymous_id", "9")],
    ]
    events = [carrying(n, *line) for n, line in enumerate(lines)]
    result = resolve(events)
    weak = {("anonymous_id", value) for value in "789c"}
    assert set(result.nodes) == weak
    result = resolve([*events, carrying(9, ("user_id", "7"))])
    assert set(result.nodes) == weak - {("anonymous_id", "7")} | {("user_id", "7")}
    assert (("user_id", "7"), ("anonymous_id", "c")) in result.edges


def test_values_are_joined_by_kind_and_value() -> None:
    result = resolve(
        [
            carrying(0, ("user_id", "7"), ("email", "e")),
            carrying(1, ("external_id", "7")),
        ]
    )
    assert len(result.profiles()) == 2


def test_the_profile_is_named_after_its_earliest_strong_identifier() -> None:
    result = resolve(events_of("a:1", "u:1 a:1", "u:1 e:1"))
    assert {n.profile_id for n in result.nodes.values()} == {hashed("user_id:u:1")}


def test_first_evidence_is_the_smallest_and_every_event_counts() -> None:
    events = [
        carrying(5, "u:1", "e:1", id="m0"),
        carrying(3, "u:1", "e:1", id="m9"),
        carrying(3, "e:1", "u:1", "u:1", id="m8"),
    ]
    assert resolve(events).edges == {
        (node("u:1"), node("e:1")): (START + timedelta(minutes=3), "m8", 3)
    }


@pytest.mark.parametrize(
    "value",
    [
        "",
        "0",
        "00-00",
        "-1",
        "null",
        "None",
        "none",
        "NaN",
        "[object Object]",
        "Anonymous",
        "GUEST",
        "distinctId",
        "id",
        "Undefined",
        "TRUE",
        "false",
        '"null"',
        "'undefined'",
        '"Guest"',
        "N/A",
        "na",
        "Unknown",
        "test",
        "NULL",
        "Null",
        "nan",
        "NONE",
        "nil",
        "{}",
        "'test'",
    ],
)
def test_placeholders_are_no_person(value: str) -> None:
    events = [carrying(n, ("user_id", value), f"e:{n}") for n in range(2)]
    events.append(carrying(2, ("distinct_id", value), "d:1"))
    assert people(resolve(events)) == groups("e:0", "e:1", "d:1")


@pytest.mark.parametrize(
    "value", ["10", "-10", "ids", "guests", "tester", "Test1", "nan-1", "n/a/1"]
)
def test_what_only_resembles_a_placeholder_is_a_person(value: str) -> None:
    assert len(resolve([carrying(0, ("user_id", value))]).nodes) == 1


def test_a_block_rule_means_its_type_and_a_regex_any_part() -> None:
    rules = [
        BlockRule("anonymous_id", "shop", "exact"),
        BlockRule("*", "^x+$|y", "regex"),
    ]
    found = ["shop", "xx", "xz", "zx"]
    events = [carrying(0, ("user_id", value)) for value in found]
    events.append(carrying(1, ("anonymous_id", "shop"), ("email", "by")))
    expected = {("user_id", value) for value in ("shop", "xz", "zx")}
    assert set(resolve(events, blocked=rules).nodes) == expected
    unknown = carrying(0, ("distinct_id", "shop"))  # counts as an anonymous_id
    assert not resolve([unknown], blocked=rules).nodes


def test_seeds_hold_no_cell_that_dbt_reads_as_missing() -> None:
    for name in ("blocked_identifiers", "consent_categories"):
        with (SEEDS / f"{name}.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                assert not {c.strip().lower() for c in row.values()} & {"", "null"}


def test_every_strong_type_comes_before_every_weak_one() -> None:
    types = sorted(
        read_identifier_types().values(),
        key=lambda each: each.priority,
    )
    assert [each.priority for each in types] == list(range(1, len(types) + 1))
    assert [each.is_strong for each in types] == sorted(
        (each.is_strong for each in types), reverse=True
    )


SEED_SIZES = [(seed, 240 if seed % 8 == 0 else 60) for seed in range(32)]


@pytest.mark.parametrize(("seed", "size"), SEED_SIZES)
def test_shuffled_events_give_the_same_identities(seed: int, size: int) -> None:
    events = random_events(seed, size)
    never_link = never_links(seed, events, 3, strong_only=False)
    expected = resolve(events, never_link)
    rng = Random(seed)
    for _ in range(3):
        shuffled = [
            replace(e, identifiers=tuple(rng.sample(e.identifiers, len(e.identifiers))))
            for e in rng.sample(events, len(events))
        ]
        assert resolve(shuffled, never_link) == expected


@pytest.mark.parametrize(("seed", "size"), SEED_SIZES)
def test_without_limits_people_are_connected_components(seed: int, size: int) -> None:
    events = random_events(seed, size)
    types = {
        name: replace(
            identifier_type,
            max_per_profile=None,
            max_stronger_links=None,
            max_weaker_links=None,
        )
        for name, identifier_type in read_identifier_types().items()
    }
    graph = nx.Graph()
    for _, found in identifiers(events, read_blocked()):
        strong = [n for n in found if types[n[0]].is_strong]
        graph.add_nodes_from(strong)
        nx.add_star(graph, strong)
    result = resolve(events, types=types)
    found_people = [{n for n in p if types[n[0]].is_strong} for p in result.profiles()]
    assert {frozenset(p) for p in found_people if p} == {
        frozenset(component) for component in nx.connected_components(graph)
    }


@pytest.mark.parametrize(("seed", "size"), SEED_SIZES)
def test_limits_and_never_link_hold_and_conflicts_explain_every_cut(
    seed: int, size: int
) -> None:
    events = random_events(seed, size)
    never_link = never_links(seed, events, 3, strong_only=False)
    result = resolve(events, never_link)
    types = read_identifier_types()
    for profile in result.profiles():
        carried = [identifier_type for identifier_type, _ in profile]
        for identifier_type in set(carried):
            limit = types[identifier_type].max_per_profile
            assert limit is None or carried.count(identifier_type) <= limit
        assert not any(forbidden <= profile for forbidden in never_link)
    cut = {
        (left, right)
        for left, right in result.edges
        if result.nodes[left].profile_id != result.nodes[right].profile_id
    }
    conflicts = {
        ((c.left_type, c.left_value), (c.right_type, c.right_value)): c
        for c in result.conflicts
    }
    assert len(conflicts) == len(result.conflicts)
    assert cut == conflicts.keys()
    for edge, c in conflicts.items():
        assert (c.received_at, c.message_id) == result.edges[edge][:2]


def test_random_events_exercise_every_rule() -> None:
    def rules(size: int) -> Iterator[str]:
        for seed in range(20):
            events = random_events(seed, size)
            result = resolve(events, never_links(seed, events, 3))
            yield from (c.rule for c in result.conflicts)

    assert set(rules(60)) == {"hub", "max_per_profile", "never_link", "later_link"}
    assert random_events(1, 60) == random_events(1, 60) != random_events(2, 60)
    repeated = random_events(1, 400)
    assert len({e.message_id for e in repeated}) < len(repeated)
    assert len({e.received_at for e in repeated}) < len(repeated)


def test_importable_events_become_calls_that_carry_the_same() -> None:
    events = random_events(3, 400, importable=True)
    calls = [to_call(event) for event in events]
    assert len({call["messageId"] for call in calls}) == len(calls)
    for event, call in zip(events, calls, strict=True):
        read = {
            "user_id": call.get("userId"),
            "anonymous_id": call.get("anonymousId"),
            "distinct_id": call.get("distinctId"),
            "previous_id": call.get("previousId"),
            "email": call["traits"].get("email"),
            "phone": call["traits"].get("phone"),
            "device_id": call["context"].get("device", {}).get("id"),
            "fingerprint": call["context"].get("fingerprint"),
            "external_id": next(
                (
                    f"{x['type']}:{x['id']}"
                    for x in call["context"].get("externalIds", [])
                ),
                None,
            ),
        }
        assert {k: v for k, v in read.items() if v is not None} == dict(
            event.identifiers
        )
        assert {"userId", "anonymousId", "distinctId"} & call.keys()
        assert datetime.fromisoformat(call["receivedAt"]) == event.received_at
        phone = call["traits"].get("phone")
        assert phone is None or phonenumbers.is_valid_number(phonenumbers.parse(phone))
    assert any("phone" in call["traits"] for call in calls)


def test_a_call_has_no_room_for_two_values_of_one_type() -> None:
    with pytest.raises(ValueError, match="two values"):
        to_call(carrying(0, "u:1", "u:2"))
