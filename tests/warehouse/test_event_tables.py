"""One typed table per event, complete and independent of the order of arrival."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import duckdb
import pytest

from orchestration.pipeline.dbt_runner import ModelsFailed
from tests.support.hostile import NAMES as HOSTILE
from tests.support.warehouses import MakeWarehouse, Warehouse

NEEDED = "int_dispositions int_events int_event_properties event_columns schema_changes"
START = datetime(2026, 4, 1, tzinfo=UTC)

Tables = dict[str, tuple[list[tuple[str, str]], list[str]]]  # columns and rows


def track(event: str, number: int, properties: Any, **more: Any) -> dict[str, Any]:
    """Return a call received `number` seconds after the start, with it as id."""
    return {
        "type": "track",
        "event": event,
        "messageId": f"{event}-{number}"[:100],
        "userId": "u1",
        "receivedAt": (START + timedelta(seconds=number)).isoformat(),
        "properties": properties,
        **more,
    }


def build(warehouse: Warehouse, *, full_refresh: bool = False) -> None:
    warehouse.build(select=NEEDED, full_refresh=full_refresh)


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def event_tables(warehouse: Warehouse) -> Tables:
    """Return the tables of the schema, without side tables and properties."""
    found: Tables = {}
    names = warehouse.rows(
        "select table_name from duckdb_tables() where schema_name = 'events' "
        "and not contains(table_name, '__') and table_name <> 'int_event_properties'"
    )
    for (name,) in names:
        source = f"events.{quoted(name)}"
        columns = [(c[0], c[1]) for c in warehouse.rows(f"describe {source}")]
        rows = warehouse.rows(
            f"select to_json(one)::varchar from {source} as one order by all"
        )
        found[name] = columns, [row for (row,) in rows]
    return found


def columns(warehouse: Warehouse, event: str) -> dict[str, tuple[str, str]]:
    """Return column and type by property path."""
    return {
        path: (name, kind)
        for path, name, kind in warehouse.rows(
            "select path, column_name, type from events.event_columns "
            f"where event = '{event}' and path is not null order by position"
        )
    }


def values(warehouse: Warehouse, event: str, column: str) -> list[Any]:
    rows = warehouse.rows(
        f"select {quoted(column)} from events.{quoted(event)} order by received_at"
    )
    return [value for (value,) in rows]


def changes(warehouse: Warehouse) -> list[tuple[Any, ...]]:
    return warehouse.rows(
        "select event, column_name, former_name, old_type, new_type "
        "from events.schema_changes order by all"
    )


def made(warehouse: Warehouse) -> dict[str, int]:
    """Return the catalog id of each event table, which changes when it is rebuilt."""
    return dict(
        warehouse.rows(
            "select table_name, table_oid from duckdb_tables() "
            "where schema_name = 'events'"
        )
    )


BIG = 2**53 + 1
LADDER: dict[str, tuple[list[Any], str, list[Any]]] = {
    "boolean": ([True, False], "BOOLEAN", [True, False]),
    "boolean_then_integer": ([True, 7], "BIGINT", [1, 7]),
    "boolean_then_double": ([False, 1.5], "DOUBLE", [0.0, 1.5]),
    "boolean_then_text": ([True, "yes"], "VARCHAR", ["true", "yes"]),
    "boolean_then_integer_then_text": (
        [True, 1, "x"],
        "VARCHAR",
        ["true", "1", "x"],
    ),
    "integer": ([1, -(2**63), 2**63 - 1], "BIGINT", [1, -(2**63), 2**63 - 1]),
    "integer_then_double": ([10, 10.5], "DOUBLE", [10.0, 10.5]),
    "integer_then_double_then_text": (
        [10, 10.5, "a"],
        "VARCHAR",
        ["10", "10.5", "a"],
    ),
    "longest_of_a_double": ([2**53, 0.5], "DOUBLE", [float(2**53), 0.5]),
    "long_then_double": ([BIG, 0.5], "DECIMAL(38,9)", [Decimal(BIG), Decimal("0.5")]),
    "long_and_fine": (
        [BIG, 0.30000000000000004],
        "VARCHAR",
        [str(BIG), "0.30000000000000004"],
    ),
    "long_and_huge": ([BIG, 1e300], "VARCHAR", [str(BIG), "1e300"]),
    "fine": ([1, 1e-300], "DOUBLE", [1.0, 1e-300]),
    "beyond_64_bits": ([1, 2**70], "VARCHAR", ["1", str(2**70)]),
    "digits_sent_as_text": (["007", "8"], "VARCHAR", ["007", "8"]),
    "date": (
        ["2024-02-29", "0001-01-01"],
        "DATE",
        [date(2024, 2, 29), date(1, 1, 1)],
    ),
    "date_then_instant": (
        ["2024-02-29", "2024-02-29T12:00:00.123456+02:00"],
        "TIMESTAMP",
        [datetime(2024, 2, 29), datetime(2024, 2, 29, 10, 0, 0, 123456)],
    ),
    "date_then_instant_then_text": (
        ["2024-02-29", "2024-02-29T12:00:00Z", "soon"],
        "VARCHAR",
        ["2024-02-29", "2024-02-29T12:00:00Z", "soon"],
    ),
    "no_such_day": (
        ["2024-02-29", "2023-02-29"],
        "VARCHAR",
        ["2024-02-29", "2023-02-29"],
    ),
    "year_nought": (["0000-01-01"], "VARCHAR", ["0000-01-01"]),
    "finer_than_microseconds": (
        ["2024-02-29T12:00:00.1234567Z"],
        "VARCHAR",
        ["2024-02-29T12:00:00.1234567Z"],
    ),
    "instant_without_offset": (
        ["2024-02-29T12:00:00"],
        "VARCHAR",
        ["2024-02-29T12:00:00"],
    ),
    "leap_second": (["2016-12-31T23:59:60Z"], "VARCHAR", ["2016-12-31T23:59:60Z"]),
    "date_then_integer": (["2024-02-29", 5], "VARCHAR", ["2024-02-29", "5"]),
    "empty_text": (["", "2024-02-29"], "VARCHAR", ["", "2024-02-29"]),
    "null_first": ([None, 3, None], "BIGINT", [None, 3, None]),
    "list": ([[1, "a"], []], "VARCHAR", ['[1,"a"]', "[]"]),
    "text_with_nul": (["a\0b"], "VARCHAR", ["a\0b"]),
}
"""Values in the order received, the column's type, and the values there."""


