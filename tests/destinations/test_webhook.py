import base64
import gzip
import json
import tracemalloc
from collections.abc import Callable, Mapping
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Literal

import pytest
import standardwebhooks

from connectors.destinations.protocol import Batch, Change, Identifier
from connectors.destinations.webhook import Settings, Webhook, connect
from connectors.destinations.webhook import signature as sign
from connectors.errors import (
    ConfigError,
    Rejected,
    Retryable,
    Throttled,
    Unavailable,
)
from connectors.webhook_secrets import secret_bytes
from orchestration.demo.sandbox.server import Answer, Sandbox
from tests.support.deliveries import RUN_AT, SECRET, addition, batch_of, email, removal

Start = Callable[..., Sandbox]
Open = Callable[..., Webhook]

VECTORS = json.loads(
    (
        Path(__file__).parents[1]
        / "fixtures/destinations/standard_webhooks_signatures.json"
    ).read_text()
)["cases"]


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["webhook-id"])
def test_signatures_equal_the_published_ones(case: dict[str, str]) -> None:
    made = sign(
        secret_bytes(case["secret"]),
        case["webhook-id"],
        int(case["webhook-timestamp"]),
        case["body"].encode(),
    )
    assert made == case["webhook-signature"]


class Recorder(Sandbox):
    def receive(self, headers: Mapping[str, str], body: bytes) -> Answer:
        self.seen = (body, dict(headers))
        return super().receive(headers, body)


def test_the_reference_library_verifies_what_is_sent(tmp_path: Path) -> None:
    other = "whsec_" + base64.b64encode(bytes(24)).decode()
    with Recorder(tmp_path, SECRET) as box:
        settings = Settings(kind="webhook", url=box.url, secret_env="CRM")
        hook = connect("crm", settings, {"CRM": f"{other} {SECRET}"})
        hook.push(batch_of(addition("p1"), removal("p2")))
        hook.close()
    for secret in (SECRET, other):  # both, while a key is being rotated
        body = standardwebhooks.Webhook(secret).verify(*box.seen)
    assert body == {
        "type": "audience.changed",
        "audience": "buyers",
        "destination": "crm",
        "run_at": "2026-03-01T09:00:00Z",
        "changes": [
            {
                "operation": "add",
                "profile_id": "p1",
                "add": [{"type": "email", "value": "p1@example.com"}],
                "remove": [],
            },
            {
                "operation": "remove",
                "profile_id": "p2",
                "add": [],
                "remove": [{"type": "email", "value": "p2@example.com"}],
            },
        ],
    }


def test_people_are_added_changed_and_removed(sandbox: Start, webhook: Open) -> None:
    box = sandbox()
    hook = webhook(box.url)
    hook.push(batch_of(addition("p1"), addition("p2")))
    assert set(box.members("buyers")) == {"p1", "p2"}
    new = email("new@example.com")
    changed = Change("resend", "p1", (new,), (email("p1@example.com"),))
    hook.push(batch_of(changed, removal("p2")))
    assert box.members("buyers") == {"p1": {new}}


def test_the_same_batch_twice_counts_once(sandbox: Start, webhook: Open) -> None:
    box = sandbox()
    moments = iter([RUN_AT, RUN_AT + timedelta(seconds=90)])
    box = sandbox(clock=lambda: RUN_AT)
    hook = webhook(box.url, clock=lambda: next(moments))
    batch = batch_of(addition("p1"))
    assert hook.push(batch) == hook.push(batch)
    first, second = box.attempts
    assert first.webhook_id == second.webhook_id == batch.key
    assert first.timestamp != second.timestamp
    assert first.signature != second.signature
    assert box.deliveries()["added"] == 1
    assert box.deliveries()["duplicates"] == 1


def test_keys_name_the_content_and_not_the_run() -> None:
    one, other = batch_of(addition("p1")), batch_of(removal("p1"))
    later = Batch.of("crm", "buyers", RUN_AT + timedelta(days=1), one.changes)
    both = [addition("p1"), addition("p2")]
    assert later.key == one.key
    assert len({one.key, other.key, batch_of(*one.changes, audience="b").key}) == 3
    new, olds = (email("new@x.org"),), (email("a@x.org"), email("b@x.org"))
    replaced = [Change("resend", "p1", new, (old,)) for old in olds]
    assert batch_of(replaced[0]).key != batch_of(replaced[1]).key
    assert (
        batch_of(Change("resend", "p1", new, olds)).key
        == batch_of(Change("resend", "p1", new, olds[::-1])).key
    )
    assert batch_of(*both).key == batch_of(*reversed(both)).key


