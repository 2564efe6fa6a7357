"""Webhooks: only their senders are believed, and each payload becomes what is said."""

import base64
import hashlib
import hmac
import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import standardwebhooks
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.errors import ConfigError
from connectors.events.admission import Admission
from connectors.events.canonical import Event
from connectors.events.decode import Undecodable
from connectors.events.event_builder import Origin
from connectors.events.identifiers import IdentifierRules
from connectors.events.rows import Admitted
from connectors.sources.inbound_signatures import BadSignature, Signature, read_secrets
from connectors.sources.inbound_webhooks import (
    MAX_MEMBERS,
    InboundWebhooks,
    UnknownWebhook,
)

PROJECT = Path(__file__).parents[2]
NOW = 1_776_165_218  # 2026-04-14T11:13:38Z
OPEN = "signature: {scheme: none}\n"
TEXT = "0123456789abcdef-text"
WHSEC = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER = "whsec_" + base64.b64encode(bytes(range(1, 33))).decode()
ENV = {
    "STRIPE_WEBHOOK_SECRET": TEXT,
    "GITHUB_WEBHOOK_SECRET": TEXT,
    "CRM_WEBHOOK_SECRET": WHSEC,
}
GUIDE = dict(
    re.findall(
        r"```yaml\n# connectors/sources/webhooks/(\w+)\.yml\n(.*?)```",
        (PROJECT / "docs/inbound.md").read_text(),
        re.DOTALL,
    )
)


def load(
    project: Path, env: Mapping[str, str] | None = None, **files: str
) -> InboundWebhooks:
    folder = project / "connectors" / "sources" / "webhooks"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        file = folder / (name if "." in name else f"{name}.yml")
        file.write_text(textwrap.dedent(text))
    return InboundWebhooks.load(project, env or {})