@pytest.mark.parametrize("batches", [1, 3])
def test_a_column_has_the_narrowest_type_that_holds_all_its_values(
    warehouse: Warehouse, batches: int
) -> None:
    for batch in range(batches):
        warehouse.land(
            [
                track(event, number, {"v": value})
                for event, (sent, _, _) in LADDER.items()
                for number, value in enumerate(sent)
                if number % batches == batch
            ],
            "app",
        )
        build(warehouse)
    found = {
        event: (columns(warehouse, event)["/v"], values(warehouse, event, "v"))
        for event in LADDER
    }
    assert found == {
        event: (("v", kind), held) for event, (_, kind, held) in LADDER.items()
    }


def test_each_change_of_a_column_is_told_once_and_other_tables_stay(
    warehouse: Warehouse,
) -> None:
    warehouse.land(
        [
            track("paid", 0, {"total": 10, "due": "2026-01-01"}),
            track("other", 0, {"a": 1}),
        ],
        "app",
    )
    build(warehouse)
    assert changes(warehouse) == [
        ("other", "a", None, None, "BIGINT"),
        ("other", None, None, None, None),
        ("paid", "due", None, None, "DATE"),
        ("paid", "total", None, None, "BIGINT"),
        ("paid", None, None, None, None),
    ]
    before = made(warehouse)
    known = changes(warehouse)

    warehouse.land([track("paid", 1, {"total": 12, "code": "x"})], "app")
    build(warehouse)
    new = [change for change in changes(warehouse) if change not in known]
    assert new == [("paid", "code", None, None, "VARCHAR")]
    assert made(warehouse)["other"] == before["other"]
    known = changes(warehouse)

    warehouse.land([track("paid", 2, {"total": 10.5, "due": "later"})], "app")
    build(warehouse)
    new = [change for change in changes(warehouse) if change not in known]
    assert new == [
        ("paid", "due", None, "DATE", "VARCHAR"),
        ("paid", "total", None, "BIGINT", "DOUBLE"),
    ]
    assert made(warehouse)["other"] == before["other"]
    assert values(warehouse, "paid", "total") == [10.0, 12.0, 10.5]
    assert values(warehouse, "paid", "due") == ["2026-01-01", None, "later"]