@pytest.mark.parametrize("persons", [["p1", "p1"], ["p1", ""]])
def test_a_doubled_or_missing_person_is_never_sent(persons: list[str]) -> None:
    with pytest.raises(ValueError, match="each needs exactly one"):
        batch_of(*map(addition, persons))


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"", {}),
        (b"OK", {"content-type": "text/plain"}),
        (b'"done"', JSON),
        (b'{"received":2,"error":null,"errors":[]}', JSON),
        (
            gzip.compress(b'{"received":2}', mtime=0),
            {**JSON, "content-encoding": "gzip"},
        ),
    ],
)
def test_a_2xx_confirms_the_batch(
    sandbox: Start, webhook: Open, body: bytes, headers: dict[str, str]
) -> None:
    box = sandbox([Answer(202, body, headers)])
    receipt = webhook(box.url).push(batch_of(addition("p1"), removal("p2")))
    assert (receipt.accepted, receipt.refused, receipt.level) == (2, (), "batch")


def test_rows_named_as_refused_are_not_accepted(sandbox: Start, webhook: Open) -> None:
    body = {
        "matched": 1,
        "refused": [
            {"profile_id": "p1", "reason": "no such address: P1@example.com!"},
            {"profile_id": "p2", "reason": "x" * 5000},
        ],
    }
    box = sandbox([Answer(207, json.dumps(body).encode(), JSON)])
    batch = batch_of(addition("p1"), removal("p2"), addition("p3"))
    receipt = webhook(box.url).push(batch)
    assert (receipt.accepted, receipt.matched, receipt.level) == (1, 1, "row")
    assert [r.profile_id for r in receipt.refused] == ["p1", "p2"]
    assert receipt.refused[0].reason == "no such address: <email>!"
    assert len(receipt.refused[1].reason) == 200


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (200, b"<!doctype html><p>Please log in", {"content-type": "text/html"}),
        (200, b"<html>", {"content-type": "text/plain"}),
        (200, b'{"refused":[{"prof', JSON),
        (200, b'{"error":"database is down"}', JSON),
        (200, b'{"errors":[{"row":1}]}', JSON),
        (200, b'{"success":false}', JSON),
        (200, b'{"ok":false}', JSON),
        (200, b'{"refused":"p1"}', JSON),
        (200, b'{"refused":[{"reason":"?"}]}', JSON),
        (200, b'{"refused":[{"profile_id":"other"}]}', JSON),
        (207, b'{"results":[200,400]}', JSON),
        (200, b"\x1f\x8bxx", {"content-encoding": "gzip"}),
        (200, b"x", {"content-encoding": "br"}),
        (200, b"x" * (2**20 + 1), {"content-type": "text/plain"}),
    ],
)
def test_an_unclear_2xx_confirms_nothing(
    sandbox: Start, webhook: Open, status: int, body: bytes, headers: dict[str, str]
) -> None:
    box = sandbox([Answer(status, body, headers)])
    with pytest.raises(Unavailable):
        webhook(box.url).push(batch_of(addition("p1"), removal("p2")))


def test_an_answer_that_unpacks_to_much_takes_little_memory(
    sandbox: Start, webhook: Open
) -> None:
    bomb = gzip.compress(bytes(200 * 2**20))
    hook = webhook(sandbox([Answer(200, bomb, {"content-encoding": "gzip"})]).url)
    tracemalloc.start()
    with pytest.raises(Unavailable, match="1 MiB"):
        hook.push(batch_of(addition("p1")))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 16 * 2**20


@pytest.mark.parametrize("fault", ["hang", "reset"])
def test_no_answer_is_unavailable(
    sandbox: Start, webhook: Open, fault: Literal["hang", "reset"]
) -> None:
    box = sandbox([Answer(fault=fault, applied=True)])
    hook = webhook(box.url, timeout_s=0.2)
    with pytest.raises(Unavailable):
        hook.push(batch_of(addition("p1")))
    hook.push(batch_of(addition("p1")))
    assert box.deliveries()["added"] == 1
    box.stop()
    with pytest.raises(Unavailable):
        hook.push(batch_of(removal("p1")))


@pytest.mark.parametrize("status", [408, 425, 500, 502, 503, 504])
def test_statuses_that_may_pass_later(
    sandbox: Start, webhook: Open, status: int
) -> None:
    box = sandbox([Answer(status)])
    with pytest.raises(Unavailable, match=str(status)):
        webhook(box.url).push(batch_of(addition("p1")))


