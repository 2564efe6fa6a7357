"""Admission: every item of every shape gets exactly one disposition."""

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from connectors.events.admission import ENVELOPE, Admission
from connectors.events.canonical import Event
from connectors.events.clock import isoformat
from connectors.events.decisions import AdmissionDecision, NotAdmitted, Rules
from connectors.events.event_builder import Origin
from connectors.events.policy import Policy
from connectors.events.rows import Admitted
from tests.support.admitting import (
    FILE,
    LIVE,
    NOW,
    RULES,
    SECOND,
    TRACK,
    admitted,
    event_like,
    fuzzed,
    rows,
)

HOUR = 3600 * SECOND


MAX_EVENT_BYTES = int(Policy().max_event_bytes * ENVELOPE)


class OneRule:
    """Rules that do what a function does, to every event."""

    def __init__(self, rule: Callable[[Event], NotAdmitted | None]) -> None:
        self._decide = rule

    def concerns(self, *about: Any) -> int:
        return 1

    def keeps(self, *about: Any, gpc: bool = False) -> int | None:
        return None

    def decide(self, event: Event, policy: Policy, **about: Any) -> NotAdmitted | None:
        return self._decide(event)


def one(item: Any, origin: Origin = LIVE, **more: Any) -> dict[str, Any]:
    out = admitted({**item, **more} if more else item, origin=origin)
    assert [row.disposition for row in out.dispositions] == ["admitted"], out
    (row,) = rows(out)
    return row


def refusal(item: Any) -> str | None:
    out = admitted(item)
    (row,) = out.dispositions
    assert row.disposition == "rejected" and not out.events
    assert row.payload is not None
    return row.reason


# Ids


def test_an_event_of_a_thousand_ids_keeps_a_hundred_and_says_so() -> None:
    ids = [{"id": str(n), "type": "crm"} for n in range(1_000)]
    context = {"externalIds": ids, "device": {"id": "phone"}}
    row = one(TRACK, context=context)
    kept = [(identifier.type, identifier.value) for identifier in row["identifiers"]]
    listed = [("external_id", f"crm:{n}") for n in range(98)]
    assert kept == [("user_id", "u"), ("device_id", "phone"), *listed]
    assert json.loads(row["violations"]) == ["too_many_identifiers"]
    assert json.loads(row["context"])["externalIds"] == ids
    context["externalIds"] = ids[:98]
    assert one(TRACK, context=context)["violations"] is None


def test_numeric_ids_become_text() -> None:
    row = one({**TRACK, "userId": 12345.5, "anonymousId": 7, "messageId": 10**30})
    assert (row["user_id"], row["anonymous_id"]) == ("12345.5", "7")
    assert row["message_id"] == str(10**30)


@pytest.mark.parametrize("empty", [None, "", "  ", [], {}])
def test_an_event_that_names_no_person_is_refused(empty: Any) -> None:
    assert refusal({**TRACK, "userId": empty}) == "missing_identity"


def test_ids_of_other_types_are_kept_as_their_json() -> None:
    assert one({**TRACK, "userId": {"$oid": "1"}})["user_id"] == '{"$oid":"1"}'
    assert one({**TRACK, "userId": ["a"]})["user_id"] == '["a"]'
    assert one({**TRACK, "userId": False})["user_id"] == "false"


@pytest.mark.parametrize("item", [None, 7, "x", True, [[]], [7]])
def test_what_is_no_object_is_refused(item: Any) -> None:
    assert refusal(item) == "not_an_object"


def test_a_group_call_without_group_is_refused() -> None:
    assert refusal({"type": "group", "userId": "u"}) == "group_id_missing"


def test_an_event_over_the_limit_is_refused_and_its_neighbours_are_not() -> None:
    large = {**TRACK, "properties": {"x": "y" * MAX_EVENT_BYTES}}
    out = admitted({"batch": [TRACK, large, TRACK]})
    assert [row.reason for row in out.dispositions] == [None, "event_too_large", None]
    fits = {**TRACK, "properties": {"x": "y" * 1_000_000}}
    assert len(admitted(fits).events) == 1


