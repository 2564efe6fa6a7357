"""The collector over HTTP: recorded requests, and guarantees for all clients.

Every recorded request is sent unchanged: method, path, headers, bytes.
"""

import base64
import gzip
import json
import re
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import zstandard

from connectors.events.policy import Policy
from connectors.home import Home
from connectors.sources.http_api.admin import ADMIN_PATHS
from connectors.sources.http_api.routes import ROUTES, find
from tests.support.collecting import Collecting, collecting, landed, make_key

PROJECT = Path(__file__).parents[2]
RECORDED = sorted((PROJECT / "tests/fixtures/sdk_wire").glob("*.ndjson"))
GUIDE = PROJECT / "docs/instrument.md"
KEY = "WK_TEST_1"
JITSU_KEY = "WK_TEST_1:secret_1"
PAGE = "https://shop.example"

# What browser SDKs look for in the answers they ask for before they send anything.
SETTINGS: dict[str, Callable[[Any], str]] = {
    "/v1/projects/": lambda body: body["integrations"]["Segment.io"]["apiKey"],
    "/sourceConfig/": lambda body: (
        body["source"]["enabled"] and body["source"]["writeKey"]
    ),
    "/array/": lambda body: body["analytics"]["endpoint"] and body["token"],
}

Row = dict[str, Any]


@dataclass(frozen=True)
class Exchange:
    """A recorded request and the collector's answer."""

    request: dict[str, Any]
    answer: httpx.Response

    def __str__(self) -> str:
        names = ("scenario", "seq", "method", "path")
        return " ".join(str(self.request[name]) for name in names)


@dataclass(frozen=True)
class Replay:
    exchanges: dict[str, list[Exchange]]  # by SDK
    events: list[Row]
    dispositions: list[Row]
    received: list[Row]


def connected(collector: Collecting) -> httpx.Client:
    # Not httpx.post: each call would read all certificates of the machine.
    return httpx.Client(base_url=collector.url, timeout=30)


def sent(client: httpx.Client, request: dict[str, Any]) -> Exchange:
    if "body_base64" in request:
        content = base64.b64decode(request["body_base64"])
    elif "body_json" in request:
        content = json.dumps(request["body_json"], ensure_ascii=True).encode()
    else:
        content = b""
    answer = client.request(
        request["method"],
        request["path"],
        headers=request["headers"],
        content=content,
    )
    return Exchange(request, answer)


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Replay:
    """Send every recorded request in order to one collector, then land the events."""
    home = Home(tmp_path_factory.mktemp("recorded"))
    make_key(home, KEY, name="web")
    make_key(home, JITSU_KEY, name="jitsu")
    exchanges: dict[str, list[Exchange]] = defaultdict(list)
    with collecting(home) as collector, connected(collector) as client:
        for path in RECORDED:
            for line in path.read_text().splitlines():
                exchanges[path.stem].append(sent(client, json.loads(line)))
    events, dispositions = landed(home, "events"), landed(home, "dispositions")
    return Replay(exchanges, events, dispositions, landed(home, "received_counts"))


def stored_id(event: Row) -> str:
    """Return the recorder's id of an event, since Jitsu's own id cannot be set."""
    if event["source"] == "jitsu":
        for name in ("properties", "traits"):
            value = json.loads(event[name] or "{}").get("driver_id")
            if value is not None:
                return str(value)
    return str(event["message_id"])


per_sdk = pytest.mark.parametrize("sdk", [path.stem for path in RECORDED])


@per_sdk
def test_a_recorded_request_is_answered_with_what_its_sdk_needs(
    replay: Replay, sdk: str
) -> None:
    for exchange in replay.exchanges[sdk]:
        request, answer = exchange.request, exchange.answer
        path = request["path"]
        match request["method"]:
            case "OPTIONS":
                assert answer.status_code in (200, 204), exchange
                continue
            case "GET":
                assert answer.status_code == 200, exchange
                (find_key,) = [
                    find for prefix, find in SETTINGS.items() if path.startswith(prefix)
                ]
                assert find_key(answer.json()) == KEY, exchange
                continue
        # Not 202 and not 204: three SDKs would send the batch again, and then fail.
        assert answer.status_code == 200, exchange
        body = answer.json()
        if path.startswith("/flags/"):
            assert body["errorsWhileComputingFlags"] is False
        elif path.startswith("/i/v1/"):
            results = {id: one["result"] for id, one in body["results"].items()}
            assert results == dict.fromkeys(request["event_ids"], "ok"), exchange
        elif path.startswith("/api/s/"):
            assert body["ok"] is True, exchange
        else:
            assert body == {"success": True}, exchange