@pytest.mark.parametrize(
    ("status", "retry_after", "wait_s"),
    [
        (429, "7", 7),
        (503, "7", 7),
        (429, format_datetime(RUN_AT + timedelta(seconds=95), usegmt=True), 95),
        (429, format_datetime(RUN_AT - timedelta(seconds=95), usegmt=True), 0),
        (429, None, 30),
        (429, "soon", 30),
        (429, "9" * 400, 30),
    ],
)
def test_throttling_says_how_long(
    sandbox: Start, webhook: Open, status: int, retry_after: str | None, wait_s: float
) -> None:
    headers = {} if retry_after is None else {"retry-after": retry_after}
    box = sandbox([Answer(status, b"", headers)], clock=lambda: RUN_AT)
    with pytest.raises(Throttled) as caught:
        webhook(box.url, clock=lambda: RUN_AT).push(batch_of(addition("p1")))
    assert caught.value.retry_after_s == wait_s


@pytest.mark.parametrize("status", [400, 409, 413, 422])
def test_statuses_that_are_about_the_rows(
    sandbox: Start, webhook: Open, status: int
) -> None:
    box = sandbox([Answer(status)])
    with pytest.raises(Rejected, match=str(status)) as caught:
        webhook(box.url).push(batch_of(addition("p1")))
    assert caught.value.concerns == "rows"


@pytest.mark.parametrize(
    ("status", "advice"),
    [(401, "secret"), (403, "secret"), (404, "url"), (410, "gone"), (405, "url")],
)
def test_statuses_that_are_about_the_destination(
    sandbox: Start, webhook: Open, status: int, advice: str
) -> None:
    box = sandbox([Answer(status, b"p1@example.com")])
    with pytest.raises(Rejected, match=advice) as caught:
        webhook(box.url).push(batch_of(addition("p1")))
    assert caught.value.concerns == "destination"
    assert not isinstance(caught.value, Retryable)
    assert "example.com" not in str(caught.value)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(sandbox: Start, webhook: Open, status: int) -> None:
    inner = sandbox()
    box = sandbox([Answer(status, b"", {"location": inner.url})])
    with pytest.raises(Rejected, match="redirect") as caught:
        webhook(box.url).push(batch_of(addition("p1")))
    assert caught.value.concerns == "destination"
    assert not inner.attempts


def test_a_wrong_secret_is_told_from_a_wrong_row(
    sandbox: Start, tmp_path: Path
) -> None:
    box = sandbox()
    other = "whsec_" + base64.b64encode(bytes(24)).decode()
    settings = Settings(kind="webhook", url=box.url, secret_env="CRM")
    hook = connect("crm", settings, {"CRM": other})
    with pytest.raises(Rejected, match="secret") as caught:
        hook.push(batch_of(addition("p1")))
    hook.close()
    assert caught.value.concerns == "destination"
    assert box.deliveries()["count"] == 0


SHORT = "whsec_" + base64.b64encode(b"short").decode()


@pytest.mark.parametrize(
    ("url", "secret", "message"),
    [
        ("https://crm.example", "", "CRM is not set"),
        ("https://crm.example", SECRET[len("whsec_") :], "CRM: a secret is whsec_"),
        ("https://crm.example", "whsec_not base64!", "CRM: a secret is whsec_"),
        ("https://crm.example", SHORT, "24 to 64"),
        ("http://crm.example", SECRET, "plain http"),
        ("http://169.254.169.254/latest", SECRET, "plain http"),
        ("http://127.0.0.1.crm.example", SECRET, "plain http"),
        ("https://me:pass@crm.example", SECRET, "user name"),
        ("ftp://crm.example", SECRET, "https://"),
        ("/only/a/path", SECRET, "https://"),
    ],
)
def test_unusable_settings_are_refused(url: str, secret: str, message: str) -> None:
    settings = Settings(kind="webhook", url="${URL}", secret_env="CRM")
    with pytest.raises(ConfigError, match=message) as caught:
        connect("crm", settings, {"URL": url, "CRM": secret})
    assert not secret or secret not in str(caught.value)
    assert "pass" not in str(caught.value).replace("password", "")


def test_a_representation_holds_no_address() -> None:
    assert "example.com" not in repr(batch_of(addition("p1"), removal("p2")))
    assert "example.com" not in repr(Identifier("email", "p1@example.com"))