def fault(project: Path, text: str, env: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as found:
        load(project, env, shop=text)
    return [line.split("shop.yml")[-1] for line in str(found.value).splitlines()]


def calls(project: Path, text: str, payload: Any, **headers: str) -> list[Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = json.dumps(payload).encode()
    return load(project, shop=OPEN + text).receive("shop", named, body, NOW)


def one(project: Path, text: str, payload: Any, **headers: str) -> dict[str, Any]:
    (call,) = calls(project, text, payload, **headers)
    assert isinstance(call, dict)
    return call


def rows(items: list[Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """What admission makes of calls: rows of events, and the dispositions."""
    out = Admitted()
    admission = Admission(IdentifierRules.load(PROJECT))
    origin = Origin("shop", "shop", "webhook", "s", NOW * 1_000_000, False)
    for item in items:
        admission.admit(item, origin, out)
    names = Event.__struct_fields__
    events = [dict(zip(names, row, strict=True)) for row in out.events]
    return events, [row.reason or row.disposition for row in out.dispositions]


# The guide


@pytest.mark.parametrize("name", ["stripe", "github", "crm"])
def test_the_guides_examples_hold(name: str, tmp_path: Path) -> None:
    load(tmp_path, ENV, **{name: GUIDE[name]})
    broken = GUIDE[name].replace("message_id: $", "message_id: $.not_there.", 1)
    with pytest.raises(ConfigError, match="message_id"):
        load(tmp_path, ENV, **{name: broken})


def test_a_stripe_delivery_and_its_retry_are_one_event(tmp_path: Path) -> None:
    stripe = load(tmp_path, ENV, stripe=GUIDE["stripe"])
    body = json.dumps(
        {
            "id": "evt_9",
            "type": "invoice.payment_failed",
            "created": NOW - 5,
            "livemode": True,
            "pending_webhooks": 2,
            "data": {"object": {"id": "in_9", "customer": "cus_9", "amount_due": 1}},
        }
    ).encode()
    items = []
    for at in (NOW, NOW + 3600):  # a new signature for each attempt
        signed = hmac.new(TEXT.encode(), b"%d." % at + body, hashlib.sha256)
        header = f"t={at},v0=00,v1={'0' * 64},v1={signed.hexdigest()}"
        items += stripe.receive("stripe", {"stripe-signature": header}, body, at + 3)
    (first, second), dispositions = rows(items)
    assert dispositions == ["admitted", "admitted"]
    assert (first["event"], first["message_id"]) == ("invoice_payment_failed", "evt_9")
    assert [tuple(i)[:2] for i in first["identifiers"]] == [
        ("external_id", "stripe:cus_9")
    ]
    assert first["timestamp"] == (NOW - 5) * 1_000_000
    assert second["message_id"] == "evt_9"
    assert second["content_hash"] == first["content_hash"]


def test_a_crm_delivery_signed_by_the_reference_library_is_taken(
    tmp_path: Path,
) -> None:
    crm = load(tmp_path, ENV, crm=GUIDE["crm"])
    body = '{"contacts": [{"id": "u1", "email": "Zoë@example.com"}, {"id": "u2"}]}'
    headers = signed_by_library(WHSEC, "msg_7", NOW, body)
    items = crm.receive("crm", headers, body.encode(), NOW + 300)
    events, dispositions = rows(items)
    assert dispositions == ["admitted", "admitted"]
    assert [event["message_id"] for event in events] == ["msg_7:0", "msg_7:1"]
    assert [event["type"] for event in events] == ["identify", "identify"]


# Signatures


def signed_by_library(secret: str, id_: str, at: int, body: str) -> dict[str, str]:
    signature = standardwebhooks.Webhook(secret).sign(
        id_, datetime.fromtimestamp(at, UTC), body
    )
    return {
        "webhook-id": id_,
        "webhook-timestamp": str(at),
        "webhook-signature": signature,
    }


def holds(
    signature: Signature, headers: Mapping[str, str], body: bytes, now_s: float = NOW
) -> bool:
    try:
        signature.check(headers, body, float(now_s))
    except BadSignature:
        return False
    return True


def test_githubs_published_example_holds_and_nothing_near_it() -> None:
    github = Signature("github", (b"It's a Secret to Everybody",))
    name = "x-hub-signature-256"
    hexed = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert holds(github, {name: f"sha256={hexed}"}, b"Hello, World!")
    assert not holds(github, {name: f"sha256={hexed}"}, b"Hello, World?")
    assert not holds(github, {name: hexed}, b"Hello, World!")
    assert not holds(github, {name: f"sha1={hexed}"}, b"Hello, World!")
    assert not holds(github, {name: f"sha256={hexed[:-1]}"}, b"Hello, World!")
    assert not holds(github, {name: "sha256="}, b"Hello, World!")
    assert not holds(github, {}, b"Hello, World!")


VECTORS = json.loads(
    (
        PROJECT / "tests/fixtures/destinations/standard_webhooks_signatures.json"
    ).read_text()
)["cases"]


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["webhook-id"])
def test_the_published_standard_webhooks_hold(case: dict[str, str]) -> None:
    secrets = read_secrets("standard_webhooks", case["secret"])
    signature = Signature("standard_webhooks", secrets)
    sent_at = int(case["webhook-timestamp"])
    body = case["body"].encode()
    headers = {name: str(value) for name, value in case.items()}
    assert holds(signature, headers, body, sent_at)
    assert not holds(signature, headers, body + b" ", sent_at)
    assert not holds(signature, {**headers, "webhook-id": "msg_2"}, body, sent_at)


@given(body=st.text(), id_=st.from_regex(r"[!-~]{1,40}", fullmatch=True))
def test_what_the_reference_library_signs_holds(body: str, id_: str) -> None:
    signature = Signature("standard_webhooks", read_secrets("standard_webhooks", WHSEC))
    headers = signed_by_library(WHSEC, id_, NOW, body)
    assert holds(signature, headers, body.encode())
    svix = {name.replace("webhook", "svix"): text for name, text in headers.items()}
    assert holds(signature, svix, body.encode())
    late = {**headers, "webhook-timestamp": str(NOW + 1)}  # not what was signed
    assert not holds(signature, late, body.encode())


def stripe_header(secret: str, at: object, body: bytes) -> dict[str, str]:
    signed = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256)
    return {"stripe-signature": f"t={at}, v1={signed.hexdigest()}"}


@pytest.mark.parametrize("scheme", ["stripe", "standard_webhooks"])
def test_a_delivery_can_be_repeated_only_as_long_as_tolerated(scheme: Any) -> None:
    if scheme == "stripe":
        headers = stripe_header(TEXT, NOW, b"{}")
    else:
        headers = signed_by_library(WHSEC, "m", NOW, "{}")
    secrets = read_secrets(scheme, TEXT if scheme == "stripe" else WHSEC)
    signature = Signature(scheme, secrets, tolerance_s=60)
    taken = [holds(signature, headers, b"{}", NOW + s) for s in (-61, -60, 0, 60, 61)]
    assert taken == [False, True, True, True, False]


def test_a_signed_time_that_is_no_time_does_not_hold() -> None:
    stripe = Signature("stripe", (TEXT.encode(),))
    arabic = "".join(chr(0x660 + int(digit)) for digit in str(NOW))
    for at in ("", "nan", "-1", "1e9", arabic, f"{NOW}.0", "9" * 400):
        assert not holds(stripe, stripe_header(TEXT, at, b"{}"), b"{}")
    twice = stripe_header(TEXT, NOW, b"{}")["stripe-signature"] + f",t={NOW}"
    assert not holds(stripe, {"stripe-signature": twice}, b"{}")


@pytest.mark.parametrize("separator", [",", " ", ", ", "\n"])
def test_during_rotation_either_secret_signs(separator: str) -> None:
    secrets = read_secrets("standard_webhooks", f"{OTHER}{separator}{WHSEC}")
    signature = Signature("standard_webhooks", secrets)
    for secret in (WHSEC, OTHER):
        assert holds(signature, signed_by_library(secret, "m", NOW, "{}"), b"{}")
    third = "whsec_" + base64.b64encode(bytes(32)).decode()
    assert not holds(signature, signed_by_library(third, "m", NOW, "{}"), b"{}")
    old, new = (signed_by_library(s, "m", NOW, "{}") for s in (third, WHSEC))
    both = f"{old['webhook-signature']} {new['webhook-signature']}"
    assert holds(signature, {**new, "webhook-signature": both}, b"{}")


@pytest.mark.parametrize("scheme", ["stripe", "standard_webhooks", "github"])
@given(data=st.data())
def test_no_made_up_header_holds_or_breaks_the_check(scheme: Any, data: Any) -> None:
    value = st.one_of(
        st.text(max_size=60), st.sampled_from(["v1,", f"t={NOW},v1=", "sha256=", "é"])
    )
    names = ["id", "timestamp", "signature"]
    headers = {f"webhook-{name}": data.draw(value) for name in names}
    headers |= {"stripe-signature": data.draw(value)}
    headers |= {"x-hub-signature-256": data.draw(value)}
    headers["webhook-timestamp"] = data.draw(st.one_of(value, st.just(str(NOW))))
    assert not holds(Signature(scheme, (bytes(32),)), headers, b"{}")
    assert not holds(Signature(scheme), headers, b"{}")


def test_headers_beyond_ascii_do_not_hold() -> None:
    for scheme, name, value in [
        ("github", "x-hub-signature-256", "sha256=é"),
        ("stripe", "stripe-signature", f"t={NOW},v1=é"),
        ("standard_webhooks", "webhook-signature", "v1,é"),
        ("standard_webhooks", "webhook-id", "\ud800"),
    ]:
        headers = {"webhook-id": "m", "webhook-timestamp": str(NOW), name: value}
        assert not holds(Signature(scheme, (bytes(32),)), headers, b"{}")  # type: ignore[arg-type]


def test_secrets_that_could_be_guessed_are_refused_without_being_shown() -> None:
    for scheme, text in [
        ("github", "It's a Secret to Everybody"),
        ("stripe", f"{TEXT},short"),
        ("standard_webhooks", "whsec_c2hvcnQ="),
        ("standard_webhooks", TEXT),
        ("standard_webhooks", WHSEC.removeprefix("whsec_")),
    ]:
        with pytest.raises(ValueError, match="a secret") as found:
            read_secrets(scheme, text)  # type: ignore[arg-type]
        assert "Secret to" not in str(found.value) and "short" not in str(found.value)


def test_nothing_of_a_body_is_read_before_its_signature_holds(tmp_path: Path) -> None:
    signed = "signature: {scheme: github, secret_env: SHOP}"
    shop = load(tmp_path, {"SHOP": TEXT}, shop=signed)
    mac = hmac.new(TEXT.encode(), b"{", hashlib.sha256).hexdigest()
    with pytest.raises(BadSignature):
        shop.receive("shop", {}, b"{", NOW)
    with pytest.raises(Undecodable, match="not_json"):
        shop.receive("shop", {"x-hub-signature-256": f"sha256={mac}"}, b"{", NOW)


def test_a_source_without_a_file_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(UnknownWebhook):
        InboundWebhooks.load(tmp_path, {}).receive("shop", {}, b"{}", NOW)


# Mappings


def test_the_first_mapping_that_matches_makes_the_event(tmp_path: Path) -> None:
    text = """\
message_id: $.id
user_id: $.user
mappings:
  - {match: {$.type: [paid, settled], $.test: null}, event: Order Paid}
  - {match: {$.type: paid}, event: Test Order Paid, user_id: "test:{$.user}"}
"""
    order = {"id": 1, "type": "paid", "user": "u"}
    assert one(tmp_path, text, order) == {
        "type": "track",
        "event": "Order Paid",
        "messageId": 1,
        "userId": "u",
        "properties": order,
    }
    tested = one(tmp_path, text, {**order, "test": True})
    assert (tested["event"], tested["userId"]) == ("Test Order Paid", "test:u")
    assert one(tmp_path, text, {**order, "type": "settled"})["event"] == "Order Paid"


def test_what_no_mapping_matches_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    text = """\
type: identify
user_id: $.user
traits: {email: $.email}
mappings:
  - match: {$.type: known}
"""
    payload = {"type": "new", "user": "u", "email": "a@example.com"}
    call = one(tmp_path, text, payload)
    assert call["type"] == "track" and call["event"] == "shop_webhook_received"
    assert call["properties"] == payload and call["userId"] == "u"
    assert "traits" not in call
    assert calls(tmp_path, f"unmatched: ignore\n{text}", payload) == []
    assert one(tmp_path, text, {**payload, "type": "known"}) == {
        "type": "identify",
        "messageId": None,
        "userId": "u",
        "traits": {"email": "a@example.com"},
    }


def test_ignored_payloads_make_nothing(tmp_path: Path) -> None:
    text = """\
ignore:
  - {$.live: false}
  - {$.a: 1, $header.x-kind: [ping, test]}
"""
    assert calls(tmp_path, text, {"live": False}) == []
    assert calls(tmp_path, text, {"a": 1}, x_kind="ping") == []
    assert len(calls(tmp_path, text, {"a": 1}, x_kind="order")) == 1
    assert len(calls(tmp_path, text, {"a": True}, x_kind="ping")) == 1  # is not 1
    assert len(calls(tmp_path, text, {"live": 0})) == 1  # is not false


def test_each_member_becomes_an_event_of_its_own(tmp_path: Path) -> None:
    text = """\
each: $.data.items
message_id: $header.x-delivery
event: "{$.kind}_{$item.kind}"
user_id: $.user
"""
    payload = {"kind": "order", "user": "u", "data": {"items": [{"kind": "a"}, 7]}}
    first, second = calls(tmp_path, text, payload, x_delivery="d")
    assert first["event"] == "order_a" and first["properties"] == {"kind": "a"}
    assert second["properties"] == 7 and "event" not in second
    assert [first["messageId"], second["messageId"]] == ["d:0", "d:1"]
    events, _ = rows([first])
    assert events[0]["message_id"] == "d:0"

    own = text.replace("$header.x-delivery", '"{$header.x-delivery}/{$item.kind}"')
    assert calls(tmp_path, own, payload, x_delivery="d")[0]["messageId"] == "d/a"

    payload["data"] = {"items": []}
    assert calls(tmp_path, text, payload) == []
    payload["data"] = {"items": None}  # no list: the payload is the event
    call = one(tmp_path, text, payload, x_delivery="d")
    assert (call["messageId"], call["properties"]) == ("d", payload)


def test_a_payload_of_too_many_events_is_refused_whole(tmp_path: Path) -> None:
    assert len(calls(tmp_path, "each: $", [0] * MAX_MEMBERS)) == MAX_MEMBERS
    with pytest.raises(Undecodable, match="too_many_members"):
        calls(tmp_path, "each: $", [0] * (MAX_MEMBERS + 1))


def test_values_are_taken_as_they_are_and_left_out_where_missing(
    tmp_path: Path,
) -> None:
    text = """\
event: bought
user_id: $.user
anonymous_id: "{$.device}-{$.user}"
timestamp: $.at
properties:
  null_stays: $.nothing
  left_out: $.nowhere
  last: $.list[-1]['a b.c']
  beyond: $.list[5]
  into_text: $.user.name
  letter: $.user[0]
  text: "{$.count} of {$.flag}"
  fixed: {value: [1, {value: 2}]}
  nested: {deep: {number: $.count}, gone: {a: $.nowhere}}
traits: {a: $.nowhere}
context: {}
"""
    payload = {
        "user": "u",
        "at": 1_776_165_218.25,
        "nothing": None,
        "list": [1, {"a b.c": [True]}],
        "count": 2,
        "flag": False,
    }
    assert one(tmp_path, text, payload) == {
        "type": "track",
        "event": "bought",
        "messageId": None,
        "userId": "u",
        "timestamp": 1_776_165_218.25,
        "properties": {
            "null_stays": None,
            "last": [True],
            "text": "2 of false",
            "fixed": [1, {"value": 2}],
            "nested": {"deep": {"number": 2}},
        },
        "context": {},
    }


# PyYAML reads the two escapes of a larger character as two characters.
NAMES = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner),
    max_leaves=10,
)


