"""The identity tables equal the oracle's result after every run."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random

import pytest

from tests.oracles.graphs import PLACEHOLDERS, START, random_events, to_call
from tests.oracles.identity import (
    Conflict,
    EdgeSeen,
    Identifier,
    Identities,
    NodeSeen,
    OracleEvent,
    profile_id,
    resolve,
)
from tests.support.warehouses import AT, IDENTITY, Warehouse

SELECT = f"{IDENTITY} +profile_aliases +profile_merges"
PARTS = 4
AREA_CODES = (415, 212, 310, 646, 702, 206, 305, 512, 617, 404)


def tables(warehouse: Warehouse) -> Identities:
    """Return the identity tables in the format of the oracle."""
    nodes = warehouse.rows(
        """
        select identifier_type, identifier_value, profile_id, first_received_at
        from identity.identity_nodes
        """
    )
    edges = warehouse.rows(
        """
        select left_type, left_value, right_type, right_value,
            first_received_at, first_message_id, count_events
        from identity.identity_edges
        """
    )
    conflicts = warehouse.rows(
        """
        select rule, left_type, left_value, right_type, right_value, message_id,
            received_at
        from identity.identity_conflicts
        """
    )
    found = Identities(
        nodes={
            (identifier_type, value): NodeSeen(profile, moment.replace(tzinfo=UTC))
            for identifier_type, value, profile, moment in nodes
        },
        edges={
            ((left, left_value), (right, right_value)): EdgeSeen(
                moment.replace(tzinfo=UTC), message_id, count
            )
            for left, left_value, right, right_value, moment, message_id, count in edges
        },
        conflicts={
            Conflict(
                rule, left, value, right, other, message_id, at.replace(tzinfo=UTC)
            )
            for rule, left, value, right, other, message_id, at in conflicts
        },
    )
    # Nothing is there twice.
    assert len(found.nodes) == len(nodes)
    assert len(found.edges) == len(edges)
    assert len(found.conflicts) == len(conflicts)
    return found


def assert_same(found: Identities, expected: Identities, where: str) -> None:
    for name in ("nodes", "edges"):
        a, b = getattr(found, name), getattr(expected, name)
        differing = sorted(k for k in a.keys() | b.keys() if a.get(k) != b.get(k))
        assert not differing, "\n".join(
            [f"{where}: {len(differing)} {name} differ; found, then expected:"]
            + [f"  {key}\n    {a.get(key)}\n    {b.get(key)}" for key in differing[:5]]
        )
    missing = expected.conflicts - found.conflicts
    extra = found.conflicts - expected.conflicts
    assert not missing and not extra, (
        f"{where}: conflicts missing {sorted(missing)[:5]}, extra {sorted(extra)[:5]}"
    )


def first_arrivals(arrivals: Iterable[OracleEvent]) -> list[OracleEvent]:
    """Return the first received event of each message."""
    first: dict[str, OracleEvent] = {}
    for event in arrivals:
        known = first.get(event.message_id)
        if known is None or event.received_at < known.received_at:
            first[event.message_id] = event
    return list(first.values())


def contradictions(rng: Random, events: Sequence[OracleEvent]) -> list[OracleEvent]:
    """Return messages again with other identifiers, mostly received earlier."""
    again = []
    for number, event in enumerate(rng.sample(events, len(events) // 10)):
        moment = event.received_at + timedelta(seconds=rng.choice((-900, -7, -1, 3)))
        # Links of only this message must be removed when it is replaced …
        once = f"once-{number}"
        carried: tuple[Identifier, ...] = (("user_id", once), ("anonymous_id", once))
        if rng.random() < 0.5:  # … or it joins the identifiers of another one
            carried = rng.choice(events).identifiers
        again.append(OracleEvent(event.message_id, moment, carried))
    return again


class PastProfiles:
    """Tracks every profile id of past runs and its expected current id."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._forgotten: set[str] = set()

    def check(self, warehouse: Warehouse, where: str) -> None:
        nodes = tables(warehouse).nodes
        today = {seen.profile_id for seen in nodes.values()}
        self._seen |= today
        holder = {profile_id(node): seen.profile_id for node, seen in nodes.items()}
        # An identifier that was taken back, and came again, has no memory of before.
        self._forgotten |= self._seen - holder.keys()
        gone = self._seen - today
        rows = warehouse.rows(
            "select old_profile_id, profile_id from identity.profile_aliases"
        )
        aliases = dict(rows)
        assert len(rows) == len(aliases), f"{where}: an alias is there twice"
        assert aliases.keys() <= gone, where
        assert gone - self._forgotten <= aliases.keys(), where
        assert aliases == {old: holder[old] for old in aliases}, where


def apart(event: OracleEvent, number: int) -> OracleEvent:
    """Return the event with identifiers of a separate world in the same warehouse."""

    def other(node: Identifier) -> Identifier:
        identifier_type, value = node
        match identifier_type:
            case _ if value in PLACEHOLDERS:
                return node
            case "phone":
                return identifier_type, value.replace(
                    "+1415", f"+1{AREA_CODES[number]}"
                )
            case "external_id":
                return identifier_type, f"{value}-{number}"
        return identifier_type, f"{number}-{value}"

    carried = tuple(map(other, event.identifiers))
    return replace(
        event, message_id=f"{number}-{event.message_id}", identifiers=carried
    )