def test_a_run_without_news_touches_nothing(warehouse: Warehouse) -> None:
    warehouse.land([track("paid", 0, {"total": 10})], "app")
    build(warehouse)
    before = made(warehouse), changes(warehouse), event_tables(warehouse)
    build(warehouse)
    assert (made(warehouse), changes(warehouse), event_tables(warehouse)) == before
    warehouse.land([track("paid", 1, {"total": 11})], "app")
    build(warehouse)
    assert made(warehouse)["paid"] == before[0]["paid"]  # a row came, no new table
    assert values(warehouse, "paid", "total") == [10, 11]


def test_nested_objects_are_columns_and_what_is_both_is_kept_apart(
    warehouse: Warehouse,
) -> None:
    deep: Any = "bottom"
    for name in "hgfedcba":
        deep = {name: deep}
    warehouse.land(
        [
            track("made", 0, {"a": {"b": 1, "c": {"d": "x"}}, "deep": deep}),
            track("made", 1, {"a": "plain"}),
            track("made", 2, {"a": {}}),
        ],
        "app",
    )
    build(warehouse)
    assert columns(warehouse, "made") == {
        "/a/b": ("a_b", "BIGINT"),
        "/a/c/d": ("a_c_d", "VARCHAR"),
        "/deep/a/b/c/d/e": ("deep_a_b_c_d_e", "VARCHAR"),
        "/a": ("a", "VARCHAR"),
    }
    assert values(warehouse, "made", "a") == [None, "plain", None]
    assert values(warehouse, "made", "a_b") == [1, None, None]
    assert (
        values(warehouse, "made", "deep_a_b_c_d_e")[0] == '{"f":{"g":{"h":"bottom"}}}'
    )


def test_hostile_names_are_columns_that_hold_their_values(warehouse: Warehouse) -> None:
    assert len(set(HOSTILE)) == 73
    warehouse.land(
        [
            track("shown", 0, {name: n for n, name in enumerate(HOSTILE)}),
            # Only names, one at a time, since the first arrival gets the plain name.
            *(track("each", n, {name: n}) for n, name in enumerate(HOSTILE)),
        ],
        "app",
    )
    build(warehouse)
    held_by = {}
    for event in ("shown", "each"):
        named = dict(
            warehouse.rows(
                "select property, column_name from events.event_columns "
                f"where event = '{event}' and path is not null"
            )
        )
        assert named.keys() == set(HOSTILE)
        assert len({column.lower() for column in named.values()}) == 73
        held_by[event] = named
    for number, name in enumerate(HOSTILE):
        column = held_by["shown"][name]
        assert values(warehouse, "shown", column) == [number]
        rows = warehouse.rows(
            f"select message_id, {quoted(held_by['each'][name])} from events.each "
            f"where {quoted(held_by['each'][name])} is not null"
        )
        assert rows == [(f"each-{number}", number)]
    each = held_by["each"]
    assert each["total"] == "total"
    assert each["caf\u00e9"] == "caf\u00e9"
    assert each["order"] == "_order"
    assert each["message_id"] == "_message_id"
    assert each["1day"] == "_1day"
    assert each["Total"].startswith("total_") and each["Total"].endswith("_")


def test_events_with_hostile_names_have_tables_that_hold_them(
    warehouse: Warehouse,
) -> None:
    names = [name for name in HOSTILE if name.strip()]
    names += ["int_x", "event_columns", "schema_changes", "event_columns__changes"]
    warehouse.land(
        [track(name, n, {"n": n}, messageId=f"m{n}") for n, name in enumerate(names)],
        "app",
    )
    build(warehouse)
    accepted = warehouse.rows(
        "select event, message_id from staging.int_events order by all"
    )
    held = []
    tables = warehouse.rows(
        "select distinct event, table_name from events.event_columns"
    )
    assert len({name.lower() for _, name in tables}) == len(tables) > 40
    for event, name in tables:
        assert not name.startswith("int_") and "__" not in name
        rows = warehouse.rows(f"select message_id from events.{quoted(name)}")
        held += [(event, message) for (message,) in rows]
    assert sorted(held) == accepted
    assert warehouse.count("events.schema_changes") == 2 * len(tables)