def places(value: Any, path: str = "$") -> list[tuple[str, Any]]:
    found = [(path, value)]
    if isinstance(value, dict):
        for name, inner in value.items():
            if "'" not in name:
                found += places(inner, f"{path}['{name}']")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found += places(inner, f"{path}[{index}]")
            found += places(inner, f"{path}[{index - len(value)}]")
    return found


@settings(max_examples=50)
@given(payload=JSON)
def test_every_place_of_a_payload_has_a_path(payload: Any) -> None:
    found = dict(places(payload))
    properties = {f"p{n}": path for n, path in enumerate(found)}
    with TemporaryDirectory() as folder:
        call = one(Path(folder), f"properties: {json.dumps(properties)}", payload)
    assert list(call["properties"].values()) == list(found.values())


def test_headers_are_found_whatever_case_the_file_has(tmp_path: Path) -> None:
    text = "message_id: $header.X-Delivery\nuser_id: $header.x-user"
    call = one(tmp_path, text, {}, x_delivery="d")
    assert call["messageId"] == "d" and "userId" not in call


def test_a_senders_type_cannot_pass_for_a_system_event(tmp_path: Path) -> None:
    text = "event: $.type\nuser_id: $.user\nproperties: $.data"
    payload = {"type": "$identify", "user": "u", "data": {"$user_id": "admin"}}
    (event,), _ = rows(calls(tmp_path, text, payload))
    assert (event["type"], event["user_id"]) == ("track", "u")