@per_sdk
def test_every_recorded_page_may_send_and_read(replay: Replay, sdk: str) -> None:
    for exchange in replay.exchanges[sdk]:
        asked, given = exchange.request["headers"], exchange.answer.headers
        if "origin" not in asked:
            continue
        assert given["access-control-allow-origin"] == asked["origin"], exchange
        assert given["access-control-expose-headers"] == "Retry-After", exchange
        if exchange.request["method"] == "OPTIONS":
            # By name: `*` does not cover `authorization`.
            names = asked.get("access-control-request-headers", "").lower().split(",")
            allowed = given["access-control-allow-headers"].lower().split(", ")
            assert {name.strip() for name in names} - {""} <= set(allowed), exchange
            methods = given["access-control-allow-methods"].split(", ")
            assert asked["access-control-request-method"] in methods, exchange
            assert int(given["access-control-max-age"]) >= 600, exchange


@per_sdk
def test_every_recorded_event_is_stored_once(replay: Replay, sdk: str) -> None:
    wanted = {
        id
        for exchange in replay.exchanges[sdk]
        for id in exchange.request.get("event_ids", ())
    }
    messages = defaultdict(set)
    for event in replay.events:
        messages[stored_id(event)].add((event["scope"], event["message_id"]))
    assert wanted
    assert {id: len(messages[id]) for id in wanted} == dict.fromkeys(wanted, 1)


def test_what_was_sent_again_is_stored_with_the_same_content(replay: Replay) -> None:
    contents = defaultdict(set)
    for event in replay.events:
        contents[event["scope"], event["message_id"]].add(event["content_hash"])
    assert len(contents) < len(replay.events)
    assert {len(hashes) for hashes in contents.values()} == {1}


def test_no_recorded_event_is_refused_and_the_books_balance(replay: Replay) -> None:
    assert {row["disposition"] for row in replay.dispositions} == {"admitted"}
    sent_ids = [
        id
        for exchanges in replay.exchanges.values()
        for exchange in exchanges
        for id in exchange.request.get("event_ids", ())
    ]
    counted = sum(row["items"] for row in replay.received)
    assert counted == len(replay.dispositions) == len(replay.events) == len(sent_ids)


# Guarantees for all clients


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("collector"))


@pytest.fixture(scope="module")
def collector(home: Home) -> Iterator[Collecting]:
    """A collector with these keys."""
    make_key(home, KEY, name="web")
    make_key(home, JITSU_KEY, name="jitsu")
    make_key(home, "SLOW", name="slow", rate=0.001, burst=1)
    small = Policy(max_event_bytes=1000)
    make_key(home, "SMALL", name="small", max_batch_bytes=1000, policy=small)
    make_key(home, "TRACKING", name="tracking", paths=("posthog",))
    with collecting(home) as collector:
        yield collector


@pytest.fixture(scope="module")
def web(collector: Collecting) -> Iterator[httpx.Client]:
    with connected(collector) as client:
        yield client


