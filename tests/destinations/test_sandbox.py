import base64
import hashlib
import re
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import standardwebhooks

from connectors.destinations.protocol import Change, Identifier
from connectors.destinations.webhook import Webhook
from orchestration.demo.sandbox.page import masked
from orchestration.demo.sandbox.server import Answer, Sandbox
from tests.support.deliveries import (
    RUN_AT,
    SECRET,
    Clock,
    addition,
    batch_of,
    email,
    removal,
)

Start = Callable[..., Sandbox]
Open = Callable[..., Webhook]

BODY = (
    '{"type":"audience.changed","audience":"a","destination":"d",'
    '"run_at":"2026-03-01T09:00:00Z","changes":[{"operation":"add",'
    '"profile_id":"p1","add":[{"type":"email","value":"p1@example.com"}],'
    '"remove":[]}]}'
)


def signed(body: str, age_s: int = 0, webhook_id: str = "m1") -> dict[str, str]:
    at = RUN_AT - timedelta(seconds=age_s)
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": standardwebhooks.Webhook(SECRET).sign(
            webhook_id, at, body
        ),
    }


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, 200),
        ({"webhook-signature": "v1,AAAA v1a,x,y v1"}, 401),
        ({"webhook-signature": "v1,\u00e9"}, 401),
        ({"webhook-signature": ""}, 401),
        ({"webhook-id": "m2"}, 401),
        ({"webhook-id": ""}, 401),
        ({"webhook-timestamp": "1"}, 401),
        ({"webhook-timestamp": "soon"}, 401),
        (signed(BODY, age_s=300), 200),
        (signed(BODY, age_s=301), 401),
        (signed(BODY, age_s=-301), 401),
        (signed(BODY + " "), 401),
    ],
)
def test_only_signed_and_recent_requests_count(
    sandbox: Start, change: dict[str, str], status: int
) -> None:
    box = sandbox(clock=Clock())
    headers = {
        name.encode(): value.encode()
        for name, value in {**signed(BODY), **change}.items()
    }
    answer = httpx.post(box.url, content=BODY, headers=headers)
    assert answer.status_code == status
    assert box.audiences() == ({"a": 1} if status == 200 else {})


def test_one_of_several_signatures_is_enough(sandbox: Start) -> None:
    box = sandbox(clock=Clock())
    headers = signed(BODY)
    headers["webhook-signature"] = "v1,b2xk " + headers["webhook-signature"]
    assert httpx.post(box.url, content=BODY, headers=headers).status_code == 200


@pytest.mark.parametrize("body", ["", "{}", "[", BODY.replace('"add"', '"put"', 1)])
def test_signed_nonsense_is_refused(sandbox: Start, body: str) -> None:
    box = sandbox(clock=Clock())
    answer = httpx.post(box.url, content=body, headers=signed(body))
    assert answer.status_code == 400
    assert box.deliveries()["count"] == 0


def test_a_body_without_length_is_refused(sandbox: Start) -> None:
    box = sandbox()
    assert httpx.post(box.url, content=iter([b"x"])).status_code == 411


def test_a_removal_takes_only_what_it_names(sandbox: Start, webhook: Open) -> None:
    box = sandbox()
    hook = webhook(box.url)
    old, new = email("old@example.com"), email("new@example.com")
    hook.push(batch_of(Change("add", "p1", (old,)), addition("p2")))
    hook.push(batch_of(Change("remove", "p1", (), (new,)), removal("p2")))
    assert box.members("buyers") == {"p1": {old}}


def test_a_restart_recovers_what_was_answered(tmp_path: Path, webhook: Open) -> None:
    with Sandbox(tmp_path, SECRET) as box:
        hook = webhook(box.url)
        hook.push(batch_of(addition("p1"), addition("p2")))
        hook.push(batch_of(removal("p2")))
    truth = tmp_path / "sandbox.ndjson"
    assert truth.stat().st_mode & 0o077 == 0
    with truth.open("ab") as file:
        file.write(b'{"webhook_id":"cut')
    for _ in range(2):
        with Sandbox(tmp_path, SECRET) as box:
            webhook(box.url).push(batch_of(removal("p2")))
            webhook(box.url).push(batch_of(addition("p3")))
            assert set(box.members("buyers")) == {"p1", "p3"}
            assert box.deliveries()["count"] == 3


def test_a_repetition_gets_the_first_answer(sandbox: Start, webhook: Open) -> None:
    box = sandbox([Answer(applied=True, refused=("p1",))])
    hook = webhook(box.url)
    batch = batch_of(addition("p1"), addition("p2"))
    first = hook.push(batch)
    assert (first.accepted, first.level) == (1, "row")
    assert hook.push(batch) == first
    assert set(box.members("buyers")) == {"p2"}