def test_a_poisoned_batch_loses_only_the_poison() -> None:
    batch: list[Any] = [{**TRACK, "messageId": f"m{number}"} for number in range(500)]
    batch[249] = {"type": "track", "event": "x"}
    batch[250] = {**TRACK, "properties": {"x": "y" * MAX_EVENT_BYTES}}
    out = admitted({"batch": batch})
    assert len(out.events) == 498
    assert out.dispositions[249].reason == "missing_identity"
    assert out.dispositions[250].reason == "event_too_large"
    assert out.received == {("segment-1", "web", NOW // HOUR * HOUR): 500}


# What is kept


def test_odd_values_are_kept_losslessly() -> None:
    data = (
        b'{"type":"track","event":"odd","userId":"u\\u0000","properties":{"nan":NaN,'
        b'"big":123456789012345678901234567890,"half":"\\ud83d","nul":"\\u0000",'
        b'"":1,"a.b":2,"Total":3,"total":4,"minus":-0.0,"float":1.18e21}}'
    )
    row = rows(admitted(data))[0]
    assert json.loads(row["properties"]) == {
        "nan": None,
        "big": "123456789012345678901234567890",
        "half": "\\ud83d",
        "nul": "\0",
        "": 1,
        "a.b": 2,
        "Total": 3,
        "total": 4,
        "minus": -0.0,
        "float": 1.18e21,
    }
    assert row["user_id"] == "u\0"


def test_600_keys_and_150_levels_are_kept() -> None:
    deep: Any = 1
    for _ in range(150):
        deep = {"a": deep}
    properties = {f"{'k' * 300}{number}": number for number in range(600)} | {"d": deep}
    assert json.loads(one(TRACK, properties=properties)["properties"]) == properties


@pytest.mark.parametrize("levels", [400, 900, 100_000])
def test_any_depth_is_admitted_and_leaves_its_neighbours_alone(levels: int) -> None:
    deep = b'{"type":"track","event":"x","userId":"u","properties":%b}' % (
        b'{"a":' * levels + b"1" + b"}" * levels
    )
    out = admitted(b'{"batch":[%b,%b]}' % (deep, json.dumps(TRACK).encode()), deep)
    assert len(out.events) == 3
    assert all(json.loads(row["properties"] or "{}") is not None for row in rows(out))


@pytest.mark.parametrize("properties", [[1, {"$email": "a@b.c"}], "text", 7, False, ""])
def test_properties_of_any_type_are_kept(properties: Any) -> None:
    for item in (
        TRACK,
        {"event": "x", "distinct_id": "d"},
        {"event": "x", "user_id": "u"},
    ):
        row = one({**item, "properties": properties})
        assert json.loads(row["properties"]) == properties


def test_what_is_no_json_is_kept_as_one_refused_item() -> None:
    out = admitted(b'{"type":"track"', b"\xff{}", origin=FILE)
    assert [row.reason for row in out.dispositions] == [
        "segment-1:1: not_json",
        "segment-1:2: not_utf8",
    ]
    assert out.dispositions[1].payload == "\\xff{}"
    assert out.received.total() == 2


# Names and types


@pytest.mark.parametrize(
    ("item", "type_", "event", "violations"),
    [
        ({"event": "A b"}, "track", "a_b", None),
        ({"event": "A b", "type": None}, "track", "a_b", None),
        ({"event": "A b", "type": "purchase"}, "track", "a_b", b'["unknown_type"]'),
        ({"type": "Purchase"}, "track", "purchase", b'["unknown_type"]'),
        ({"type": ["x"], "event": "y"}, "track", "y", b'["unknown_type"]'),
        ({"type": {"x": 1}, "event": "y"}, "track", "y", b'["unknown_type"]'),
        ({"event": "!!!"}, "track", "!!!", None),
        ({"event": "\U0001f389"}, "track", "\U0001f389", None),
        ({"event": 7}, "track", "7", None),
        ({"event": " "}, "track", None, b'["missing_event"]'),
        ({}, "track", None, b'["missing_event"]'),
        ({"type": "page", "event": "x"}, "page", None, None),
    ],
)
def test_type_and_name(
    item: dict[str, Any], type_: str, event: str | None, violations: bytes | None
) -> None:
    row = one({"userId": "u", **item})
    assert (row["type"], row["event"], row["violations"]) == (type_, event, violations)


def test_traits_of_an_identify_may_stand_in_its_context_alone() -> None:
    call = {"type": "identify", "userId": "u", "context": {"traits": {"plan": "pro"}}}
    assert json.loads(one(call)["traits"]) == {"plan": "pro"}
    assert json.loads(one(call, traits={"a": 1})["traits"]) == {"a": 1}
    assert one({**call, "type": "track", "event": "x"})["traits"] is None


def test_a_page_has_name_and_category_wherever_they_were_sent() -> None:
    page = {"type": "page", "userId": "u", "category": "Docs"}
    row = one({**page, "properties": {"name": "Install", "path": "/"}})
    assert row["name"] == "Install"
    assert json.loads(row["properties"])["category"] == "Docs"
    assert json.loads(one(page)["properties"]) == {"category": "Docs"}
    own = one({**page, "properties": {"category": "own"}, "name": "N"})
    assert (own["name"], json.loads(own["properties"])) == ("N", {"category": "own"})
    assert json.loads(one({**page, "properties": ["x"]})["properties"]) == ["x"]


def test_the_channel_is_part_of_the_context() -> None:
    assert json.loads(one(TRACK, channel="web")["context"]) == {"channel": "web"}
    row = one({**TRACK, "channel": "web", "context": {"channel": "own"}})
    assert json.loads(row["context"]) == {"channel": "own"}
    assert json.loads(one({**TRACK, "channel": "w", "context": "x"})["context"]) == "x"


def test_fields_without_a_place_of_their_own_are_kept_in_the_context() -> None:
    call = {**TRACK, "version": "1.1", "_metadata": {"bundled": []}, "category": 7}
    row = one({**call, "context": {"ip": "192.0.2.1"}})
    unknown = {"_metadata": {"bundled": []}, "category": 7, "version": "1.1"}
    assert json.loads(row["context"]) == {
        "ip": "192.0.2.1",
        "unknown_fields": unknown,
    }
    # Also where the context is no object, and beside what came in another shape.
    row = one({**TRACK, "version": 1, "context": "x"})
    kept = json.loads(row["context"])["unknown_fields"]
    assert kept == {"version": 1, "context": "x"}
    row = one({"event": "e", "distinct_id": "d", "uuid": "m", "offset": 120})
    assert json.loads(row["context"]) == {"unknown_fields": {"offset": 120}}


def test_a_name_or_category_without_a_place_is_kept_too() -> None:
    call = {"type": "identify", "userId": "u", "messageId": "m", "event": "Signed Up"}
    assert json.loads(one(call)["context"]) == {
        "unknown_fields": {"event": "Signed Up"}
    }
    page = {**TRACK, "type": "page", "event": None, "category": "a"}
    row = one({**page, "properties": {"category": "b"}})
    assert json.loads(row["context"]) == {"unknown_fields": {"category": "a"}}
    assert one({**page, "properties": {"category": "a"}})["context"] is None
    assert one({**page, "properties": {}})["context"] is None


def test_what_stands_in_the_way_of_ours_is_kept() -> None:
    item = {"event": "e", "distinct_id": "d", "uuid": "m", "more": 1}
    item["properties"] = {"$is_server": True}
    item["context"] = {"posthog": "x", "unknown_fields": "y"}
    assert json.loads(one(item)["context"]) == {
        "posthog": {"posthog": "x", "$is_server": True},
        "unknown_fields": {"unknown_fields": "y", "more": 1},
    }
    item["context"] = "x"
    kept = json.loads(one(item)["context"])
    assert kept["posthog"] == {"context": "x", "$is_server": True}


def test_a_refusal_without_person_profile_names_the_person() -> None:
    out = admitted(
        {
            "event": "view",
            "distinct_id": "d",
            "properties": {"$process_person_profile": False},
            "context": {"consent": {"categoryPreferences": {"advertising": False}}},
        }
    )
    (statement,) = out.consent
    assert [(i.type, i.value) for i in statement.identifiers] == [("distinct_id", "d")]


def test_credentials_and_our_own_columns_are_no_unknown_fields() -> None:
    row = one({**TRACK, "writeKey": "w", "api_key": "a", "write_key": "w"})
    assert row["context"] is None
    again = one({**row, "properties": None, "identifiers": [], "load_seq": 4})
    assert again["context"] is None


def test_an_event_without_person_is_kept() -> None:
    item = {
        "event": "view",
        "distinct_id": "d",
        "properties": {"$process_person_profile": False},
    }
    newer = {**item, "properties": {}, "options": {"process_person_profile": False}}
    for sent in (item, newer):
        types = [identifier.type for identifier in one(sent)["identifiers"]]
        assert types == ["personless_id"]


def test_one_call_becomes_one_row_or_none() -> None:
    properties: dict[str, Any] = {
        "$user_id": "user_123",
        "$email": "jane@acme.com",
        "$group": {"$group_type": "company", "$group_id": "acme_inc", "plan": "big"},
    }
    call: dict[str, Any] = {
        "event": "$identify",
        "distinct_id": "anon_abc",
        "properties": properties,
    }
    row = one(call)
    assert (row["type"], row["group_id"]) == ("identify", "acme_inc")
    assert {(i.type, i.value) for i in row["identifiers"]} == {
        ("user_id", "user_123"),
        ("anonymous_id", "anon_abc"),
        ("email", "jane@acme.com"),
    }
    assert json.loads(row["properties"])["$group"]["plan"] == "big"
    properties["$group"] = {"$group_type": "company", "$group_id": None}
    assert refusal(call) == "group_id_missing"


# Time


def test_original_time_and_sending_time_correct_the_clock() -> None:
    call = {**TRACK, "originalTimestamp": "2026-04-14T10:00:00Z"}
    assert one(call)["timestamp"] == NOW - 4_418 * SECOND
    row = one(call, sentAt="2026-04-14T10:00:01Z")
    assert row["timestamp"] == NOW - SECOND
    assert row["skew_ms"] == 4_417_000
    assert row["original_timestamp"] == NOW - 4_418 * SECOND


def test_an_explicit_time_wins_over_the_calls_own() -> None:
    row = one(
        TRACK,
        timestamp="2025-01-01T00:00:00Z",
        originalTimestamp="2026-04-14T11:13:38Z",
        sentAt="2026-04-14T11:13:38Z",
    )
    assert row["timestamp"] == 1_735_689_600 * SECOND
    assert row["original_timestamp"] == NOW


@pytest.mark.parametrize("timestamp", ["soon", [], {}, True, -5, "10000-01-01", ""])
def test_an_unreadable_time_becomes_the_arrival_and_is_noted(timestamp: Any) -> None:
    row = one(TRACK, timestamp=timestamp)
    assert row["timestamp"] == NOW
    assert row["violations"] == b'["timestamp_unreadable"]'


def test_a_time_far_ahead_becomes_the_arrival_and_is_noted() -> None:
    row = one(TRACK, timestamp="2033-01-01T00:00:00Z")
    assert (row["timestamp"], row["violations"]) == (NOW, b'["timestamp_in_future"]')


def test_the_sending_time_of_a_batch_holds_for_events_without_one() -> None:
    posthog = {
        "event": "x",
        "distinct_id": "d",
        "uuid": "p",
        "timestamp": NOW // SECOND,
    }
    sent_at = "2026-04-14T10:13:38Z"
    out = admitted(
        {"batch": [posthog, {**posthog, "sent_at": NOW}], "sent_at": sent_at}
    )
    assert [row["skew_ms"] for row in rows(out)] == [3_600_000, 0]


def test_an_import_keeps_the_arrival_it_carries() -> None:
    arrived = {**TRACK, "receivedAt": "2026-01-01T00:00:00Z"}
    row = one(
        arrived,
        FILE,
        timestamp="2025-12-31T23:00:00Z",
        sentAt="2025-12-31T20:00:00Z",
    )
    assert row["received_at"] == 1_767_225_600 * SECOND
    assert row["timestamp"] == row["received_at"] - HOUR  # corrected by the vendor
    assert (
        one(arrived)["received_at"] == NOW
    )  # live: arrival times of senders do not count
    snake = {
        "user_id": "u",
        "event": "x",
        "receivedAt": None,
        "received_at": NOW // 1000,
    }
    assert one(snake, FILE)["received_at"] == NOW
    (place,) = admitted(arrived, origin=FILE).received
    assert place == ("segment-1", "web", row["received_at"])


OLD = "2024-12-31T10:00:00Z"
OLD_MICROS = 1_735_639_200 * SECOND


@pytest.mark.parametrize("field", ["timestamp", "originalTimestamp"])
def test_an_sdk_file_tells_when_things_happened_not_when_it_is_imported(
    field: str,
) -> None:
    call = {**TRACK, field: OLD}
    sent_at = "2024-12-31T10:00:01Z"
    capture = {"event": "x", "distinct_id": "d", "uuid": "p", "timestamp": OLD}
    out = admitted(
        {**call, "sentAt": sent_at},
        {"batch": [call, capture], "sentAt": sent_at},
        {"batch": [capture], "sent_at": sent_at, "api_key": "k"},
        origin=FILE,
    )
    for row in rows(out):
        assert (row["timestamp"], row["skew_ms"]) == (OLD_MICROS, None)
        assert row["sent_at"] == OLD_MICROS + SECOND
        assert (row["received_at"], row["violations"]) == (NOW, None)
    assert len(out.events) == 4


def test_a_stale_sending_time_of_a_live_call_still_corrects_its_clock() -> None:
    row = one(TRACK, timestamp=OLD, sentAt="2024-12-31T10:00:01Z")
    assert row["timestamp"] == NOW - SECOND
    assert row["skew_ms"] == (NOW - OLD_MICROS - SECOND) // 1000


@given(
    imports=st.tuples(*[st.integers(NOW, NOW + 10_000 * HOUR)] * 2),
    ago=st.dictionaries(
        st.sampled_from(["timestamp", "originalTimestamp", "sentAt", "receivedAt"]),
        st.integers(0, 50_000 * HOUR),
    ),
)
def test_a_file_imported_twice_says_the_same_of_when_things_happened(
    imports: tuple[int, int], ago: dict[str, int]
) -> None:
    assume(not ago.keys().isdisjoint({"timestamp", "originalTimestamp"}))
    times = {name: isoformat(NOW - micros) for name, micros in ago.items()}
    first, second = (
        one({**TRACK, **times}, replace(FILE, received_at=instant))
        for instant in imports
    )
    kept = ("timestamp", "original_timestamp", "sent_at", "skew_ms", "row_hash")
    assert [first[name] for name in kept] == [second[name] for name in kept]


def test_an_export_without_a_corrected_time_is_corrected_by_its_own_arrival() -> None:
    row = one(
        TRACK,
        FILE,
        originalTimestamp="2025-12-31T20:00:00Z",
        sentAt="2025-12-31T20:00:01Z",
        receivedAt="2025-12-31T23:00:01Z",
    )
    assert row["timestamp"] == 1_767_222_000 * SECOND  # 23:00:00
    assert row["skew_ms"] == 3 * 3_600_000


def test_an_arrival_in_the_future_is_capped_at_the_import_and_noted() -> None:
    call = {**TRACK, "timestamp": OLD, "sentAt": OLD, "receivedAt": "2033-01-01"}
    out = admitted(call, origin=FILE)
    (row,) = rows(out)
    assert row["received_at"] == NOW
    assert (row["timestamp"], row["skew_ms"]) == (OLD_MICROS, None)
    assert row["violations"] == b'["received_at_in_future"]'
    assert out.received == {("segment-1", "web", NOW // HOUR * HOUR): 1}
    assert [row.received_at for row in out.dispositions] == [NOW]
    # Nor is what is refused said to have arrived later than it did.
    out = admitted({**call, "userId": None}, origin=FILE)
    assert out.received == {("segment-1", "web", NOW // HOUR * HOUR): 1}
    assert [row.received_at for row in out.dispositions] == [NOW]


def test_an_arrival_in_the_future_corrects_no_clock() -> None:
    call = {**TRACK, "originalTimestamp": OLD, "sentAt": OLD}
    row = one(call, FILE, receivedAt="2033-01-01T00:00:00Z")
    assert (row["timestamp"], row["skew_ms"]) == (OLD_MICROS, None)


def test_a_time_far_ahead_of_its_import_becomes_the_import_and_is_noted() -> None:
    row = one(TRACK, FILE, timestamp="2033-01-01T00:00:00Z")
    assert (row["timestamp"], row["violations"]) == (NOW, b'["timestamp_in_future"]')


@pytest.mark.parametrize(
    "call",
    [
        {**TRACK, "timestamp": OLD, "sentAt": "2024-12-31T10:00:01Z"},
        {**TRACK, "originalTimestamp": OLD, "sentAt": OLD, "receivedAt": OLD},
        {**TRACK, "originalTimestamp": OLD, "sentAt": OLD, "receivedAt": "2033-01-01"},
        {**TRACK, "receivedAt": OLD},
        TRACK,
    ],
)
@pytest.mark.parametrize("origin", [LIVE, FILE])
def test_a_replay_reads_times_as_the_first_arrival_did(
    call: dict[str, Any], origin: Origin
) -> None:
    first = one(call, origin)
    replayed = one(
        call,
        replace(
            origin,
            channel="replay",
            received_at=NOW + 500 * HOUR,
            first_received_at=first["received_at"],
        ),
    )
    kept = ("timestamp", "original_timestamp", "sent_at", "skew_ms", "violations")
    assert [first[name] for name in kept] == [replayed[name] for name in kept]
    assert replayed["received_at"] == NOW + 500 * HOUR


# Ids of messages and hashes


def test_a_message_without_id_gets_one_that_repeats() -> None:
    call = {"event": "bought", "user_id": "u", "timestamp": "2026-04-01T00:00:00Z"}
    first = one(call)["message_id"]
    assert one(call, sent_at="2026-04-14T11:13:38Z")["message_id"] == first
    assert one(call, replace(LIVE, scope="other"))["message_id"] != first
    month_later = one(call, timestamp="2026-05-01T00:00:00Z", origin=FILE)
    assert month_later["message_id"] != first
    assert one(call, properties={"a": 1})["message_id"] != first


def test_without_id_and_time_the_place_in_the_file_is_the_id() -> None:
    call = {"event": "bought", "user_id": "u"}

    def ids(origin: Origin) -> list[str]:
        out = admitted(call, {"batch": [call, call]}, origin=origin)
        return [row["message_id"] for row in rows(out)]

    assert ids(FILE) == ids(FILE)
    assert len(set(ids(FILE))) == 3
    assert not set(ids(FILE)) & set(ids(replace(FILE, seed="other")))
    assert len({*ids(LIVE), *ids(LIVE)}) == 6


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        ({"sentAt": "2026-04-14T11:13:38Z"}, True),
        ({"receivedAt": "2026-04-14T11:13:38Z"}, True),
        ({"context": {"ip": "203.0.113.1"}}, True),
        ({"integrations": {"All": False}}, True),
        ({"messageId": "other"}, True),
        ({"properties": {"b": [{"y": 2, "x": 1}], "a": 1}}, True),
        ({"properties": {"a": 1, "b": [{"x": 1, "y": 3}]}}, False),
        ({"traits": {"a": 1}}, False),
        ({"event": "order completed"}, False),
        ({"type": "page"}, False),
        ({"name": "n"}, False),
        ({"userId": "other"}, False),
        ({"anonymousId": "a"}, False),
        ({"groupId": "g"}, False),
        ({"previousId": "p"}, False),
        ({"timestamp": "2026-04-14T11:13:39Z"}, False),
    ],
)
def test_what_makes_two_messages_contradict_each_other(
    change: dict[str, Any], is_same: bool
) -> None:
    call = {
        **TRACK,
        "timestamp": "2026-04-14T11:13:38Z",
        "properties": {"a": 1, "b": [{"x": 1, "y": 2}]},
    }
    before, after = one(call), one({**call, **change})
    assert (before["content_hash"] == after["content_hash"]) is is_same


def test_a_row_of_raw_events_that_comes_back_has_no_channel_of_its_sender() -> None:
    sent = {**TRACK, "channel": "mobile"}
    assert b"mobile" in one(sent)["context"]
    back = {**TRACK, "channel": "http", "scope": "web", "content_hash": "a"}
    assert b"channel" not in (one({**back, "row_hash": "b"})["context"] or b"")


def test_the_row_hash_tells_rows_apart_and_not_their_place() -> None:
    row = one(TRACK)
    assert one(TRACK, replace(LIVE, channel="webhook"))["row_hash"] == row["row_hash"]
    assert one(dict(reversed(TRACK.items())))["row_hash"] == row["row_hash"]
    for change in (
        {"context": {"ip": "203.0.113.1"}},
        {"sentAt": "2026-04-14T11:13:38Z"},
        {"integrations": {"All": True}},
        {"properties": {"a": 1}},
        {"messageId": "other"},
    ):
        assert one({**TRACK, **change})["row_hash"] != row["row_hash"]


# Rules


@pytest.mark.parametrize(
    ("disposition", "keeps_payload", "keeps_consent"),
    [
        ("suppressed", False, False),
        ("consent_filtered", False, True),
        ("dropped", False, True),
        ("quarantined", True, True),
    ],
)
def test_a_verdict_ends_the_way(
    disposition: Any, keeps_payload: bool, keeps_consent: bool
) -> None:
    consent = {"consent": {"categoryPreferences": {"analytics": False}}}
    out = admitted(
        {**TRACK, "context": consent},
        rules=OneRule(lambda event: NotAdmitted(disposition, "because")),
    )
    (row,) = out.dispositions
    assert (row.disposition, row.reason, row.message_id) == (
        disposition,
        "because",
        "m",
    )
    assert (row.payload is not None) is keeps_payload
    assert not out.events
    assert [s.categories for s in out.consent] == [{"analytics": False}] * keeps_consent


def test_what_the_rules_change_is_stored_and_the_hashes_stay() -> None:
    def rename(event: Event) -> None:
        event.event = "renamed"
        event.properties = {**(event.properties or {}), "added": 1}
        event.context = None

    call = {**TRACK, "properties": {"a": 1}, "context": {"ip": "203.0.113.1"}}
    before = one(call)
    (after,) = rows(admitted(call, rules=OneRule(rename)))
    assert json.loads(after["properties"]) == {"a": 1, "added": 1}
    assert (after["event"], after["context"]) == ("renamed", None)
    for name in ("content_hash", "row_hash", "message_id", "traits"):
        assert after[name] == before[name]


def test_identifiers_are_those_of_what_is_stored() -> None:
    def hide(event: Event) -> None:
        event.traits = {"email": None}
        event.anonymous_id = "cookie"

    call = {"type": "identify", "userId": "u", "messageId": "m"}
    (row,) = rows(
        admitted({**call, "traits": {"email": "a@b.example"}}, rules=OneRule(hide))
    )
    assert {(i.type, i.value) for i in row["identifiers"]} == {
        ("user_id", "u"),
        ("anonymous_id", "cookie"),
    }


def test_an_event_that_loses_its_last_identifier_is_refused() -> None:
    def hide(event: Event) -> None:
        event.user_id = None

    out = admitted(TRACK, rules=OneRule(hide))
    assert [(r.disposition, r.reason) for r in out.dispositions] == [
        ("rejected", "missing_identity")
    ]


def test_a_quarantined_event_is_kept_as_it_came() -> None:
    def refuse(event: Event) -> NotAdmitted:
        event.properties = {"masked": True}
        return NotAdmitted("quarantined", "contract")

    call = {**TRACK, "properties": {"a": 1}}
    (row,) = admitted(call, rules=OneRule(refuse)).dispositions
    assert json.loads(row.payload or "")["properties"] == {"a": 1}


# Two halves


@pytest.mark.parametrize("rules", [None, OneRule(lambda event: None)])
def test_what_was_judged_is_kept_the_same_in_another_process(
    rules: Rules | None,
) -> None:
    given = [
        TRACK,
        {**TRACK, "messageId": None},
        {"event": "x", "distinct_id": "d", "uuid": "p1"},
        {"type": "group", "userId": "u"},
        {"type": "identify", "traits": {"email": "A@b.example"}, "messageId": 5},
        "no event",
    ]
    admission, later = Admission(RULES, rules), Admission(RULES)
    decided = [admission.decide(item, LIVE) for item in given]
    sent = msgspec.json.decode(
        msgspec.json.encode(decided), type=list[AdmissionDecision | None]
    )
    out = Admitted()
    for item, decision in zip(given, sent, strict=True):
        later.build_rows(item, decision, LIVE, out)
    whole = Admitted()
    for item, decision in zip(given, decided, strict=True):
        admission.build_rows(item, decision, LIVE, whole)
    assert out == whole
    assert out.received.total() == len(out.dispositions) == len(given)
    assert Counter(row.disposition for row in out.dispositions) == {
        "admitted": 4,
        "rejected": 2,
    }


def test_a_fingerprint_stands_in_for_a_missing_id() -> None:
    origin = replace(
        LIVE, policy=Policy(fingerprint="analytics"), fingerprint=lambda: "f1"
    )
    call = {"type": "track", "event": "x", "messageId": "m"}
    row = one(call, origin)
    assert [(i.type, i.value) for i in row["identifiers"]] == [("fingerprint", "f1")]
    consent = {"consent": {"categoryPreferences": {"analytics": False}}}
    out = admitted({**call, "context": consent}, origin=origin)
    assert [r.reason for r in out.dispositions] == ["missing_identity"]
    assert [i.type for i in one({**call, "userId": "u"}, origin)["identifiers"]] == [
        "user_id"
    ]


# Anything at all


def test_anything_becomes_exactly_one_disposition_an_item() -> None:
    out = fuzzed(seed=20_260_414, count=20_000)
    counts = Counter(row.disposition for row in out.dispositions)
    assert out.received.total() == counts.total()
    assert counts["admitted"] == len(out.events)
    assert counts.keys() == {"admitted", "rejected"}
    assert min(counts.values()) > 3000  # both ways are really walked
    reasons = {(row.reason or "").split(": ")[-1] for row in out.dispositions}
    assert reasons == {
        "",
        "not_an_object",
        "missing_identity",
        "group_id_missing",
        "not_json",
        "not_utf8",
    }
    for row in out.dispositions:
        assert (row.payload is None) is (row.disposition == "admitted")
    for event in rows(out):
        assert event["message_id"] and event["identifiers"]


def test_each_item_is_judged_alike_alone_and_in_company() -> None:
    random_ = random.Random(7)
    many = [event_like(random_) for _ in range(2000)]
    # An item may be a batch itself, which only counts when it stands alone.
    plain = [item for item in many if "batch" not in item]
    alone, together = admitted(*plain), admitted(plain)
    for one_, other in zip(alone.dispositions, together.dispositions, strict=True):
        assert one_[4:] == other[4:]
    assert [row["content_hash"] for row in rows(alone)] == [
        row["content_hash"] for row in rows(together)
    ]
