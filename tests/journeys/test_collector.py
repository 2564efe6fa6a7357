"""The collector as its operator uses it: rules, dispositions, quarantine, live events.

Requests of real SDKs are in `test_collector_fixtures`, faults in
`test_collector_faults`.
"""

import base64
import gzip
import hashlib
import hmac
import json
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from connectors.events.policy import Policy
from connectors.home import Home
from connectors.landing.manifest import Manifest
from tests.support import PROJECT
from tests.support.collecting import (
    COMMAND,
    Collecting,
    collecting,
    landed,
    make_key,
    wait_until,
)

CONTRACT = """
event: plan_changed
version: 2
consent: [analytics]
on_violation: quarantine
schema:
  type: object
  required: [plan_type]
  properties:
    plan_type: {type: string, enum: [free, growth, scale]}
"""

RENAME = """
match: {event: plan_changed}
phase: before_contract
do:
  - rename: {properties.plan: properties.plan_type}
  - hash: [properties.card_last4]
"""

KEY = {"Authorization": "Bearer WK_TEST_1"}
AGREED = {"consent": {"categoryPreferences": {"analytics": True}}}
REFUSED = {"consent": {"categoryPreferences": {"analytics": False}}}


@dataclass(frozen=True)
class Site:
    """A project with its own rules, and a home."""

    project: Path
    home: Home

    def write(self, file: str, text: str) -> None:
        path = self.project / "connectors" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def env(self, **more: str) -> dict[str, str]:
        return {
            "LOOMLINE_HOME": str(self.home.path),
            "LOOMLINE_PROJECT": str(self.project),
            **more,
        }

    def loomline(self, *arguments: str) -> Any:
        done = subprocess.run(
            [*COMMAND, *arguments, "--json"],
            env=self.env(PATH="/usr/bin:/bin"),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @contextmanager
    def collecting(self, *arguments: str, **env: str) -> Iterator[Collecting]:
        with collecting(
            self.home, *arguments, project=self.project, env=self.env(**env)
        ) as collector:
            yield collector


@pytest.fixture
def site(tmp_path: Path) -> Site:
    project = tmp_path / "project"
    project.mkdir()
    shutil.copy(PROJECT / "dbt_project.yml", project)
    shutil.copytree(PROJECT / "seeds", project / "seeds")
    site = Site(project, Home(tmp_path / "home"))
    make_key(site.home)
    return site


def plan_changed(id: str, properties: Any, context: Any = AGREED) -> dict[str, Any]:
    return {
        "type": "track",
        "event": "Plan Changed",
        "userId": "u1",
        "messageId": id,
        "properties": properties,
        "context": context,
    }


def receipts(answer: httpx.Response) -> list[tuple[str, str, str | None]]:
    assert answer.status_code == 200, answer.text
    return [tuple(event.values()) for event in answer.json()["events"]]


def balance(home: Home) -> Counter[str]:
    """Return counts of dispositions; assert that they match the received items."""
    dispositions = landed(home, "dispositions")
    received = sum(row["items"] for row in landed(home, "received_counts"))
    assert received == len(dispositions)
    assert len(landed(home, "events")) == sum(
        row["disposition"] == "admitted" for row in dispositions
    )
    return Counter(row["disposition"] for row in dispositions)


def test_rules_decide_what_becomes_of_each_event(site: Site) -> None:
    site.write("events/contracts/plan_changed.yml", CONTRACT)
    site.write("events/transformations/010_rename.yml", RENAME)
    batch = [
        plan_changed("good", {"plan": "growth", "card_last4": "4242"}),
        plan_changed("bad", {"plan": "gold"}),
        plan_changed("no", {"plan": "free"}, REFUSED),
        {"type": "page", "anonymousId": "a1", "messageId": "page"},
    ]
    with site.collecting() as collector:
        answer = collector.post("/v1/batch?receipts=1", {"batch": batch}, headers=KEY)
        plain = collector.post("/v1/batch", {"batch": []}, headers=KEY)
    assert receipts(answer) == [
        ("good", "admitted", None),
        ("bad", "quarantined", "contract plan_changed v2: plan_type: enum"),
        ("no", "consent_filtered", "consent: analytics"),
        ("page", "admitted", None),
    ]
    assert plain.json() == {"success": True}
    assert balance(site.home) == {
        "admitted": 2,
        "quarantined": 1,
        "consent_filtered": 1,
    }
    (event,) = (e for e in landed(site.home, "events") if e["message_id"] == "good")
    assert json.loads(event["properties"]) == {
        "plan_type": "growth",
        "card_last4": hashlib.sha256(b"4242").hexdigest(),
    }
    assert event["contract_version"] == 2
    kept = {row["message_id"]: row for row in landed(site.home, "dispositions")}
    assert json.loads(kept["bad"]["payload"]) == batch[1]
    assert kept["no"]["payload"] is None
    stated = {row["message_id"]: row for row in landed(site.home, "consent")}
    assert json.loads(stated["no"]["categories"]) == {"analytics": False}
    assert stated["no"]["identifiers"][0]["value"] == "u1"


def test_a_filtered_payload_is_nowhere_on_disk(site: Site) -> None:
    site.write("events/contracts/plan_changed.yml", CONTRACT)
    secret = plan_changed("no", {"plan_type": "kept-from-you"}, REFUSED)
    with site.collecting() as collector:
        collector.post("/v1/batch", {"batch": [secret]}, headers=KEY)
        files = [path for path in site.home.path.rglob("*") if path.is_file()]
        assert any(b'"no"' in path.read_bytes() for path in files)
        assert not any(b"kept-from-you" in path.read_bytes() for path in files)


def test_a_write_key_is_nowhere_on_disk(site: Site) -> None:
    text = make_key(site.home, "lone-key-0123456789abcdef", name="ios")
    call = {"type": "track", "event": "e", "userId": "u", "writeKey": text}
    capture = {"event": "e", "distinct_id": "d", "properties": {"token": text}}
    with site.collecting() as collector:
        for path, body in (
            ("/v1/batch", {"batch": [call], "writeKey": text}),
            ("/v1/t", call),
            ("/e/", {"api_key": text, "batch": [capture]}),
        ):
            assert collector.post(path, body).status_code == 200
        files = [path for path in site.home.path.rglob("*") if path.is_file()]
        assert not any(text.encode() in path.read_bytes() for path in files)
    assert balance(site.home) == {"admitted": 3}


def test_what_was_quarantined_is_replayed_by_the_rules_of_now(site: Site) -> None:
    site.write("events/contracts/plan_changed.yml", CONTRACT)
    wrong = plan_changed("bad", {"plan_type": "gold"})
    wrong |= {"timestamp": "2026-01-02T03:04:05Z", "sentAt": "2026-01-02T03:04:05Z"}
    with site.collecting() as collector:
        collector.post("/v1/batch", {"batch": [wrong, 5]}, headers=KEY)
    site.loomline("land")
    listed = site.loomline("quarantine", "list")
    assert listed["count"] == 2
    ids = {row["reason"].split(":")[0]: row["id"] for row in listed["events"]}
    (first,) = landed(site.home, "dispositions")[:1]
    shown = site.loomline("quarantine", "show", ids["contract plan_changed v2"])
    assert json.loads(shown["payload"]) == wrong
    again = site.loomline("quarantine", "replay", "--all")
    assert again == {"replayed": 2, "dispositions": {"quarantined": 1, "rejected": 1}}
    site.write("events/contracts/plan_changed.yml", CONTRACT.replace("free", "gold"))
    assert site.loomline("quarantine", "replay", "--event", "plan_changed") == {
        "replayed": 1,
        "dispositions": {"admitted": 1},
    }
    assert site.loomline("quarantine", "list")["count"] == 1
    (event,) = landed(site.home, "events")
    assert (event["message_id"], event["channel"]) == ("bad", "replay")
    # The client's clock is corrected by its first arrival.
    assert event["timestamp"] == first["received_at"]
    replays = [row for row in landed(site.home, "dispositions") if row["replay_of"]]
    assert [row["replay_of"] for row in replays].count("bad") == 2
    assert balance(site.home).total() == 5


def test_two_refused_events_that_are_alike_are_both_replayed(site: Site) -> None:
    with site.collecting() as collector:
        collector.post("/v1/batch", {"batch": [{"event": "e"}] * 2}, headers=KEY)
    site.loomline("land")
    assert site.loomline("quarantine", "list")["count"] == 2
    assert site.loomline("quarantine", "replay", "--all")["replayed"] == 2
    assert site.loomline("quarantine", "list")["count"] == 2


def test_a_key_may_only_do_what_it_is_for(site: Site) -> None:
    policy = Policy(types=frozenset(("track",)), events=frozenset(("order_completed",)))
    make_key(site.home, "K" * 30, name="shop", policy=policy, paths=["segment"])
    make_key(site.home, "A" * 30, name="debug", kind="admin")
    shop = {"X-Write-Key": "K" * 30}
    call = {"userId": "u", "messageId": "m", "type": "track"}
    with site.collecting() as collector:
        answer = collector.post(
            "/v1/batch?receipts=1",
            {
                "batch": [
                    {**call, "event": "Order Completed"},
                    {**call, "event": "Other"},
                    {**call, "type": "page"},
                ]
            },
            headers=shop,
        )
        other = collector.post("/batch", {"batch": [call]}, headers=shop)
        admin = collector.post("/v1/t", call, headers={"X-Write-Key": "A" * 30})
        watched = httpx.get(f"{collector.admin_url}/debug/stream", headers=shop)
    assert [status for _, status, _ in receipts(answer)] == [
        "admitted",
        "rejected",
        "rejected",
    ]
    assert (other.status_code, other.json()["code"]) == (403, "path_not_allowed")
    assert (admin.status_code, admin.json()["code"]) == (403, "key_not_for_events")
    assert watched.status_code == 403
    assert balance(site.home).total() == 3


def test_a_visitor_without_an_id_gets_a_fingerprint_when_agreed(site: Site) -> None:
    make_key(site.home, "F" * 30, name="blog", policy=Policy(fingerprint="analytics"))
    view = {"type": "track", "event": "seen", "context": AGREED}
    head = {"X-Write-Key": "F" * 30, "User-Agent": "TestBrowser/1"}
    with site.collecting() as collector:
        for body in ({**view, "n": 1}, {**view, "n": 2}):
            assert collector.post("/v1/t", body, headers=head).status_code == 200
        collector.post("/v1/t", {**view, "context": REFUSED}, headers=head)
        files = [path for path in site.home.path.rglob("*") if path.is_file()]
        assert not any(b"TestBrowser" in path.read_bytes() for path in files)
    assert balance(site.home) == {"admitted": 2, "rejected": 1}
    found = {
        (i["type"], i["value"])
        for event in landed(site.home, "events")
        for i in event["identifiers"]
    }
    ((identifier_type, value),) = found
    assert identifier_type == "fingerprint" and len(value) == 32


def test_what_was_quarantined_is_replayed_with_the_fingerprint_it_had(
    site: Site,
) -> None:
    site.write("events/contracts/plan_changed.yml", CONTRACT)
    site.write("events/transformations/enrich.py", "def add(event):\n    1 / 0\n")
    site.write(
        "events/transformations/010_enrich.yml",
        "match: {type: identify}\ndo: [call: {module: enrich, function: add}]\n",
    )
    make_key(site.home, "F" * 30, name="blog", policy=Policy(fingerprint="analytics"))
    head = {"X-Write-Key": "F" * 30, "User-Agent": "TestBrowser/1"}
    view = plan_changed("view", {"plan_type": "gold"})
    del view["userId"]
    identify = {"type": "identify", "userId": "u1", "messageId": "is-u1"}
    with site.collecting() as collector:
        for call in (view, identify):
            collector.post("/v1/batch", {"batch": [call]}, headers=head)
    site.loomline("land")
    assert balance(site.home) == {"quarantined": 2}
    site.write("events/contracts/plan_changed.yml", CONTRACT.replace("free", "gold"))
    site.write(
        "events/transformations/enrich.py", "def add(event):\n    return event\n"
    )
    assert site.loomline("quarantine", "replay", "--all")["dispositions"] == {
        "admitted": 2
    }
    carried = {
        event["message_id"]: {i["type"]: i["value"] for i in event["identifiers"]}
        for event in landed(site.home, "events")
    }
    (fingerprint,) = carried["view"].values()
    assert carried == {
        "view": {"fingerprint": fingerprint},
        "is-u1": {"user_id": "u1", "fingerprint": fingerprint},
    }


def test_a_webhook_shows_the_address_of_another_system_and_no_fingerprint(
    site: Site,
) -> None:
    site.write(
        "sources/webhooks/blog.yml",
        "signature: {scheme: none}\ntype: identify\nuser_id: $.customer\n",
    )
    site.write(
        "sources/forms/join.yml",
        "type: identify\nwrite_source: blog\nfields: {email: traits.email}\n",
    )
    make_key(site.home, "F" * 30, name="blog", policy=Policy(fingerprint="analytics"))
    with site.collecting() as collector:
        collector.post("/v1/webhooks/blog", {"customer": "u1"})
        collector.post("/v1/webhooks/blog", {})
        form = {"email": "ana@shop.example"}
        httpx.post(f"{collector.url}/v1/forms/join", data=form)
    assert balance(site.home) == {"admitted": 2, "rejected": 1}
    assert sorted(
        (event["channel"], identifier["type"])
        for event in landed(site.home, "events")
        for identifier in event["identifiers"]
    ) == [("form", "email"), ("form", "fingerprint"), ("webhook", "user_id")]


def test_a_global_privacy_signal_is_a_statement(site: Site) -> None:
    with site.collecting() as collector:
        call = {"type": "track", "event": "e", "userId": "u", "messageId": "m"}
        collector.post("/v1/t", call, headers={**KEY, "Sec-GPC": "1"})
        collector.post("/v1/t", call, headers={**KEY, "Sec-GPC": "0"})
    (stated,) = landed(site.home, "consent")
    assert json.loads(stated["categories"]) == {"advertising": False}


def test_webhooks_and_forms_become_events(site: Site) -> None:
    site.write(
        "sources/webhooks/billing.yml",
        """
signature: {scheme: github, secret_env: BILLING_SECRET}
event: $.type
message_id: $.id
user_id: $.customer
properties: $.data
ignore: [{$.type: ping}]
""",
    )
    site.write(
        "sources/forms/contact.yml",
        """
event: contact_requested
write_source: website
fields: {email: traits.email, message: properties.message}
redirect: {allow: ["https://shop.example/thanks"]}
""",
    )
    secret = "0123456789abcdef0123456789abcdef"
    body = json.dumps(
        {"id": "e1", "type": "invoice.paid", "customer": "u1", "data": {"total": 5}}
    ).encode()

    def signed(content: bytes) -> dict[str, str]:
        digest = hmac.new(secret.encode(), content, "sha256").hexdigest()
        return {"X-Hub-Signature-256": f"sha256={digest}"}

    with site.collecting(BILLING_SECRET=secret) as collector:
        hook = f"{collector.url}/v1/webhooks/billing"
        good = httpx.post(hook, content=body, headers=signed(body))
        again = httpx.post(hook, content=body, headers=signed(body))
        ping = b'{"type": "ping"}'
        ignored = httpx.post(hook, content=ping, headers=signed(ping))
        forged = httpx.post(hook, content=body + b" ", headers=signed(body))
        unknown = httpx.post(f"{collector.url}/v1/webhooks/other", content=body)
        form = httpx.post(
            f"{collector.url}/v1/forms/contact",
            data={
                "email": "ana@shop.example",
                "message": "hi",
                "_redirect": "https://shop.example/thanks",
            },
        )
        hostile = httpx.post(
            f"{collector.url}/v1/forms/contact",
            data={"email": "b@shop.example", "_redirect": "https://evil.example/"},
        )
    assert [r.status_code for r in (good, again, ignored)] == [200] * 3
    assert (forged.status_code, unknown.status_code) == (401, 404)
    assert (form.status_code, form.headers["location"]) == (
        303,
        "https://shop.example/thanks",
    )
    assert (hostile.status_code, "location" in hostile.headers) == (200, False)
    assert balance(site.home) == {"admitted": 4, "dropped": 1}
    events = landed(site.home, "events")
    assert Counter(event["channel"] for event in events) == {"webhook": 2, "form": 2}
    assert {e["message_id"] for e in events if e["channel"] == "webhook"} == {"e1"}


def test_events_can_be_watched_as_they_are_judged(site: Site) -> None:
    site.write("events/contracts/plan_changed.yml", CONTRACT)
    site.write("events/transformations/010_rename.yml", RENAME)
    make_key(site.home, "A" * 30, name="debug", kind="admin")
    options = ("--json", "--count", "2", "--event", "plan_changed")
    with site.collecting("--workers", "2") as collector:
        tail = subprocess.Popen(
            [*COMMAND, "tail", *options],
            env=site.env(LOOMLINE_ADMIN_KEY="A" * 30, PATH="/usr/bin:/bin"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert tail.stderr is not None and tail.stdout is not None
        assert tail.stderr.readline().startswith("Watching")
        time.sleep(1)  # the other worker checks for watchers twice a second
        bodies = [plan_changed("good", {"plan": "free"}), plan_changed("bad", {})]
        for body in (*bodies, {"type": "page", "userId": "u"}):
            collector.post("/v1/batch", {"batch": [body]}, headers=KEY)
        out, said = tail.communicate(timeout=20)
    good, bad = sorted(map(json.loads, out.splitlines()), key=lambda e: -len(e["id"]))
    assert (good["id"], good["disposition"], good["transformations"]) == (
        "good",
        "admitted",
        ["010_rename"],
    )
    assert good["payload"]["properties"] == {"plan_type": "free"}
    assert (bad["disposition"], bad["source"]) == ("quarantined", "web")
    assert "plan_type" in bad["reason"]
    assert "1 admitted" in said and "1 quarantined" in said


def test_watching_needs_an_admin_key(site: Site) -> None:
    with site.collecting() as collector:
        for headers, status in ((KEY, 403), ({}, 401)):
            url = f"{collector.admin_url}/debug/stream"
            assert httpx.get(url, headers=headers).status_code == status


def test_landing_that_stays_shows_events_at_once(site: Site) -> None:
    lander = subprocess.Popen(
        [*COMMAND, "land", "--watch"], env=site.env(PATH="/usr/bin:/bin")
    )
    try:
        with site.collecting() as collector:
            for n in range(3):
                call = {"event": "e", "userId": "u", "messageId": f"m{n}"}
                collector.post("/v1/track", call, headers=KEY)

                def is_there(n: int = n) -> bool:
                    files = Manifest(site.home).files()
                    return sum(f.rows for f in files if f.stream == "events") == n + 1

                wait_until(is_there)
            collector.post("/v1/track", {"event": "last", "userId": "u"}, headers=KEY)
    finally:
        lander.send_signal(signal.SIGTERM)
        assert lander.wait(20) == 0
    assert balance(site.home) == {"admitted": 4}


def test_a_run_lands_what_is_still_being_written(site: Site) -> None:
    with site.collecting("--workers", "2") as collector:
        for n in range(6):
            call = {"event": "e", "userId": "u", "messageId": f"m{n}"}
            collector.post("/v1/track", call, headers=KEY)
        assert site.loomline("land")["dispositions"] == {"admitted": 6}
        assert site.loomline("land")["received"] == 0


def test_faults_of_all_files_stop_the_start_together(site: Site) -> None:
    site.write("events/contracts/plan_changed.yml", "event: 5\nschema: {type: nothing}")
    site.write("sources/webhooks/crm.yml", "signature: {scheme: standard_webhooks}")
    done = subprocess.run(
        [*COMMAND, "collect", "--port", "0"],
        env=site.env(PATH="/usr/bin:/bin"),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2
    assert "plan_changed.yml, line" in done.stderr
    assert "crm.yml, line" in done.stderr


def test_counters_are_of_all_workers(site: Site) -> None:
    with site.collecting("--workers", "2") as collector:
        for n in range(20):
            call = {"event": "e", "userId": "u", "messageId": f"m{n}"}
            token = base64.b64encode(b"WK_TEST_1:").decode()
            head = {"Authorization": f"Basic {token}"}
            collector.post("/api/v1/events", call, headers=head)
        collector.post("/v1/t", {}, headers={"Authorization": "Bearer wrong"})

        def is_counted() -> bool:
            text = httpx.get(f"{collector.admin_url}/metrics").text
            line = 'loomline_events_total{source="web",disposition="admitted"} 20'
            return line in text and "loomline_unauthorized_total 1" in text

        wait_until(is_counted)


def test_an_offer_of_http_2_is_passed_over(site: Site) -> None:
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c"}
    headers = {**KEY, **offer, "HTTP2-Settings": "AAEAAEAAAAIAAAABAAMAAABk"}
    with site.collecting() as collector, httpx.Client() as client:
        for n in range(3):  # the second and third on the same connection
            call = {"event": "h2c", "userId": "u", "messageId": f"m{n}"}
            answer = client.post(
                f"{collector.url}/v1/track", json=call, headers=headers
            )
            assert answer.json() == {"success": True}
    assert balance(site.home) == {"admitted": 3}


def worker_mb(collector: Collecting) -> float:
    """Return the peak memory of a worker."""
    texts = [Path(f"/proc/{p}/status").read_text() for p in collector.workers()]
    return max(int(t.split("VmHWM:")[1].split()[0]) for t in texts) / 1024


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"batch": [{}] * 2000, "sentAt": "A" * 150_000}, None),
        ({"batch": [{}] * 2000, "context": {"a": "A" * 150_000}}, "body_too_large"),
        ({"batch": [0] * 100_000}, "too_many_items"),
        ({"batch": [{}] * 2_000_000}, "too_many_items"),
    ],
)
def test_a_small_body_cannot_become_a_large_one(
    site: Site, body: Any, code: str | None
) -> None:
    sent = gzip.compress(json.dumps(body).encode())
    assert len(sent) < 20_000
    with site.collecting() as collector:
        answer = collector.post("/v1/batch", sent, headers=KEY)
        assert answer.json().get("code") == code
        assert worker_mb(collector) < 250
    folder = site.home.inbox / "_collector"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2 << 20