def test_no_name_can_be_chosen_to_take_a_column_that_is_there(
    warehouse: Warehouse,
) -> None:
    warehouse.land([track("paid", 0, {"total": 1, "Total": 2})], "app")
    build(warehouse)
    suffixed = columns(warehouse, "paid")["/total"][0]
    assert suffixed.endswith("_")
    warehouse.land([track("paid", 1, {suffixed: 3, suffixed.upper(): 4})], "app")
    build(warehouse)
    found = columns(warehouse, "paid")
    assert len({name for name, _ in found.values()}) == len(found) == 4
    assert values(warehouse, "paid", "total") == [2, None]
    assert values(warehouse, "paid", suffixed) == [1, None]
    assert values(warehouse, "paid", found[f"/{suffixed}"][0]) == [None, 3]


def test_columns_with_names_of_plain_letters_need_no_quotes(
    warehouse: Warehouse,
) -> None:
    with duckdb.connect() as engine:
        words = [
            word
            for (word,) in engine.sql(
                "select keyword_name from duckdb_keywords() order by all"
            ).fetchall()
        ]
    warehouse.land([track("said", 0, {word: word for word in words})], "app")
    build(warehouse)
    found = columns(warehouse, "said")
    listed = ", ".join(name for name, _ in found.values())
    (row,) = warehouse.rows(f"select {listed} from events.said")
    assert list(row) == [path[1:] for path in found]


def test_an_event_of_450_properties_has_them_all(warehouse: Warehouse) -> None:
    properties = {f"Property {n}": n for n in range(450)}
    warehouse.land([track("wide", n, properties) for n in range(3)], "app")
    build(warehouse)
    found = columns(warehouse, "wide")
    assert len(found) == 450
    assert found["/Property 449"] == ("property_449", "BIGINT")
    warehouse.land([track("wide", 3, properties | {"one_more": "x"})], "app")
    build(warehouse)
    assert values(warehouse, "wide", "property_123") == [123] * 4
    assert values(warehouse, "wide", "one_more") == [None, None, None, "x"]


def test_an_event_of_50000_properties_keeps_them_in_json_and_500_in_columns(
    warehouse: Warehouse,
) -> None:
    warehouse.land([track("wide", 0, {"kept": 1})], "app")
    build(warehouse)
    flood = {f"k{n:05}": n for n in range(50_000)}
    warehouse.land([track("wide", 1, flood | {"kept": 2})], "app")
    build(warehouse)
    found = columns(warehouse, "wide")
    held = [path for path, (column, _) in found.items() if column]
    assert held == ["/kept", *(f"/k{n:05}" for n in range(499))]
    assert len(found) == 1_000  # further properties are counted, not listed
    assert values(warehouse, "wide", "kept") == [1, 2]
    assert values(warehouse, "wide", "k00498") == [None, 498]
    (row,) = warehouse.rows(
        "select len(json_keys(properties)), properties ->> 'k49999' "
        "from staging.int_events where properties ->> 'kept' = '2'"
    )
    assert row == (50_001, "49999")
    # Later runs do not know the others, and a later name removes no column.
    assert warehouse.count("events.int_event_properties") == 1_001
    before = event_tables(warehouse)
    warehouse.land([track("wide", 2, {"a": 1, "kept": 3})], "app")
    build(warehouse)
    assert values(warehouse, "wide", "kept") == [1, 2, 3]
    assert event_tables(warehouse)["wide"][0] == before["wide"][0]


def test_a_property_without_room_that_was_sent_earlier_still_holds_all_its_values(
    make_warehouse: MakeWarehouse,
) -> None:
    """Its first arrival was text and is not recorded; the import has an integer."""
    calls = [
        track("wide", 10, {f"p{n:04}": n for n in range(1_200)} | {"p1100": "text"}),
        track("wide", 1, {"p1100": 7, "early": True}),
        track("wide", 20, {"p1100": 8}),
    ]
    one_by_one, at_once = make_warehouse(), make_warehouse()
    for call in calls:
        one_by_one.land([call], "app")
        build(one_by_one)
    found = columns(one_by_one, "wide")
    assert found["/p1100"] == ("p1100", "VARCHAR")
    assert values(one_by_one, "wide", "p1100") == ["7", "text", "8"]
    at_once.land(calls, "app")
    build(at_once)
    assert event_tables(at_once) == event_tables(one_by_one)


