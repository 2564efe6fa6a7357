"""Every vendor's fixture becomes the calls that its expected.ndjson lists."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.events.shapes_posthog import from_posthog
from connectors.sources.files import Broken, chunks, rows, units
from connectors.sources.layouts import Untranslatable, layouts

FIXTURES = Path(__file__).parents[1] / "fixtures" / "files"
# folder → (format, what is imported of it)
FOLDERS = {
    "segment_s3": ("segment", "segment-logs"),
    "rudderstack_s3": ("rudderstack", "rudder-logs"),
    "posthog_batch_export": ("posthog", "*.jsonl.gz"),
    "amplitude_export": ("amplitude", "export.zip"),
    "mixpanel_export": ("mixpanel", "*.jsonl"),
    "snowplow_enriched": ("snowplow", "*.tsv"),
    "ga4_bigquery": ("ga4", "events_*.ndjson"),
    "segment_warehouse": ("segment-warehouse", "*.csv"),
}
COLUMNS = {
    "type": "type",
    "event_text": "event",
    "user_id": "userId",
    "anonymous_id": "anonymousId",
    "group_id": "groupId",
    "previous_id": "previousId",
    "name": "name",
}
OBJECTS = ("properties", "traits")
DAY = "2026-03-01"


def imported(folder: str, format: str = "auto") -> list[dict[str, Any]]:
    """The calls of a fixture, repeats included."""
    pattern = str(FIXTURES / folder / FOLDERS[folder][1])
    calls = []
    for unit in units([pattern], format):
        assert unit.format == FOLDERS[folder][0]
        for chunk in chunks(unit):
            for _, call in rows(chunk):
                assert isinstance(call, dict), call
                calls.append(call)
    return calls


def expected(folder: str) -> list[dict[str, Any]]:
    lines = (FIXTURES / folder / "expected.ndjson").read_text().splitlines()
    return [json.loads(line) for line in lines]


def by_place(call: dict[str, Any]) -> tuple[str, str, str]:
    """What tells events apart where the vendor has no id for them."""
    timestamp = datetime.fromisoformat(call["timestamp"]).isoformat()
    return (call["anonymousId"], timestamp, call["type"])


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_fixture_becomes_its_expected_calls(folder: str) -> None:
    calls = imported(folder)
    wanted = expected(folder)
    is_keyed = folder != "ga4_bigquery"
    found = {call["messageId"] if is_keyed else by_place(call): call for call in calls}

    assert len(found) == len(wanted)
    assert len({call["messageId"] for call in calls}) == len(wanted)
    for row in wanted:
        renamed = {key: row.get(column) for column, key in COLUMNS.items()}
        key = by_place({**renamed, "timestamp": row["timestamp"]})
        call = found[row["message_id"] if is_keyed else key]
        assert {name: call.get(name) for name in renamed} == renamed
        time = datetime.fromisoformat(call["timestamp"])
        assert time == datetime.fromisoformat(row["timestamp"])
        for column in OBJECTS:
            if column in row:
                assert (call.get(column) or None) == row[column]


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_named_format_reads_what_auto_reads(folder: str) -> None:
    assert imported(folder, FOLDERS[folder][0]) == imported(folder)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_time_carries_a_zone_and_the_vendors_receipt_is_kept(folder: str) -> None:
    for call in imported(folder):
        for field in ("timestamp", "originalTimestamp", "sentAt", "receivedAt"):
            if field in call:
                assert datetime.fromisoformat(call[field]).tzinfo is not None
        assert call["receivedAt"].startswith(DAY)
        received_at = datetime.fromisoformat(call["receivedAt"])
        assert received_at > datetime.fromisoformat(call["timestamp"])


@pytest.mark.parametrize("folder", FOLDERS)
def test_calls_are_json_without_absent_keys(folder: str) -> None:
    for call in imported(folder):
        assert json.loads(json.dumps(call, allow_nan=False)) == call
        assert None not in call.values()


def test_groups_keep_their_type() -> None:
    for folder in ("posthog_batch_export", "amplitude_export"):
        groups = [call for call in imported(folder) if call["type"] == "group"]
        assert [call["groupType"] for call in groups] == ["company", "company"]


def test_a_rudderstack_identify_keeps_its_traits_in_the_context_too() -> None:
    call = next(c for c in imported("rudderstack_s3") if c["type"] == "identify")
    assert call["traits"] == call["context"]["traits"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(data=st.data())
def test_a_spoiled_row_is_translated_or_refused_and_nothing_else(
    data: st.DataObject,
) -> None:
    format_ = data.draw(st.sampled_from(sorted(SAMPLES)))
    row = json.loads(json.dumps(SAMPLES[format_]))
    for _ in range(data.draw(st.integers(1, 3))):
        target = row
        while True:
            key = data.draw(st.sampled_from(sorted(target)))
            if (
                isinstance(target[key], dict)
                and target[key]
                and data.draw(st.booleans())
            ):
                target = target[key]
                continue
            target[key] = data.draw(json_values)
            break
    layout = layouts()[format_]
    layout.looks_like(row)
    try:
        call = layout.translate(row)
    except Untranslatable:
        return
    assert isinstance(call, dict)


@pytest.mark.parametrize("format_", sorted(layouts()))
@pytest.mark.parametrize("row", [None, 1, "text", [], [{}], {}])
def test_what_is_no_row_is_refused(format_: str, row: Any) -> None:
    layout = layouts()[format_]
    assert not layout.looks_like(row)
    if format_ == "snowplow" and row == {}:
        return  # decode never gives a row without columns
    with pytest.raises(Untranslatable):
        layout.translate(row)


@pytest.mark.parametrize(
    ("format_", "change", "field"),
    [
        ("segment", {"type": "delete"}, "type"),
        ("rudderstack", {"type": None}, "type"),
        ("posthog", {"timestamp": "soon"}, "timestamp"),
        ("posthog", {"properties": "{"}, "properties"),
        ("amplitude", {"event_time": "2026-13-01 00:00:00"}, "event_time"),
        ("amplitude", {"user_properties": [1]}, "user_properties"),
        ("mixpanel", {"properties": {"time": "noon"}}, "properties.time"),
        ("ga4", {"event_params": {"a": 1}}, "event_params"),
        ("ga4", {"event_timestamp": "9" * 30}, "event_timestamp"),
        ("snowplow", {"unstruct_event": "{", "event": "unstruct"}, "unstruct_event"),
        ("segment-warehouse", {"row": {"timestamp": "x", "id": "1"}}, "timestamp"),
    ],
)
def test_a_refusal_names_the_field(
    format_: str, change: dict[str, Any], field: str
) -> None:
    row = {**SAMPLES[format_], **change}
    with pytest.raises(Untranslatable) as caught:
        layouts()[format_].translate(row)
    assert field in str(caught.value)
    values = {str(value) for value in change.values()} - {"unstruct"}
    assert not any(value in str(caught.value) for value in values)


def sample(folder: str) -> dict[str, Any]:
    format_, pattern = FOLDERS[folder]
    layout = layouts()[format_]
    unit = units([str(FIXTURES / folder / pattern)])[0]
    line = next(chunks(unit)).data.split(b"\n")[0]
    row: dict[str, Any] = layout.decode(line)
    return row


SAMPLES = {FOLDERS[folder][0]: sample(folder) for folder in FOLDERS}


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (1772355600, "2026-03-01T09:00:00+00:00"),
        (1772355600123, "2026-03-01T09:00:00.123000+00:00"),
    ],
)
def test_mixpanel_times_are_seconds_or_milliseconds(time: int, expected: str) -> None:
    row = {"event": "e", "properties": {"time": time, "distinct_id": "u"}}
    assert layouts()["mixpanel"].translate(row)["timestamp"] == expected


def test_a_mixpanel_id_that_says_nothing_about_itself_stays_open() -> None:
    row = {"event": "e", "properties": {"time": 1, "distinct_id": "u1"}}
    call = layouts()["mixpanel"].translate(row)
    assert call["distinctId"] == "u1"
    assert "userId" not in call and "anonymousId" not in call


def test_ga4_receipt_is_the_event_time_plus_the_offset() -> None:
    row = {**SAMPLES["ga4"], "event_timestamp": "1000000"}
    call = layouts()["ga4"].translate(
        {**row, "event_server_timestamp_offset": "500000"}
    )
    assert call["receivedAt"] == "1970-01-01T00:00:01.500000+00:00"
    call = layouts()["ga4"].translate({**row, "event_server_timestamp_offset": None})
    assert call["receivedAt"] == call["timestamp"]


def test_ga4_ids_change_with_each_of_the_seven_fields() -> None:
    translate = layouts()["ga4"].translate
    fields = {
        "user_pseudo_id": "x",
        "event_timestamp": "1",
        "event_name": "x",
        "event_bundle_sequence_id": "1",
        "batch_page_id": "1",
        "batch_ordering_id": "9",
        "batch_event_index": "9",
    }
    rows_ = [SAMPLES["ga4"], *({**SAMPLES["ga4"], k: v} for k, v in fields.items())]
    assert len({translate(row)["messageId"] for row in rows_}) == len(rows_)


# Live PostHog events


def live(event: str, properties: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return from_posthog(
        {"uuid": "m1", "event": event, "properties": properties} | fields
    )


@pytest.mark.parametrize(
    ("event", "properties", "people"),
    [
        ("e", {"distinct_id": "u"}, {"distinctId": "u"}),
        ("e", {"distinct_id": "d", "$device_id": "d"}, {"anonymousId": "d"}),
        (
            "e",
            {"distinct_id": "u", "$device_id": "d"},
            {"userId": "u", "anonymousId": "d"},
        ),
        (
            "e",
            {"distinct_id": "x", "$device_id": "d", "$is_identified": False},
            {"distinctId": "x", "anonymousId": "d"},
        ),
        ("e", {"distinct_id": "u", "$user_id": "u"}, {"userId": "u"}),
        ("e", {"distinct_id": 12345}, {"distinctId": "12345"}),
        ("$set", {"distinct_id": "u"}, {"distinctId": "u"}),
        (
            "$identify",
            {"distinct_id": "u", "$anon_distinct_id": "a"},
            {"userId": "u", "anonymousId": "a"},
        ),
        (
            "$identify",
            {"distinct_id": "a", "$user_id": "u"},
            {"userId": "u", "anonymousId": "a"},
        ),
        (
            "$create_alias",
            {"distinct_id": "u", "alias": "a"},
            {"distinctId": "u", "previousId": "a"},
        ),
        (
            "$create_alias",
            {"distinct_id": "d", "$device_id": "d", "alias": "u"},
            {"anonymousId": "d", "previousId": "u"},
        ),
        (
            "$groupidentify",
            {"distinct_id": "$org_9", "$group_type": "org", "$group_key": 9},
            {"distinctId": "$org_9", "groupType": "org", "groupId": "9"},
        ),
    ],
)
def test_a_live_posthog_event_says_whose_it_is(
    event: str, properties: dict[str, Any], people: dict[str, Any]
) -> None:
    call = live(event, properties)
    ids = ("userId", "anonymousId", "distinctId", "previousId", "groupId", "groupType")
    assert {key: call[key] for key in ids if key in call} == people


def test_what_is_set_once_stands_apart_and_the_event_level_wins_over_properties() -> (
    None
):
    call = live(
        "$identify",
        {"distinct_id": "u", "$set": {"a": 1, "b": 1}, "$set_once": {"a": 0, "c": 0}},
        **{"$set": {"b": 2}},
    )
    assert call["traits"] == {"a": 1, "b": 2, "$set_once": {"a": 0, "c": 0}}


def test_posthogs_own_properties_move_to_the_context() -> None:
    given = {
        "distinct_id": "u",
        "token": "k",
        "plan": "pro",
        "$current_url": "https://shop.example/",
        "$groups": {"company": "c1"},
        "$session_id": "s1",
    }
    event = {"uuid": "m1", "event": "e", "properties": given}
    before = json.dumps(event)
    call = from_posthog(event)
    assert call["properties"] == {"plan": "pro"}
    assert call["context"] == {
        "page": {"url": "https://shop.example/"},
        "groups": {"company": "c1"},
        "posthog": {"$session_id": "s1"},
    }
    assert json.dumps(event) == before


def test_a_page_is_named_by_its_title_and_a_screen_by_its_name() -> None:
    assert live("$pageview", {"title": "Pricing"})["name"] == "Pricing"
    assert live("$screen", {"$screen_name": "Home"})["name"] == "Home"
    assert live("$autocapture", {})["event"] == "$autocapture"


@given(
    st.dictionaries(
        st.sampled_from(
            ["uuid", "event", "distinct_id", "properties", "$set", "context", "token"]
        ),
        json_values
        | st.sampled_from(["$identify", "$set", "$groupidentify", "$create_alias"])
        | st.dictionaries(
            st.sampled_from(["$set", "$device_id", "$groups", "$lib", "distinct_id"]),
            json_values,
        ),
    )
)
def test_no_live_posthog_event_raises(event: dict[str, Any]) -> None:
    assert "type" in from_posthog(event)


def test_a_broken_line_is_kept_beside_its_neighbours(tmp_path: Path) -> None:
    source = FIXTURES / "mixpanel_export" / "2026-03-01.jsonl"
    lines = source.read_bytes().splitlines()
    lines[1:1] = [b'{"event": "e", "proper', b'{"event": 7, "properties": {}}']
    file = tmp_path / "export.jsonl"
    file.write_bytes(b"\n".join(lines))
    found = list(rows(next(chunks(units([file])[0]))))
    broken = [item for _, item in found if isinstance(item, Broken)]
    assert [(item.line, item.reason) for item in broken] == [
        (2, "not_json"),
        (3, "event is not a name"),
    ]
    assert broken[0].payload == lines[1]
    assert len(found) == len(lines)