def test_strangers_cannot_fill_the_memory_or_stop_the_others(site: Site) -> None:
    sent = gzip.compress(b"[" + b"{}," * 3_300_000 + b"{}]")
    with site.collecting() as collector, ThreadPoolExecutor(6) as strangers:
        asked = [strangers.submit(collector.post, "/e/", sent) for _ in range(6)]
        slowest_s = 0.0
        while not all(one.done() for one in asked):
            began_at = time.monotonic()
            assert httpx.get(f"{collector.url}/healthz", timeout=20).is_success
            slowest_s = max(slowest_s, time.monotonic() - began_at)
        assert {one.result().status_code for one in asked} <= {401, 503}
        assert slowest_s < 2
        assert worker_mb(collector) < 250


@pytest.mark.parametrize(
    "body",
    [
        b'{"writeKey": "%b", "batch": [',
        b'{"event": "e", "userId": "u", "write_key": "%b"}',
        b'{"event": "e", "userId": "u", "properties": {"api_key": "%b"}}',
        b'{"event": "e", "userId": "u", "properties": {"writeKey": "%b"}}',
    ],
)
def test_a_key_is_taken_out_wherever_it_stands(site: Site, body: bytes) -> None:
    text = make_key(site.home, "lone-key-0123456789abcdef", name="ios")
    with site.collecting() as collector:
        collector.post("/v1/t", body % text.encode(), headers={"X-Write-Key": text})
        collector.post("/v1/t", body % text.encode(), headers=KEY)  # of another source
        collector.stop()
    if b"batch" in body:  # an unreadable body is searched for the sender's own key
        assert landed(site.home, "dispositions")[0]["payload"].count("***") == 1
        return
    files = [path for path in site.home.path.rglob("*") if path.is_file()]
    assert not any(text.encode() in path.read_bytes() for path in files)
    assert balance(site.home).total() == 2