def post(web: httpx.Client, path: str, body: Any, **more: Any) -> httpx.Response:
    """POST JSON, or bytes unchanged."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return web.post(path, content=content, **more)


def track(id: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "track",
        "event": "Cart Updated",
        "messageId": id,
        "userId": "u1",
        **more,
    }


def events(home: Home) -> dict[str, Row]:
    return {row["message_id"]: row for row in landed(home, "events")}


def bearer(key: str = KEY) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def basic(user: str, password: str = "") -> dict[str, str]:
    return {
        "Authorization": "Basic "
        + base64.b64encode(f"{user}:{password}".encode()).decode()
    }


INGEST = [
    *(path for path, route in ROUTES.items() if route.kind == "ingest"),
    "/api/s/track",
    "/api/s/s2s/identify",
]
ASKED = [
    path
    for path, route in ROUTES.items()
    if route.kind in ("rudder_settings", "healthz", "readyz", "openapi")
]


def test_every_sdk_s_paths_are_served() -> None:
    """A literal list: a path removed from the routes must fail here."""
    calls = ("track", "identify", "page", "screen", "group", "alias")
    assert {
        *(f"/v1/{name}" for name in calls),
        *(f"/v1/{name[0]}" for name in calls),
        *("/v1/batch", "/v1/b", "/v1/import", "/beacon/v1/batch"),
        *("/batch", "/capture", "/e", "/i/v0/e", "/i/v1/analytics/events"),
        *("/api/v1/events", "/api/s/track", "/api/s/s2s/identify"),
    } == set(INGEST)


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("path", INGEST)
def test_an_ingest_path_takes_events_with_and_without_a_slash(
    web: httpx.Client, path: str, slash: str
) -> None:
    answer = post(web, path + slash, track(f"slash{path}{slash}"), headers=basic(KEY))
    assert answer.status_code == 200, answer.text
    for method in ("GET", "HEAD", "PUT", "DELETE", "PATCH"):
        answer = web.request(method, path + slash)
        assert answer.status_code == 405
        assert set(answer.headers["allow"].split(", ")) == {"POST", "OPTIONS"}
    preflight = web.options(path + slash, headers={"Origin": PAGE})
    assert preflight.status_code in (200, 204)


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("path", [*ASKED, f"/v1/projects/{KEY}/settings", "/flags"])
def test_what_is_asked_for_is_answered_with_and_without_a_slash(
    web: httpx.Client, path: str, slash: str
) -> None:
    got = web.get(path + slash, headers=basic(KEY))
    assert got.status_code == 200 and got.content
    if path == "/flags":
        return
    head = web.head(path + slash, headers=basic(KEY))
    assert (head.status_code, head.content) == (200, b"")
    answer = post(web, path + slash, {}, headers=basic(KEY))
    assert answer.status_code == 405
    assert "GET" in answer.headers["allow"].split(", ")


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/batches", "/v2/batch", "/v1//batch"])
def test_an_unknown_path_is_not_found(web: httpx.Client, path: str) -> None:
    answer = post(web, path, track("nowhere"), headers=basic(KEY))
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_nothing_is_redirected(web: httpx.Client) -> None:
    """A redirect turns a POST into a GET, whose answer looks like success."""
    for path in (*INGEST, *ASKED, "/", "/v1/batch//"):
        for method in ("GET", "POST", "OPTIONS"):
            answer = web.request(
                method,
                path,
                headers={**basic(KEY), "X-Forwarded-Proto": "http"},
            )
            assert not 300 <= answer.status_code < 400, (method, path)


@pytest.mark.parametrize(
    ("name", "path", "headers", "body"),
    [
        ("basic", "/v1/batch", basic(KEY), {}),
        ("basic_password", "/v1/batch", basic("WK_TEST_1", "secret_1"), {}),
        ("bearer", "/v1/batch", bearer(), {}),
        ("lower", "/v1/batch", {"authorization": f"bearer {KEY}"}, {}),
        ("x-write-key", "/api/s/track", {"X-Write-Key": JITSU_KEY}, {}),
        ("writeKey", "/v1/batch?writeKey=WK_TEST_1", {}, {}),
        ("write_key", "/v1/batch?write_key=WK_TEST_1", {}, {}),
        ("api_key", "/e/?ip=0&api_key=WK_TEST_1", {}, {}),
        ("token", "/e?token=WK_TEST_1", {}, {}),
        ("beacon", "/beacon/v1/batch?writeKey=WK_TEST_1", {}, {}),
        ("quoted", f"/api/s/track?writeKey={quote(JITSU_KEY)}", {}, {}),
        ("body writeKey", "/v1/batch", {}, {"writeKey": KEY}),
        ("body api_key", "/batch/", {}, {"api_key": KEY}),
        ("body token", "/e/", {}, {"token": KEY}),
        # The first valid key counts: a page may have an old one in its headers.
        ("second", "/v1/batch", bearer("REVOKED"), {"writeKey": KEY}),
    ],
)
def test_a_write_key_is_found_wherever_sdks_put_it(
    web: httpx.Client,
    name: str,
    path: str,
    headers: dict[str, str],
    body: dict[str, Any],
) -> None:
    item = track(f"key {name}")
    for value in ({"batch": [item], **body}, {**item, **body}):
        assert post(web, path, value, headers=headers).status_code == 200
    without = post(web, path.partition("?")[0], {"batch": [item]})
    assert without.status_code == 401


def test_a_write_key_in_the_first_item_s_properties_is_found(
    web: httpx.Client, home: Home
) -> None:
    item = {
        "event": "Cart Updated",
        "uuid": "posthog-js",
        "distinct_id": "d1",
        "properties": {"token": KEY, "total": 1},
    }
    assert post(web, "/e/", [item]).status_code == 200
    stored = events(home)["posthog-js"]
    assert KEY not in json.dumps(stored, default=str)


def test_without_a_key_nothing_is_learned_from_the_answer(
    web: httpx.Client,
) -> None:
    answers = [
        post(web, "/v1/batch", track("x")),
        post(web, "/v1/batch", track("x"), headers=bearer("WK_TEST_")),
        post(web, "/v1/batch", track("x"), headers=basic("", KEY)),
        post(web, "/v1/batch", track("x"), headers={"Authorization": "Basic %"}),
        post(web, "/v1/batch", track("x"), headers={"Authorization": KEY}),
        post(web, "/v1/batch", b"{not json"),
        post(web, "/v1/batch", gzip.compress(b"x")),
        post(web, "/v1/batch", track("x", writeKey=7)),
        post(web, "/batch", {"batch": [track("x")], "api_key": "no"}),
        post(web, "/api/s/track", track("x"), headers={"X-Write-Key": "a:b"}),
        web.get("/sourceConfig/"),
        web.get("/v1/projects/WK_TEST_2/settings"),
        web.get("/array/WK_TEST_2/config"),
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1


def test_an_error_has_every_field_an_sdk_reads(
    collector: Collecting, web: httpx.Client
) -> None:
    slow = {"batch": [track("fast"), track("faster")]}
    assert post(web, "/v1/batch", slow, headers=bearer("SLOW")).status_code == 200
    answers = {
        400: post(web, "/v1/batch", b"{not json", headers=bearer()),
        401: post(web, "/v1/batch", {}),
        403: post(web, "/v1/batch", track("x"), headers=bearer("TRACKING")),
        404: post(web, "/v3", {}),
        405: web.get("/v1/batch"),
        413: post(
            web,
            "/v1/batch",
            track("x", properties={"a": "a" * 1000}),
            headers=bearer("SMALL"),
        ),
        429: post(web, "/v1/batch", slow, headers={**bearer("SLOW"), "Origin": PAGE}),
    }
    for status, answer in answers.items():
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/json"
        body = answer.json()
        assert body.keys() == {
            *("success", "code", "message", "detail", "error", "status")
        }
        assert body["success"] is False and body["status"] == status
        assert body["code"] and " " not in body["code"]
        assert body["message"] == body["detail"] == body["error"] != ""
    counted = (
        'loomline_events_total{source="slow",disposition="admitted"} 2',
        'loomline_events_total{source="slow",disposition="rate_limited"} 2',
    )
    assert set(counted) <= set(
        httpx.get(collector.admin_url + "/metrics").text.splitlines()
    )
    seconds = answers[429].headers["retry-after"]
    assert seconds.isdigit() and int(seconds) >= 1
    assert answers[429].headers["access-control-expose-headers"] == "Retry-After"


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "gzip-members": lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:]),
    "zlib": zlib.compress,
    "zlib-best": lambda data: zlib.compress(data, 9),
    "zstd": zstandard.compress,
}


def admitted(answer: httpx.Response) -> list[str]:
    """Return the ids that the receipts report as admitted."""
    assert answer.status_code == 200, answer.text
    receipts = answer.json()["events"]
    assert {receipt["status"] for receipt in receipts} == {"admitted"}
    return [receipt["id"] for receipt in receipts]


@pytest.mark.parametrize("encoding", [None, "gzip", "deflate", "zstd", "identity"])
@pytest.mark.parametrize("packed", PACKED)
def test_a_body_is_unpacked_whatever_its_label_says(
    web: httpx.Client, packed: str, encoding: str | None
) -> None:
    id = f"packed {packed} {encoding}"
    headers = bearer() | ({"Content-Encoding": encoding} if encoding else {})
    body = PACKED[packed](json.dumps({"batch": [track(id)]}).encode())
    answer = post(web, "/v1/batch?receipts=1", body, headers=headers)
    assert admitted(answer) == [id]


def test_raw_deflate_is_unpacked_when_the_header_says_so(
    web: httpx.Client,
) -> None:
    stream = zlib.compressobj(wbits=-15)
    body = stream.compress(json.dumps(track("raw")).encode()) + stream.flush()
    headers = {**bearer(), "Content-Encoding": "deflate"}
    answer = post(web, "/v1/track?receipts=1", body, headers=headers)
    assert admitted(answer) == ["raw"]


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "text/plain;charset=UTF-8",
        "application/x-www-form-urlencoded",
        "application/octet-stream",
        "nonsense",
        None,
    ],
)
def test_json_is_json_under_any_content_type(
    web: httpx.Client, content_type: str | None
) -> None:
    headers = bearer() | ({"Content-Type": content_type} if content_type else {})
    body = json.dumps(track("typed")).encode()
    for packed in (body, b"\xef\xbb\xbf" + body, gzip.compress(body)):
        answer = post(web, "/v1/t?receipts=1", packed, headers=headers)
        assert admitted(answer) == ["typed"]


def test_a_form_s_data_field_holds_json_plain_or_in_base64(
    web: httpx.Client, home: Home
) -> None:
    ids = []
    for name, encoded in (
        ("plain", quote),
        ("base64", lambda text: quote(base64.b64encode(text.encode()))),
        ("unquoted", lambda text: base64.b64encode(text.encode()).decode()),
    ):
        ids.append(f"form {name}")
        text = json.dumps({"batch": [track(ids[-1])], "token": KEY})
        body = f"data={encoded(text)}".encode()
        assert post(web, "/e/?compression=base64", body).status_code == 200
        both = f"data={encoded(text)}&ver=1.2".encode()
        assert post(web, "/e/", gzip.compress(both)).status_code == 200
    assert set(ids) <= events(home).keys()


def test_values_that_no_strict_parser_takes_are_kept(
    web: httpx.Client, home: Home
) -> None:
    head = '{"batch":[{"type":"track","event":"Odd","userId":"u1","messageId":'
    properties = r"""{
        "nan": NaN, "inf": Infinity, "minus": -Infinity, "zero": -0.0,
        "cut": "a\ud83d", "nul": "\u0000", "big": 123456789012345678901234567890,
        "": 1, "a.b": 2, "total": 3, "Total": 4
    }"""
    body = f'{head}"odd","properties":{properties}}}]}}'.encode()
    assert post(web, "/v1/batch", body, headers=bearer()).status_code == 200
    kept = json.loads(events(home)["odd"]["properties"])
    assert (kept["nan"], kept["inf"], kept["minus"]) == (None, None, None)
    assert kept["cut"] == "a\\ud83d" and kept["nul"] == "\0"
    assert kept["big"] == "123456789012345678901234567890"
    assert (kept[""], kept["a.b"], kept["total"], kept["Total"]) == (1, 2, 3, 4)


def test_a_beacon_is_taken_without_a_preflight(web: httpx.Client, home: Home) -> None:
    answer = post(
        web,
        f"/beacon/v1/batch?writeKey={KEY}",
        {"batch": [track("beacon")]},
        headers={"Content-Type": "text/plain;charset=UTF-8", "Origin": PAGE},
    )
    assert answer.status_code == 200
    # A beacon carries credentials: the browser wants the page named, not `*`.
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert "beacon" in events(home)


MIXED = [
    track("first"),
    7,
    {"type": "track", "event": "Orphan", "messageId": "orphan"},
    {"type": "group", "userId": "u1", "messageId": "groupless"},
    track("last"),
]


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/v1/batch", {"X-Loomline-Receipts": "1"}),
        ("/v1/batch?receipts=1", {}),
        ("/batch/?receipts=1", {}),
        ("/api/v1/events?receipts=1", {}),
    ],
)
def test_receipts_say_in_order_what_became_of_each_event(
    web: httpx.Client, path: str, headers: dict[str, str]
) -> None:
    answer = post(web, path, {"batch": MIXED}, headers=bearer() | headers)
    assert answer.status_code == 200 and answer.json()["success"] is True
    assert answer.json()["events"] == [
        {"id": "first", "status": "admitted", "reason": None},
        {"id": None, "status": "rejected", "reason": "not_an_object"},
        {"id": "orphan", "status": "rejected", "reason": "missing_identity"},
        {"id": "groupless", "status": "rejected", "reason": "group_id_missing"},
        {"id": "last", "status": "admitted", "reason": None},
    ]


def test_one_bad_event_does_not_fail_its_batch(web: httpx.Client, home: Home) -> None:
    batch = [track("good"), "bad", track("too")]
    answer = post(web, "/v1/batch", {"batch": batch}, headers=bearer())
    assert (answer.status_code, answer.json()) == (200, {"success": True})
    assert {"good", "too"} <= events(home).keys()
    reasons = [row["reason"] for row in landed(home, "dispositions")]
    assert "not_an_object" in reasons


def test_posthog_s_newer_protocol_is_answered_event_by_event(
    web: httpx.Client,
) -> None:
    item = {"event": "Cart Updated", "distinct_id": "d1", "properties": {}}
    batch = [{**item, "uuid": "v1-good"}, {"event": "Orphan", "uuid": "v1-bad"}]
    answer = post(web, "/i/v1/analytics/events", {"batch": batch}, headers=bearer())
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert results.keys() == {"v1-good", "v1-bad"}
    assert results["v1-good"]["result"] == "ok"
    assert results["v1-bad"] == {"result": "drop", "details": "missing_identity"}


def test_jitsu_reads_that_it_is_ok(web: httpx.Client) -> None:
    for path in ("/api/s/track", "/api/s/s2s/track", "/api/s/event"):
        answer = post(web, path, track("jitsu ok"), headers={"X-Write-Key": JITSU_KEY})
        assert (answer.status_code, answer.json()["ok"]) == (200, True)


def test_a_browser_that_asks_not_to_be_sold_denies_advertising(
    web: httpx.Client, home: Home
) -> None:
    for id, headers in (("gpc", {"Sec-GPC": "1"}), ("no gpc", {"Sec-GPC": "0"})):
        answer = post(web, "/v1/t", track(id), headers=bearer() | headers)
        assert answer.status_code == 200
    stored = events(home)
    assert json.loads(stored["gpc"]["consent"]) == {"advertising": False}
    assert stored["no gpc"]["consent"] is None


def test_a_path_gives_its_type_to_an_event_that_has_none(
    web: httpx.Client, home: Home
) -> None:
    calls = ("track", "identify", "page", "screen", "group", "alias")
    for name in calls:
        for path in (f"/v1/{name}", f"/v1/{name[0]}", f"/api/s/{name}"):
            item = track(f"type {path}", groupId="g1", previousId="p1")
            del item["type"]
            assert post(web, path, item, headers=bearer()).status_code == 200
    stored = events(home)
    for name in calls:
        for path in (f"/v1/{name}", f"/v1/{name[0]}", f"/api/s/{name}"):
            assert stored[f"type {path}"]["type"] == name


def test_a_clock_that_is_wrong_is_corrected_by_the_batch_s_sent_at(
    web: httpx.Client, home: Home
) -> None:
    behind = "2020-01-01T00:00:00.000Z"
    body = {"batch": [track("behind", timestamp=behind)], "sentAt": behind}
    assert post(web, "/v1/batch", body, headers=bearer()).status_code == 200
    stored = events(home)["behind"]
    assert abs((stored["timestamp"] - stored["received_at"]).total_seconds()) < 1
    assert stored["original_timestamp"].year == 2020


# The guide


def test_the_guide_lists_every_path_and_only_those() -> None:
    _, _, text = GUIDE.read_text().partition("## Paths\n")
    listed = set(re.findall(r"`(/[^`]*)`", text))
    assert set(ROUTES) | set(ADMIN_PATHS) <= listed
    for path in listed:
        is_operators = path in ADMIN_PATHS
        assert is_operators or find(path.replace("TYPE", "track")) is not None, path


def test_the_guide_s_consent_statements_are_read(web: httpx.Client, home: Home) -> None:
    _, _, text = GUIDE.read_text().partition("## Consent\n")
    statements = re.findall(r"```json\n(.*?)```", text.partition("\n## ")[0], re.DOTALL)
    for n, statement in enumerate(statements):
        item = track(f"consent {n}", context=json.loads(statement))
        assert post(web, "/v1/t", item, headers=bearer()).status_code == 200
    stored = events(home)
    assert [json.loads(stored[f"consent {n}"]["consent"]) for n in range(2)] == [
        {"analytics": True, "advertising": False},
        {"advertising": False},
    ]


def test_an_event_or_batch_over_the_guide_s_limits_is_treated_as_it_says(
    web: httpx.Client,
) -> None:
    large = track("large", properties={"text": "a" * (9 << 17)})
    batch = {"batch": [track("small"), large]}
    answer = post(web, "/v1/batch?receipts=1", batch, headers=bearer())
    assert answer.status_code == 200
    found = {one["id"]: one["reason"] for one in answer.json()["events"]}
    assert found == {"small": None, "large": "event_too_large"}

    padding = " " * (10 << 20)
    body = gzip.compress((json.dumps(batch) + padding).encode())
    assert post(web, "/v1/batch", body, headers=bearer()).status_code == 413