def test_an_event_without_a_person_is_rejected_and_not_lost(tmp_path: Path) -> None:
    _, dispositions = rows(calls(tmp_path, "", {"a": 1}))
    assert dispositions == ["missing_identity"]


# Faults


def test_all_faults_of_all_files_are_told_together_with_their_lines(
    tmp_path: Path,
) -> None:
    text = """\
signature: {scheme: stripe, secret_env: SHOP_SECRET, tolerance_s: 0}
each: data.items
unmatched: drop
evnt: paid
message_id: fixed
mappings:
  - match: {type: paid}
    event: "{type}"
    type: buy
    user_id: $.
    properties:
      amount: data.amount
      inner: {currency: EUR}
    name: "a}b"
    colour: red
  - [a, list]
ignore: {$.a: 1}
"""
    with pytest.raises(ConfigError) as found:
        load(tmp_path, {}, shop=text, **{"2nd": OPEN, "third": "a: [", "shop.yaml": ""})
    lines = str(found.value).splitlines()
    assert sum("2nd.yml: must be named" in line for line in lines) == 1
    assert sum("shop.yaml: must be named" in line for line in lines) == 1
    assert sum("third.yml, line 1: not readable" in line for line in lines) == 1
    faults = [line.split("shop.yml, ")[1] for line in lines if "shop.yml" in line]
    assert sorted(fault.split(": ")[0] for fault in faults) == sorted(
        f"line {n}" for n in (1, 1, 2, 3, 4, 5, 7, 8, 9, 10, 12, 13, 14, 15, 16, 17)
    )
    assert any("variable SHOP_SECRET is not set" in fault for fault in faults)
    assert all(fault.endswith(".") for fault in faults)