def check_parts(
    warehouse: Warehouse,
    parts: Sequence[Sequence[OracleEvent]],
    where: str,
    *,
    is_full_at_last: bool,
) -> None:
    """Build and compare after each part."""
    past = PastProfiles()
    arrivals: list[OracleEvent] = []
    for number, part in enumerate(parts, 1):
        arrivals += part
        warehouse.land(map(to_call, part), "graph")
        # A full refresh can include new events.
        is_full = is_full_at_last and number == len(parts)
        at = AT + timedelta(hours=number)
        warehouse.build(at=at, select=SELECT, full_refresh=is_full)
        place = f"{where}, part {number}{', full refresh' if is_full else ''}"
        assert_same(tables(warehouse), resolve(first_arrivals(arrivals)), place)
        past.check(warehouse, place)


def random_parts(seed: int) -> list[list[OracleEvent]]:
    rng = Random(seed)
    events = random_events(seed, rng.randrange(100, 300), importable=True)
    arrivals = events + contradictions(rng, events)
    rng.shuffle(arrivals)
    cuts = [0, *sorted(rng.sample(range(1, len(arrivals)), PARTS - 1)), len(arrivals)]
    return [arrivals[start:end] for start, end in pairwise(cuts)]


@pytest.mark.parametrize("seeds", [range(4), range(4, 8), range(8, 12)], ids=str)
def test_random_events_in_slices(warehouse: Warehouse, seeds: range) -> None:
    """Each number is a separate world, and a prefix of its identifiers."""
    parts: list[list[OracleEvent]] = [[] for _ in range(PARTS)]
    for seed in seeds:
        for part, events in zip(parts, random_parts(seed), strict=True):
            part += [apart(event, seed - seeds[0]) for event in events]
    full = seeds[0] == 4
    check_parts(warehouse, parts, f"seeds {seeds}", is_full_at_last=full)


def seen(minute: int, message_id: str, *carried: Identifier) -> OracleEvent:
    return OracleEvent(message_id, START + timedelta(minutes=minute), carried)


def user(name: str) -> Identifier:
    return "user_id", name


def cookie(name: str) -> Identifier:
    return "anonymous_id", name


BOX = ("email", "box@example.com")
CHAIN = [
    (("email", f"e{n}@example.com"), ("phone", f"+1415555{2600 + n + k:04}"))
    for n in range(12)
    for k in (0, 1)
]
STORIES: dict[str, list[list[OracleEvent]]] = {
    "the fourth account makes a mailbox a hub and splits what it had joined": [
        [seen(n, f"m{n}", user(f"u{n}"), BOX) for n in range(3)],
        [seen(3, "m3", user("u3"), BOX)],
        [seen(4, "m4", user("u9"), cookie("c"))],
    ],
    "a mailbox stops being a hub when one of its links was a mistake": [
        [seen(n, f"m{n}", user(f"u{n}"), BOX) for n in range(4)],
        [seen(-5, "m3", user("u3"), cookie("c"))],
        [seen(-6, "m2", user("u2"))],
    ],
    "who identifies every day with a new fingerprint is no crowd of cookies": [
        [seen(n, f"m{n}", BOX, ("fingerprint", f"f{n}")) for n in range(99)]
        + [seen(200, "c0", BOX, cookie("c0")), seen(201, "u", user("u"), BOX)],
        [seen(n, f"m{n}", BOX, ("fingerprint", f"f{n}")) for n in range(99, 110)],
        [seen(300 + n, f"c{n}", BOX, cookie(f"c{n}")) for n in range(1, 101)],
    ],
    "a chain of contacts is cut where a person would hold too many": [
        [seen(n, f"m{n}", *pair, cookie(f"c{n}")) for n, pair in part]
        for part in (
            list(enumerate(CHAIN))[::3],
            list(enumerate(CHAIN))[1::3],
            list(enumerate(CHAIN))[2::3],
        )
    ],
    "an earlier link takes the place of one that made a person too large": [
        [
            seen(10 + n, f"m{n}", user(f"u{n}"), ("phone", "+14155552671"))
            for n in range(2)
        ]
        + [seen(20 + n, f"n{n}", user(f"v{n}"), BOX) for n in range(2)]
        + [seen(30, "joins", user("v0"), ("phone", "+14155552671"))],
        [seen(1, "u-first", user("u1"), BOX)],
        [seen(0, "n1", user("v1"), cookie("c"))],
    ],
    "a distinct id is a cookie until a person is known by it, and again after": [
        [
            seen(5, "a", ("distinct_id", "d"), cookie("c")),
            seen(6, "b", ("distinct_id", "d"), BOX),
            seen(7, "c", user("other"), ("distinct_id", "d")),
        ],
        [seen(9, "known", user("d"), cookie("k"))],
        [seen(8, "known", user("e"), cookie("k"))],
        [seen(3, "d", ("previous_id", "d"), user("third"))],
    ],
    "a cookie goes to whom it was seen with first, whatever arrives first": [
        [seen(9, "late", user("b"), cookie("c")), seen(8, "w", cookie("c"))],
        [seen(5, "early", user("a"), cookie("c"))],
        [seen(4, "early", user("a"))],
        [seen(3, "device", cookie("c"), ("device_id", "d"))],
    ],
    "what a replaced message told of is forgotten, and its profile with it": [
        [
            seen(5, "m", user("ghost"), cookie("g")),
            seen(6, "n", user("u"), cookie("g")),
        ],
        [seen(4, "m", user("u"), BOX)],
        [seen(7, "o", user("ghost"), BOX)],
    ],
    "in the end a person was never there": [
        [
            seen(5, "m", user("ghost"), cookie("g")),
            seen(6, "n", user("u"), cookie("g")),
        ],
        [seen(7, "o", user("v"), cookie("g"))],
        [seen(4, "m", user("u"))],
    ],
    "cookies without a person follow the one they were first seen with": [
        [
            seen(5, "a", cookie("a"), ("device_id", "d")),
            seen(6, "b", cookie("b"), ("device_id", "d")),
            seen(7, "c", cookie("b"), ("fingerprint", "f")),
        ],
        [seen(8, "d", user("u"), ("fingerprint", "f"))],
        [seen(1, "e", user("v"), ("device_id", "d"))],
        [seen(0, "b", cookie("z"))],
    ],
}