def test_names_without_end_fill_the_tables_and_take_none_away(
    warehouse: Warehouse,
) -> None:
    warehouse.land([track("paid", 0, {"total": 1})], "app")
    flood = {f"k{n:03}": n for n in range(500)}
    # Twelve tables of 512 columns would be 6,144, with `paid` 6,157.
    warehouse.land([track(f"e{n:02}", 1 + n, flood) for n in range(12)], "app")
    build(warehouse)
    ((named,),) = warehouse.rows("select count(column_name) from events.event_columns")
    assert named == 6_000
    last = columns(warehouse, "e11")
    assert sum(1 for column, _ in last.values() if column) == 500 - 157
    warehouse.land([track("late", 90, {"a": 1}), track("paid", 91, {"b": 2})], "app")
    build(warehouse)
    assert warehouse.rows(
        "select event, property, table_name from events.event_columns "
        "where column_name is null and event in ('late', 'paid') order by all"
    ) == [("late", None, None), ("paid", "b", "paid")]
    assert values(warehouse, "paid", "total") == [1, None]
    before = changes(warehouse)
    build(warehouse)
    assert changes(warehouse) == before
    # An event that was received before them all has a table, and others make room.
    warehouse.land([track("early", -1, {"a": 1})], "app")
    build(warehouse)
    assert values(warehouse, "early", "a") == [1]
    ((named,),) = warehouse.rows("select count(column_name) from events.event_columns")
    assert named == 6_000
    told = {change for change in changes(warehouse) if change not in before}
    gone = {("e11", f"k{n:03}", None, "BIGINT", None) for n in range(330, 343)}
    came = {("early", None, None, None, None), ("early", "a", None, None, "BIGINT")}
    assert told == gone | came


@pytest.mark.parametrize("properties", [3, "text", [{"a": 1}], None, True, 1.5])
def test_properties_that_are_no_object_have_no_columns(
    warehouse: Warehouse, properties: Any
) -> None:
    warehouse.land([track("odd", 0, properties), track("odd", 1, {"a": 1})], "app")
    build(warehouse)
    ((nameless,),) = warehouse.rows(
        "select count(*) from events.int_event_properties where path is null"
    )
    assert nameless == 0
    assert columns(warehouse, "odd") == {"/a": ("a", "BIGINT")}
    assert values(warehouse, "odd", "a") == [None, 1]


def test_an_earlier_arrival_takes_the_row_of_the_later_one(
    warehouse: Warehouse,
) -> None:
    def arrival(event: str, second: int, total: Any) -> dict[str, Any]:
        return track(event, second, {"total": total}, messageId="m")

    warehouse.land([arrival("paid", 9, 5), track("paid", 1, {"total": 1})], "app")
    build(warehouse)
    assert values(warehouse, "paid", "total") == [1, 5]
    warehouse.land([arrival("paid", 8, 6)], "app")
    build(warehouse)
    assert values(warehouse, "paid", "total") == [1, 6]
    warehouse.land([arrival("refunded", 7, 7)], "app")
    build(warehouse)
    assert values(warehouse, "paid", "total") == [1]
    assert values(warehouse, "refunded", "total") == [7]
    warehouse.land([arrival("paid", 9, 5), arrival("paid", 10, "later")], "app")
    build(warehouse)
    assert values(warehouse, "paid", "total") == ["1"]  # seen, so the column holds it
    assert values(warehouse, "refunded", "total") == [7]


NAMES = ["total", "Total", "TOTAL", "a", "A.b", "a_b", "at", "order", "Order", "source"]