@pytest.mark.parametrize(
    ("signature", "said"),
    [
        ("{}", "needs the key `signature`"),
        ("signature: {}", "needs the key `scheme`"),
        ("signature: {scheme: md5}", "must be one of: standard_webhooks, stripe"),
        ("signature: {scheme: none, secret_env: A}", "`signature.secret_env` is not"),
        ("signature: {scheme: github}", "needs the key `secret_env`"),
        (
            "signature: {scheme: github, secret_env: A, tolerance_s: 5}",
            "`signature.tolerance_s` is not a key here",
        ),
        (
            "signature: {scheme: stripe, secret_env: s3cr3t}",
            "the name of an environment variable",
        ),
        ("signature: {scheme: stripe, secret_env: SHORT}", "SHORT: a secret must have"),
    ],
)
def test_an_unclear_signature_stops_the_start(
    signature: str, said: str, tmp_path: Path
) -> None:
    faults = fault(tmp_path, signature, {"A": TEXT, "SHORT": "s3cr3t"})
    assert len(faults) == 1 and said in faults[0]
    assert faults[0].startswith(", line 1: ") and "s3cr3t" not in faults[0]


def test_an_example_that_does_not_hold_is_a_fault_at_its_line(tmp_path: Path) -> None:
    text = f"""\
{OPEN}event: paid
properties: {{amount: $.amount, currency: $.currency}}
examples:
  - body: {{amount: 1, currency: EUR}}
    events:
      - properties: {{amount: 2, currency: EUR}}
        event: payed
        colour: red
  - body: {{}}
    events: []
    colour: red
  - events: []
"""
    assert fault(tmp_path, text) == [
        ", line 8: `examples.0.events.0.event` differs from the result.",
        ", line 7: `examples.0.events.0.properties` differs from the result: see"
        " `amount`.",
        ", line 9: `examples.0.events.0.colour` is not a key here; allowed are: "
        "type, event, name, group_type, message_id, user_id, anonymous_id,"
        " previous_id, group_id, timestamp, properties, traits, context.",
        ", line 10: `examples.1` lists 0 events, but gets 1.",
        ", line 12: `examples.1.colour` is not a key here; allowed are: "
        "body, headers, events.",
        ", line 13: `examples.2` needs the keys `body` and `events`.",
        ", line 13: `examples.2` lists 0 events, but gets 1.",
    ]


def test_times_in_a_file_are_the_text_that_stands_there(tmp_path: Path) -> None:
    text = "ignore: [{$.on: 2026-05-01}]\nproperties: {a: {value: 2026-05-02}}"
    assert calls(tmp_path, text, {"on": "2026-05-01"}) == []
    assert one(tmp_path, text, {})["properties"] == {"a": "2026-05-02"}


def test_receiving_needs_none_of_the_heavy_libraries() -> None:
    heavy = {"dagster", "dbt", "duckdb", "httpx", "pandas", "pydantic", "sqlmesh"}
    modules = "sources.forms, connectors.sources.inbound_webhooks"
    code = f"import sys, connectors.events.fingerprint, connectors.{modules}"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; print(*sys.modules)"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert heavy.isdisjoint(done.stdout.split())