def test_a_replay_keeps_scope_and_id_and_hides_no_other_event(site: Site) -> None:
    site.write("events/contracts/plan_changed.yml", CONTRACT)
    make_key(site.home, "S" * 30, name="app", scope="shop")
    head = {"X-Write-Key": "S" * 30}
    made = {"event": "plan_changed", "userId": "u", "properties": {"plan_type": 1}}
    alike = [
        made | {"messageId": "dup", "properties": {"plan_type": n}, "context": AGREED}
        for n in ("gold", "silver")
    ]
    with site.collecting() as collector:
        answer = collector.post(
            "/v1/batch?receipts=1", {"batch": [made, *alike]}, headers=head
        )
    told = receipts(answer)[0][0]
    site.loomline("land")
    rows = site.loomline("quarantine", "list")["events"]
    by_message: dict[str, list[str]] = {}
    for row in rows:
        by_message.setdefault(row["message_id"], []).append(row["id"])
    assert len(by_message["dup"]) == 2
    site.loomline("quarantine", "replay", by_message["dup"][0])
    left = [row["id"] for row in site.loomline("quarantine", "list")["events"]]
    assert by_message["dup"][1] in left and len(left) == 3
    wider = CONTRACT.replace("type: string, enum: [free, growth, scale]", "")
    site.write("events/contracts/plan_changed.yml", wider)
    site.loomline("quarantine", "replay", "--all")
    assert site.loomline("quarantine", "list")["count"] == 0
    events = landed(site.home, "events")
    assert {event["scope"] for event in events} == {"shop"}
    assert told in {event["message_id"] for event in events}
    assert balance(site.home).total() == 7