def random_calls(rng: Random, count: int) -> list[dict[str, Any]]:
    """Return calls with few names and messages, so that most of them collide."""

    def value(depth: int) -> Any:
        choices: list[Any] = [
            True,
            rng.randrange(5),
            BIG,
            rng.randrange(9) / 4,
            1e-12,
            "2026-01-0" + str(rng.randrange(1, 9)),
            "2026-01-01T00:00:00Z",
            "text",
            None,
            [1],
        ]
        if depth < 3:
            choices += [{rng.choice(NAMES): value(depth + 1)} for _ in range(3)]
        # Most properties keep to two kinds, so that narrow types occur.
        return rng.choice(choices if rng.random() < 0.05 else choices[1:4:2])

    calls = []
    for _ in range(count):
        event = rng.choice(["Paid", "$paid", "PAID", "order", "int_x", "!", "?", "new"])
        properties = {name: value(0) for name in rng.sample(NAMES, 3)}
        if event in {"order", "int_x"}:
            properties = {"total": rng.choice([1, 2.5]), "at": "2026-01-02"}
        calls.append(
            track(
                event,
                rng.randrange(count),
                properties,
                messageId=f"m{rng.randrange(count * 3 // 4)}",
            )
        )
    return calls


def in_batches(
    calls: list[dict[str, Any]], count: int
) -> Iterable[list[dict[str, Any]]]:
    length = -(-len(calls) // count)
    return (calls[n : n + length] for n in range(0, len(calls), length))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_the_tables_do_not_depend_on_how_events_came_in(
    make_warehouse: MakeWarehouse, seed: int
) -> None:
    rng = Random(seed)
    calls = random_calls(rng, 200)
    at_once = make_warehouse()
    at_once.land(calls, "app")
    build(at_once)
    expected = event_tables(at_once)
    kinds = {kind for made_of, _ in expected.values() for _, kind in made_of}
    assert kinds >= {"BIGINT", "DOUBLE", "DATE", "VARCHAR", "TIMESTAMP"}
    assert any(name.endswith("_") for name in expected)
    became = at_once.rows("select distinct disposition from staging.int_dispositions")
    assert {"accepted", "conflict"} <= {one for (one,) in became}

    in_order, shuffled = make_warehouse(), make_warehouse()
    by_time = sorted(calls, key=lambda call: str(call["receivedAt"]))
    for batch in in_batches(by_time, 3):
        in_order.land(batch, "app")
        build(in_order)
    assert event_tables(in_order) == expected, seed
    for batch in in_batches(rng.sample(calls, len(calls)), 3):
        shuffled.land(batch, "app")
        build(shuffled)
    assert event_tables(shuffled) == expected, seed
    told = changes(shuffled)
    assert any(old for _, _, old, _, _ in told)  # columns were renamed on the way
    build(shuffled, full_refresh=True)
    assert event_tables(shuffled) == expected, seed
    assert changes(shuffled) == told


def test_what_failed_midway_left_all_as_it_was_and_is_made_good(
    warehouse: Warehouse,
) -> None:
    warehouse.land([track("a", 0, {"n": 1}), track("b", 0, {"n": 1})], "app")
    build(warehouse)
    before = event_tables(warehouse), changes(warehouse)
    with duckdb.connect(str(warehouse.home.warehouse)) as engine:
        engine.execute("create view events.c as select 1 as in_the_way")
    warehouse.land(
        [
            track("a", 1, {"n": 1.5, "more": 1}),
            track("b", 1, {"n": 2, "more": 2}),
            track("c", 1, {"n": 3}),
        ],
        "app",
    )
    with pytest.raises(ModelsFailed, match="event_columns"):
        build(warehouse)
    with duckdb.connect(str(warehouse.home.warehouse)) as engine:
        engine.execute("drop view events.c")
    assert (event_tables(warehouse), changes(warehouse)) == before
    build(warehouse)
    assert values(warehouse, "a", "n") == [1.0, 1.5]
    assert values(warehouse, "b", "more") == [None, 2]
    assert values(warehouse, "c", "n") == [3]
    mended = event_tables(warehouse)
    build(warehouse, full_refresh=True)
    assert event_tables(warehouse) == mended


def test_a_dropped_table_is_built_again(warehouse: Warehouse) -> None:
    warehouse.land([track("a", 0, {"n": 1}), track("b", 0, {"n": 1})], "app")
    build(warehouse)
    expected = event_tables(warehouse)
    with duckdb.connect(str(warehouse.home.warehouse)) as engine:
        engine.execute("drop table events.a")
        engine.execute("alter table events.b drop column n")
    build(warehouse)
    assert event_tables(warehouse) == expected