@pytest.mark.parametrize("is_full_at_last", [False, True])
def test_stories(warehouse: Warehouse, is_full_at_last: bool) -> None:
    """Each story's number is a prefix of its identifiers."""
    longest = max(map(len, STORIES.values()))
    parts: list[list[OracleEvent]] = [[] for _ in range(longest)]
    for number, story in enumerate(STORIES.values()):
        # The last parts come together.
        for part, events in zip(parts[longest - len(story) :], story, strict=True):
            part += [apart(event, number) for event in events]
    check_parts(warehouse, parts, "stories", is_full_at_last=is_full_at_last)


def test_a_merge_is_logged_and_a_hub_undoes_it(warehouse: Warehouse) -> None:
    def run(hour: int, *events: OracleEvent) -> datetime:
        warehouse.land(map(to_call, events), "graph")
        at = AT + timedelta(hours=hour)
        warehouse.build(at=at, select=SELECT)
        return at.replace(tzinfo=None)

    def merges() -> list[tuple[object, ...]]:
        return warehouse.rows(
            """
            select merged_at, from_profile_id, into_profile_id, rule, message_id,
                undone_at
            from identity.profile_merges order by all
            """
        )

    first, second = profile_id(user("u1")), profile_id(user("u2"))
    run(1, seen(0, "a", user("u1")), seen(1, "a2", user("u1"), BOX),
        seen(2, "b", user("u2")))  # fmt: skip
    assert merges() == []

    merged_at = run(2, seen(3, "c", user("u2"), BOX))
    assert merges() == [(merged_at, second, first, "strong_link", "c", None)]
    aliases = "select old_profile_id, profile_id from identity.profile_aliases"
    assert warehouse.rows(aliases) == [(second, first)]

    crowd = [seen(4 + n, f"d{n}", user(f"u{n}"), BOX) for n in (3, 4)]
    undone_at = run(3, *crowd)
    assert merges() == [(merged_at, second, first, "strong_link", "c", undone_at)]
    assert warehouse.rows(aliases) == []
    profiles = warehouse.rows("select distinct profile_id from identity.identity_nodes")
    people = [user(f"u{n}") for n in range(1, 5)] + [BOX]
    assert {row[0] for row in profiles} == {profile_id(node) for node in people}

    again_at = run(4, seen(9, "e", user("u1"), ("phone", "+14155552671")))
    run(5, seen(10, "f", user("u2"), ("phone", "+14155552671")))
    *_, last = merges()
    assert last == (
        again_at + timedelta(hours=1), second, first, "strong_link", "f", None
    )  # fmt: skip
    assert merges()[0] == (merged_at, second, first, "strong_link", "c", undone_at)


def test_a_rename_leaves_an_alias(warehouse: Warehouse) -> None:
    browser = cookie("c")
    warehouse.land([to_call(seen(1, "a", browser))], "graph")
    warehouse.build(select=SELECT)
    warehouse.land([to_call(seen(2, "b", user("u"), browser))], "graph")
    at = AT + timedelta(hours=1)
    warehouse.build(at=at, select=SELECT)
    link = [seen(0, "x", user("t")), seen(3, "y", user("t"), BOX)]
    link += [seen(4, "z", user("u"), BOX)]
    warehouse.land(map(to_call, link), "graph")
    warehouse.build(at=at + timedelta(hours=1), select=SELECT)
    assert set(
        warehouse.rows(
            "select old_profile_id, profile_id from identity.profile_aliases"
        )
    ) == {
        (profile_id(browser), profile_id(user("t"))),
        (profile_id(user("u")), profile_id(user("t"))),
    }