def test_forms_follow_the_policy_of_their_source(site: Site) -> None:
    site.write("sources/forms/contact.yml", "event: asked\nwrite_source: website\n")
    policy = Policy(unknown_events="quarantine")
    make_key(site.home, "W" * 30, name="website", scope="www", policy=policy)
    with site.collecting() as collector:
        url = f"{collector.url}/v1/forms/contact?receipts=1"
        answer = httpx.post(url, data={"email": "ana@shop.example"})
    assert [status for _, status, _ in receipts(answer)] == ["quarantined"]


def test_one_line_that_cannot_be_landed_does_not_stop_the_others(site: Site) -> None:
    group = {"type": "group", "userId": "u", "groupId": "g", "messageId": "m1"}
    with site.collecting() as collector:
        for call in (group, {**group, "messageId": "m2"}):
            collector.post("/v1/g", call, headers=KEY)
        collector.stop()
    (segment,) = (site.home.inbox / "_collector").glob("*.ndjson")
    segment.write_bytes(segment.read_bytes().replace(b"groupId", b"groupIe", 1))
    assert balance(site.home) == {"rejected": 1, "admitted": 1}
    reasons = {row["reason"] for row in landed(site.home, "dispositions")}
    assert reasons == {None, "segment_damaged"}


def test_what_came_too_fast_and_what_is_no_json_can_be_watched_too(site: Site) -> None:
    make_key(site.home, "A" * 30, name="debug", kind="admin")
    make_key(site.home, "L" * 30, name="slow", rate=0.01, burst=1)
    call = {"event": "e", "userId": "u"}
    with site.collecting() as collector:
        tail = subprocess.Popen(
            [*COMMAND, "tail", "--json", "--count", "4"],
            env=site.env(LOOMLINE_ADMIN_KEY="A" * 30, PATH="/usr/bin:/bin"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert tail.stderr is not None
        assert tail.stderr.readline().startswith("Watching")
        slow = {"X-Write-Key": "L" * 30}
        statuses = [
            collector.post("/v1/track", body, headers=slow).status_code
            for body in (call, call, call)  # a bucket that is not empty gives
        ]
        statuses.append(collector.post("/v1/track", b"{", headers=KEY).status_code)
        out, _ = tail.communicate(timeout=20)
    assert statuses == [200, 200, 429, 400]
    assert [json.loads(line)["disposition"] for line in out.splitlines()] == [
        "admitted",
        "admitted",
        "rate_limited",
        "rejected",
    ]
