"""Requests recorded from real SDKs: every event is admitted, none is refused."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from connectors.events.admission import Admission
from connectors.events.canonical import Event
from connectors.events.event_builder import Origin
from connectors.events.identifiers import IdentifierRules
from connectors.events.rows import Admitted
from connectors.events.rulebook import Rulebook
from tests.support.sdk_wire import RECORDED, body, scenarios

PROJECT = Path(__file__).parents[2]
NOW = 1_795_255_200_000_000  # 2026-11-21, when the requests were recorded
ORIGIN = Origin("web", "web", "http", "segment", NOW, keeps_received_at=False)
ADMISSION = Admission(IdentifierRules.load(PROJECT), Rulebook.load(PROJECT))


def replayed(requests: list[dict[str, Any]]) -> tuple[Admitted, list[dict[str, Any]]]:
    out = Admitted()
    for request in requests:
        ADMISSION.admit_bytes(body(request), ORIGIN, out)
    return out, [
        dict(zip(Event.__struct_fields__, row, strict=True)) for row in out.events
    ]


def sent_ids(sdk: str, event: dict[str, Any]) -> set[str]:
    # Jitsu's own ids cannot be set: the recorder put its id among the properties.
    if not sdk.startswith("jitsu"):
        return {event["message_id"]}
    texts = [event[name] for name in ("properties", "traits") if event[name]]
    values = [json.loads(text) for text in texts]
    return {value["driver_id"] for value in values if "driver_id" in value}


def test_every_recorded_sdk_is_here() -> None:
    assert len(RECORDED) == 11
    assert sum(len(scenarios(path)) for path in RECORDED) > 100


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_every_event_of_a_scenario_is_admitted(path: Path) -> None:
    for scenario, requests in scenarios(path).items():
        out, events = replayed(requests)
        wanted = {id for request in requests for id in request["event_ids"]}
        found = {id for event in events for id in sent_ids(path.stem, event)}
        assert wanted <= found, scenario
        assert {row.disposition for row in out.dispositions} <= {"admitted"}, scenario
        assert out.received.total() == len(out.dispositions) == len(events), scenario


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_calls_of_every_type_keep_their_meaning(path: Path) -> None:
    _, events = replayed(scenarios(path)["all_types"])
    by_type = {event["type"]: event for event in events}

    identify = by_type["identify"]
    traits = json.loads(identify["traits"])
    assert (traits["email"], traits["plan"]) == ("ana@shop.example", "free")
    identifiers = {
        identifier.type: identifier.value for identifier in identify["identifiers"]
    }
    assert identifiers["email"] == "ana@shop.example"
    # A PostHog server cannot say whether its id is a user's.
    assert "user_1001" in (identify["user_id"], identify["distinct_id"])
    assert by_type["group"]["group_id"] == "acme_inc"
    assert json.loads(by_type["group"]["traits"])["employees"] == 120
    track = by_type["track"]
    assert (track["event"], track["event_text"]) == (
        "order_completed",
        "Order Completed",
    )
    assert json.loads(track["properties"])["total"] == 42.5
    if "screen" in by_type:
        assert by_type["screen"]["name"] == "Home"
    assert by_type["page"]["type"] == "page"
    if "alias" in by_type:
        assert by_type["alias"]["previous_id"]


def test_what_was_sent_twice_has_one_id_and_one_content() -> None:
    for path in RECORDED:
        for scenario, requests in scenarios(path).items():
            contents = defaultdict(set)
            for event in replayed(requests)[1]:
                contents[event["message_id"]].add(event["content_hash"])
            assert {len(hashes) for hashes in contents.values()} <= {1}, (
                path,
                scenario,
            )


def test_a_page_keeps_its_name_and_category() -> None:
    for sdk in ("rudder-sdk-node", "segment-analytics-python", "jitsu-js-1.11.0-node"):
        (path,) = [path for path in RECORDED if path.stem.startswith(sdk)]
        (page,) = [
            event
            for event in replayed(scenarios(path)["all_types"])[1]
            if event["type"] == "page"
        ]
        assert page["name"] == "Install"
        assert json.loads(page["properties"])["category"] == "Docs"


def test_an_explicit_time_wins_and_is_not_corrected_within_a_minute() -> None:
    (path,) = [path for path in RECORDED if path.stem.startswith("rudder-sdk-node")]
    requests = scenarios(path)["timestamps"]
    given = {
        item["messageId"]: item
        for request in requests
        for item in json.loads(body(request))["batch"]
    }
    explicit = {
        event["timestamp"] // 1_000_000
        for event in replayed(requests)[1]
        if "timestamp" in given[event["message_id"]]
    }
    assert 0 in {second // 86_400 for second in explicit}  # 1970