def test_what_it_holds_can_be_read(sandbox: Start, webhook: Open) -> None:
    box = sandbox()
    hook = webhook(box.url)
    hook.push(batch_of(addition("p1"), addition("p2")))
    hook.push(batch_of(removal("p1")))

    def get(path: str) -> Any:
        return httpx.get(box.url + path).json()

    assert get("/healthz")["status"] == "ok"
    assert get("/audiences") == {"buyers": 1}
    assert get("/audiences/buyers") == {
        "p2": [{"type": "email", "value": "p2@example.com"}]
    }
    assert get("/deliveries") == {
        "count": 2,
        "added": 2,
        "removed": 1,
        "resent": 0,
        "refused": 0,
        "duplicates": 0,
    }
    assert httpx.get(box.url + "/audiences/none").status_code == 404
    assert httpx.get(box.url + "/other").status_code == 404


def test_a_foreign_host_name_is_refused(sandbox: Start) -> None:
    box = sandbox()
    for path in ("/", "/audiences"):
        answer = httpx.get(box.url + path, headers={"host": "evil.example:80"})
        assert answer.status_code == 403


def test_the_page_masks_addresses_and_escapes_names(
    sandbox: Start, webhook: Open
) -> None:
    box = sandbox()
    hook = webhook(box.url)
    assert "Nothing has arrived yet" in httpx.get(box.url).text
    odd = Change("add", "<i>p", (Identifier("user_id", "<script>u"),))
    people = [addition(f"p{n:02}") for n in range(59)]
    hook.push(batch_of(odd, *people, audience="<b>buyers"))
    hook.push(batch_of(removal("p00"), audience="<b>buyers"))
    page = httpx.get(box.url)
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "&lt;b&gt;buyers <em>59 members" in page.text
    assert "and 53 more" in page.text
    assert "p***@e***.com" in page.text
    for hidden in ("example.com", "<script>u", "<i>p", "<b>buyers"):
        assert hidden not in page.text


def test_the_page_updates_itself_by_its_own_script_alone(
    sandbox: Start, webhook: Open
) -> None:
    box = sandbox()
    page = httpx.get(box.url)
    (script,) = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = page.headers["content-security-policy"]
    assert f"script-src 'sha256-{digest}'; connect-src 'self'" in policy
    assert 'fetch("content")' in script
    assert "src=" not in page.text and "http" not in page.text
    empty = httpx.get(box.url + "/content").text
    assert f"<main>{empty}</main>" in page.text
    webhook(box.url).push(batch_of(addition("p1")))
    told = httpx.get(box.url + "/content").text
    assert told != empty and "buyers <em>1 members" in told
    assert f"<main>{told}</main>" in httpx.get(box.url).text


@pytest.mark.parametrize(
    ("identifier_type", "value", "shown"),
    [
        ("email", "anna@dept.example", "a***@d***.example"),
        ("email", "a@b.co.uk", "a***@b***.uk"),
        ("user_id", "anna@localhost", "a***@l***"),
        ("phone", "+18005550100", "***00"),
        ("user_id", "u1", "u1"),
    ],
)
def test_masks(identifier_type: str, value: str, shown: str) -> None:
    assert masked(Identifier(identifier_type, value)) == shown


def test_stopping_is_prompt(tmp_path: Path) -> None:
    before = threading.active_count()
    script = [Answer(fault="hang")]
    box = Sandbox(tmp_path, SECRET, script=script, clock=Clock())
    box.start()
    url = box.url
    failures: list[str] = []

    def hang() -> None:
        try:
            httpx.post(url, content=BODY, headers=signed(BODY), timeout=30)
        except httpx.TransportError as error:
            failures.append(type(error).__name__)

    sender = threading.Thread(target=hang)
    sender.start()
    with httpx.Client() as idle:
        idle.get(url)  # keeps its connection open
        while not box.attempts:
            time.sleep(0.01)
        begun = time.monotonic()
        box.stop()
        sender.join(5)
        while threading.active_count() > before and time.monotonic() < begun + 5:
            time.sleep(0.01)
        assert time.monotonic() - begun < 1
    assert len(failures) == 1
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)
    with pytest.raises(RuntimeError):
        _ = box.url


def test_it_listens_on_this_machine_only(sandbox: Start) -> None:
    assert sandbox().url.startswith("http://127.0.0.1:")
