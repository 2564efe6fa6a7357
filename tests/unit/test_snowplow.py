"""Snowplow's rows: whose a mobile session is, and that no column is lost."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.sources.files import chunks, rows, units
from connectors.sources.layouts.snowplow import COLUMNS, NOT_KEPT

NULL_ID = "00000000-0000-0000-0000-000000000000"
TIME = "2026-03-01 09:00:00.120"
# The example of docs.snowplow.io/docs/events/ootb-data/user-and-session-identification
SESSION = {
    "sessionIndex": 7,
    "sessionId": "bca0fa0e-853c-41cf-9cc4-15048f6f0ff5",
    "previousSessionId": "fa008142-c427-4289-8424-6fb2b6576692",
    "userId": "7a62ec9d-2aa0-4426-b014-eba2d0dcfebb",
    "firstEventId": "1548BE58-4CE7-4A32-A5E8-2696ECE941F4",
    "eventIndex": 66,
    "storageMechanism": "SQLITE",
    "firstEventTimestamp": "2022-01-01T00:00:00Z",
}
# Examples of docs.snowplow.io/docs/fundamentals/canonical-event
DOCUMENTED = {
    "geo_country": "GB",
    "geo_region": "TX",
    "geo_region_name": "Florida",
    "geo_city": "New York",
    "geo_zipcode": "94109",
    "geo_latitude": "37.443604",
    "geo_longitude": "-122.4124",
    "geo_timezone": "Europe/London",
    "mkt_medium": "cpc",
    "mkt_source": "Google",
    "mkt_term": "new age tarot decks",
    "mkt_content": "13894723",
    "mkt_campaign": "diageo-123",
    "mkt_clickid": "ac3d8e459",
    "mkt_network": "DoubleClick",
    "refr_medium": "search",
    "refr_source": "Google",
    "refr_term": "psychic oracle cards",
    "refr_urlhost": "www.google.com",
    "refr_urlport": "443",
    "refr_domain_userid": "bc2e92ec6c204a14",
    "refr_dvce_tstamp": "2013-11-26 00:02:05",
    "dvce_screenwidth": "1900",
    "dvce_screenheight": "1024",
    "br_viewwidth": "1000",
    "br_viewheight": "1000",
    "br_cookies": "1",
    "br_colordepth": "24",
    "doc_width": "1024",
    "doc_height": "3000",
    "domain_sessionidx": "3",
    "ip_netspeed": "Cable/DSL",
    "event_vendor": "com.acme",
    "event_name": "link_click",
    "event_format": "jsonschema",
    "event_version": "1-0-2",
}


def entities(*found: tuple[str, dict[str, Any]]) -> str:
    return json.dumps(
        {
            "schema": "iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-1",
            "data": [
                {"schema": f"iglu:com.snowplowanalytics.{schema}", "data": data}
                for schema, data in found
            ],
        }
    )


def session(version: str = "1-0-2", **fields: Any) -> tuple[str, dict[str, Any]]:
    return f"snowplow/client_session/jsonschema/{version}", {**SESSION, **fields}


def unstruct(**data: Any) -> dict[str, str]:
    event = {"schema": "iglu:com.acme/link_click/jsonschema/1-0-2", "data": data}
    schema = "iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0"
    column = json.dumps({"schema": schema, "data": event})
    return {"event": "unstruct", "event_name": "link_click", "unstruct_event": column}


def row(**columns: str) -> dict[str, str]:
    return {
        "event": "page_view",
        "event_id": "c6ef3124-b53a-4b13-a233-0088f79dcbcb",
        "collector_tstamp": TIME,
        "derived_tstamp": TIME,
    } | columns


def imported(folder: Path, *given: dict[str, str]) -> list[dict[str, Any]]:
    """The calls of a file with these rows."""
    file = folder / "part-00000.tsv"
    lines = ("\t".join(row.get(column, "") for column in COLUMNS) for row in given)
    file.write_text("\n".join(lines))
    calls = []
    (unit,) = units([file])
    assert unit.format == "snowplow"
    for chunk in chunks(unit):
        for _, call in rows(chunk):
            assert isinstance(call, dict), call
            calls.append(call)
    return calls


def anonymous_id(folder: Path, **columns: str) -> str | None:
    (call,) = imported(folder, row(**columns))
    found: str | None = call.get("anonymousId")
    return found


def test_a_mobile_session_is_one_device(tmp_path: Path) -> None:
    calls = imported(
        tmp_path,
        *(
            row(
                event_id=f"e-{device}-{number}",
                platform="mob",
                network_userid=f"cookie-{device}-{number}",
                contexts=entities(
                    ("mobile/screen/jsonschema/1-0-0", {"name": "Home", "id": "s"}),
                    session(userId=f"{device:016x}", eventIndex=number),
                ),
            )
            | unstruct(targetUrl="https://acme.example/")
            for device in range(1, 5)
            for number in range(20)
        ),
    )
    assert len(calls) == 80
    assert {call["anonymousId"] for call in calls} == {f"{n:016x}" for n in range(1, 5)}
    for call in calls:
        assert call["context"]["snowplow"]["network_userid"].startswith("cookie-")


@pytest.mark.parametrize("version", ["1-0-0", "1-0-1", "1-0-2", "1-0-3"])
def test_the_documented_session_names_its_device(tmp_path: Path, version: str) -> None:
    contexts = entities(session(version))
    found = anonymous_id(tmp_path, contexts=contexts, network_userid="n")
    assert found == "7a62ec9d-2aa0-4426-b014-eba2d0dcfebb"


def test_a_browser_s_own_id_comes_before_its_session(tmp_path: Path) -> None:
    contexts = entities(session())
    found = anonymous_id(tmp_path, contexts=contexts, domain_userid="d")
    assert found == "d"


def test_without_a_session_the_collector_s_cookie_is_the_device(tmp_path: Path) -> None:
    other = entities(("mobile/screen/jsonschema/1-0-0", {"userId": "no session"}))
    assert anonymous_id(tmp_path, network_userid="n", contexts=other) == "n"
    assert anonymous_id(tmp_path, network_userid="n") == "n"
    assert anonymous_id(tmp_path) is None


def test_a_session_without_its_user_has_no_person(tmp_path: Path) -> None:
    contexts = entities(session(userId=NULL_ID))
    assert anonymous_id(tmp_path, contexts=contexts, network_userid="n") == "n"
    assert anonymous_id(tmp_path, contexts=contexts, network_userid=NULL_ID) == NULL_ID
    assert anonymous_id(tmp_path, contexts=contexts) == NULL_ID  # blocked, later on


@pytest.mark.parametrize(
    "contexts",
    ["[]", "{}", "7", '{"data": 7}', '{"data": [7, {"schema": 7}, {"data": 7}]}']
    + [entities(session()).replace(json.dumps(SESSION), data) for data in ("7", "{}")],
)
def test_a_spoiled_session_leaves_the_event_alone(
    tmp_path: Path, contexts: str
) -> None:
    assert anonymous_id(tmp_path, contexts=contexts, network_userid="n") == "n"


def test_where_a_visitor_was_and_came_from_is_kept(tmp_path: Path) -> None:
    (call,) = imported(tmp_path, row(**DOCUMENTED))
    context = call["context"]
    assert context["location"] == {
        "country": "GB",
        "region": "TX",
        "regionName": "Florida",
        "city": "New York",
        "zip": "94109",
        "latitude": 37.443604,
        "longitude": -122.4124,
        "timezone": "Europe/London",
    }
    assert context["campaign"] == {
        "medium": "cpc",
        "source": "Google",
        "term": "new age tarot decks",
        "content": "13894723",
        "name": "diageo-123",
        "clickId": "ac3d8e459",
        "network": "DoubleClick",
    }
    assert context["screen"] == {
        "width": 1900,
        "height": 1024,
        "innerWidth": 1000,
        "innerHeight": 1000,
    }
    assert context["snowplow"] == {
        "event": "page_view",
        "refr_medium": "search",
        "refr_source": "Google",
        "refr_term": "psychic oracle cards",
        "refr_urlhost": "www.google.com",
        "refr_urlport": 443,
        "refr_domain_userid": "bc2e92ec6c204a14",
        "refr_dvce_tstamp": "2013-11-26 00:02:05",
        "br_cookies": True,
        "br_colordepth": "24",
        "doc_width": 1024,
        "doc_height": 3000,
        "domain_sessionidx": 3,
        "ip_netspeed": "Cable/DSL",
        "event_vendor": "com.acme",
        "event_name": "link_click",
        "event_format": "jsonschema",
        "event_version": "1-0-2",
    }


def test_a_self_describing_event_keeps_its_data_and_its_schema(tmp_path: Path) -> None:
    columns = DOCUMENTED | unstruct(targetUrl="https://acme.example/", elementId=7)
    (call,) = imported(tmp_path, row(**columns))
    assert (call["type"], call["event"]) == ("track", "link_click")
    assert call["properties"] == {"targetUrl": "https://acme.example/", "elementId": 7}
    assert call["context"]["snowplow"]["event_version"] == "1-0-2"


def scalars(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for member in value.values() if isinstance(value, dict) else value:
            yield from scalars(member)
    else:
        yield str(value)


BAKED_IN = ("page_view", "page_ping", "struct", "transaction", "transaction_item")


@pytest.mark.parametrize("kind", [*BAKED_IN, "unstruct"])
def test_every_column_is_kept_or_said_not_to_be(tmp_path: Path, kind: str) -> None:
    written = {column: f"the {column}" for column in COLUMNS}
    kept = dict(written)
    for day, column in enumerate(
        [column for column in COLUMNS if column.endswith("_tstamp")], 10
    ):
        written[column] = f"2026-03-{day} 09:00:00.120"
        kept[column] = f"2026-03-{day}T09:00:00.120000+00:00"
    kept["refr_dvce_tstamp"] = written["refr_dvce_tstamp"]
    kept["true_tstamp"] = written["true_tstamp"]
    for column in ("contexts", "derived_contexts"):
        written[column] = entities((column, {"name": kept[column]}))
    written |= unstruct(name=kept["unstruct_event"]) if kind == "unstruct" else {}
    written["event"] = kept["event"] = kind
    written["event_name"] = kept["event_name"]

    (call,) = imported(tmp_path, written)
    found = set(scalars(call))
    lost = {column for column in COLUMNS if kept[column] not in found}
    assert lost == NOT_KEPT


@pytest.mark.parametrize("kind", ["transaction", "transaction_item"])
def test_an_order_keeps_its_amounts_and_their_currency(
    tmp_path: Path, kind: str
) -> None:
    prefix = "tr" if kind == "transaction" else "ti"
    amounts = {
        "transaction": {"tr_total": 12.99, "tr_tax_base": 3.0},
        "transaction_item": {"ti_price": 12.99, "ti_quantity": 2},
    }[kind]
    columns = {
        "event": kind,
        f"{prefix}_orderid": "#134",
        f"{prefix}_currency": "USD",
        "base_currency": "EUR",
    } | {name: str(value) for name, value in amounts.items()}
    (call,) = imported(tmp_path, row(**columns))
    assert call["properties"] == amounts | {
        f"{prefix}_orderid": "#134",
        f"{prefix}_currency": "USD",
        "base_currency": "EUR",
    }


def test_an_older_row_without_a_corrected_time_has_the_true_one(tmp_path: Path) -> None:
    (call,) = imported(tmp_path, row(derived_tstamp="", true_tstamp=TIME))
    assert call["timestamp"] == "2026-03-01T09:00:00.120000+00:00"
