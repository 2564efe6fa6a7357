"""The same events give the same tables in any order, in batches and in full."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from orchestration.demo.generator import generate
from tests.oracles.graphs import random_events, to_call
from tests.support.warehouses import AT, LISTED, MakeWarehouse, Warehouse, differences

BATCHES = 10
NEEDED = (
    "+stg_events +identity_edges +identity_conflicts +profiles +groups +group_members "
    "+sync_members"
)
Line = tuple[str, str]  # source, JSON


def lines(folder: Path, size: int, seed: int) -> list[Line]:
    """Return about `size` lines: random identities, the demo's shop, and rare cases."""
    rng = Random(seed)
    graph = [to_call(e) for e in random_events(seed, size // 3, importable=True)]
    generate(folder, events=size // 2, seed=seed, compress=False)
    shop = [
        json.loads(line)
        for number in (1, 2)
        for line in (folder / f"slice-{number}.ndjson").read_text().splitlines()
    ]
    found = [("graph", json.dumps(call)) for call in graph + arrivals(rng, graph)]
    found += [("shop", json.dumps(call)) for call in shop + arrivals(rng, shop)]
    found += [("crm", json.dumps(call)) for call in statements(rng, max(60, size // 8))]
    # Arrived without being an event; counted as an item all the same.
    found.append(("graph", '{"type": "track", "receivedAt": "2026-05-01T00:00:00Z"}'))
    return found


def arrivals(rng: Random, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return repeated messages: later or earlier, with the same or other content."""
    repeated = []
    for call in rng.sample(calls, len(calls) // 12):
        again = dict(call)
        given = call.get("receivedAt") or call.get("received_at")
        if given is None:
            continue
        moment = datetime.fromisoformat(given.replace("Z", "+00:00"))
        moment += timedelta(seconds=rng.choice((-3600, -1, 0, 1, 86_400)))
        again["receivedAt"] = moment.astimezone(UTC).isoformat()
        if rng.random() < 0.6:
            other = rng.choice(calls)
            for key in ("userId", "anonymousId", "traits", "context"):
                if key in other:
                    again[key] = other[key]
            again["properties"] = {"version": rng.randrange(3)}
        repeated.append(again)
    return repeated


def statements(rng: Random, count: int) -> list[dict[str, Any]]:
    """Return traits, groups and consent of few people at few instants."""
    made = []
    for number in range(count):
        received = datetime(2026, 4, 20, tzinfo=UTC) + timedelta(
            hours=rng.randrange(count // 4)
        )
        said = received - timedelta(hours=rng.choice((0, 0, 1, 30)))
        call: dict[str, Any] = {
            "messageId": f"s{number}",
            "receivedAt": received.isoformat(),
            "timestamp": said.isoformat(),
            "userId": f"person-{rng.randrange(count // 6)}",
        }
        if rng.random() < 0.5:
            call["anonymousId"] = f"browser-{rng.randrange(count // 6)}"
        match rng.randrange(8):
            case 0:
                call |= {"type": "group", "groupId": f"g{rng.randrange(4)}"}
                call["traits"] = {"plan": rng.choice(("enterprise", "free")), "n": 1.5}
            case 1:
                granted = {"analytics": True, "advertising": rng.random() < 0.5}
                call |= {"type": "identify", "traits": {"plan": "free"}}
                call["context"] = {"consent": {"categoryPreferences": granted}}
            case 2:
                email = f"box{rng.randrange(count // 5)}@example.com"
                call |= {"type": "identify", "traits": {"email": email, "seat": number}}
            case 3:
                call |= {"type": "track", "event": "Viewed Pricing"}
            case kind:
                call = as_posthog(rng, kind, call)
        made.append(call)
    return made


def as_posthog(rng: Random, kind: int, call: dict[str, Any]) -> dict[str, Any]:
    """Return the call in PostHog's format, or as one call with several groups."""
    user_id, anonymous_id = call.pop("userId"), call.pop("anonymousId", None)
    names = ("plan", "city", "first")
    properties: dict[str, Any] = {}
    match kind:
        case 4:  # person updates
            event = rng.choice(("$set", "$identify", "viewed"))
            for update in rng.sample(("$set", "$set_once"), rng.randrange(1, 3)):
                properties[update] = {rng.choice(names): rng.randrange(5)}
            if rng.random() < 0.3:
                properties["$unset"] = [rng.choice(names)]
        case 5:
            event = "$identify"
            groups = [{"$group_id": f"g{rng.randrange(4)}", "n": n} for n in range(2)]
            properties["traits"] = {"$user_id": user_id, "$group": groups}
        case 6:  # a server's description of a group, with an id known or not
            event = "$groupidentify"
            anonymous_id = rng.choice((user_id, f"invented-{rng.randrange(10**6)}"))
            properties = {
                "$group_type": "company",
                "$group_key": f"g{rng.randrange(4)}",
            }
            properties["$group_set"] = {"plan": rng.choice(("enterprise", "free"))}
        case _:  # without person profile
            event = "viewed"
            properties["$process_person_profile"] = False
    return call | {
        "event": event,
        "distinct_id": anonymous_id or user_id,
        "properties": properties,
    }


def land(warehouse: Warehouse, batch: list[Line]) -> None:
    for source in sorted({source for source, _ in batch}):
        warehouse.land([line for name, line in batch if name == source], source)


def in_batches(given: list[Line]) -> list[list[Line]]:
    length = -(-len(given) // BATCHES)
    return [given[n : n + length] for n in range(0, len(given), length)]


def received_at(line: Line) -> str:
    call = json.loads(line[1])
    return str(call.get("receivedAt") or call.get("received_at"))


@pytest.mark.parametrize(("size", "seed"), [(300, 11), (2_000, 12), (8_000, 13)])
def test_the_listed_tables_do_not_depend_on_how_events_came_in(
    make_warehouse: MakeWarehouse, tmp_path: Path, size: int, seed: int
) -> None:
    given = sorted(lines(tmp_path / "given", size, seed), key=received_at)
    shuffled = Random(seed).sample(given, len(given))

    at_once = make_warehouse()
    land(at_once, given)
    at_once.build(select=NEEDED)
    expected = at_once.snapshot()
    for table in LISTED:
        assert at_once.count(f"({LISTED[table]})") > 3, table

    # Everything that is easily lost in such a comparison has to occur.
    rules = at_once.rows("select distinct rule from identity.identity_conflicts")
    assert {"hub", "later_link", "max_per_profile"} == {rule for (rule,) in rules}
    became = at_once.rows("select distinct disposition from staging.int_dispositions")
    assert {"accepted", "duplicate", "conflict", "rejected"} <= {d for (d,) in became}
    ids = at_once.rows("select distinct identifier_type from identity.int_identifiers")
    assert {"mentioned_id", "personless_id"} <= {
        identifier_type for (identifier_type,) in ids
    }

    def differs(warehouse: Warehouse, how: str) -> list[str]:
        found = differences(expected, warehouse.snapshot())
        return [f"seed {seed}, {size} events, {how}:", *found] if found else []

    found = []
    # A second file of the same lines in another order is read again.
    land(at_once, shuffled)
    at_once.build(select=NEEDED)
    found += differs(at_once, "imported twice")

    in_order = make_warehouse()
    for number, batch in enumerate(in_batches(given), 1):
        land(in_order, batch)
        at = AT - timedelta(hours=BATCHES - number)
        in_order.build(at=at, select=NEEDED)
    found += differs(in_order, "ten batches")
    in_order.build(full_refresh=True, select=NEEDED)
    found += differs(in_order, "ten batches, then a full refresh")

    out_of_order = make_warehouse()
    *earlier, last = in_batches(shuffled)
    for batch in earlier:
        land(out_of_order, batch)
        out_of_order.build(select=NEEDED)  # all of them as of the same instant
    land(out_of_order, last)
    out_of_order.build(full_refresh=True, select=NEEDED)
    found += differs(out_of_order, "ten batches in any order, the last in full")
    assert not found, "\n" + "\n".join(found)
