import json
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from connectors.destinations import outbox as outbox_module
from connectors.destinations import webhook as webhook_module
from connectors.destinations.outbox import Outbox, Outcome, deliver
from connectors.destinations.protocol import Batch, Change, Receipt
from connectors.destinations.webhook import AudienceChanged, Webhook
from orchestration.demo.sandbox.server import Answer, Sandbox
from tests.support.deliveries import (
    RUN_AT,
    Acknowledgements,
    Clock,
    addition,
    batch_of,
    removal,
)

Start = Callable[..., Sandbox]
Open = Callable[..., Webhook]


def refuses(*persons: str, status: int = 400) -> Callable[[AudienceChanged], Any]:
    """A receiver that refuses any request with one of these persons in it."""

    def rule(content: AudienceChanged) -> Answer | None:
        sent = {change.profile_id for change in content.changes}
        return Answer(status) if sent & set(persons) else None

    return rule


def test_what_is_confirmed_is_acknowledged_and_done(
    sandbox: Start,
    webhook: Open,
    outbox: Outbox,
    acknowledge: Acknowledgements,
    clock: Clock,
) -> None:
    box = sandbox()
    hook = webhook(box.url)
    for batch in (
        batch_of(addition("p1"), addition("p2")),
        batch_of(removal("p1")),
    ):
        outcome = deliver(batch, hook, outbox, acknowledge, clock, clock.sleep)
        assert outcome == Outcome(accepted=len(batch.changes))
    assert set(box.members("buyers")) == {"p2"}
    assert acknowledge.accepted == ["p1", "p2", "p1"]
    assert outbox.pending() == []


def test_an_empty_batch_makes_no_call(
    sandbox: Start,
    webhook: Open,
    outbox: Outbox,
    acknowledge: Acknowledgements,
    clock: Clock,
) -> None:
    box = sandbox()
    hook = webhook(box.url)
    outcome = deliver(batch_of(), hook, outbox, acknowledge, clock, clock.sleep)
    assert outcome == Outcome()
    assert not box.attempts
    assert not acknowledge.rows


@pytest.mark.parametrize("change", [addition, removal])
@pytest.mark.parametrize(
    "answer",
    [
        Answer(500, applied=True),
        Answer(fault="hang", applied=True),
        Answer(fault="reset", applied=True),
        Answer(200, b'{"refu', {"content-type": "application/json"}, applied=True),
        Answer(200, b"<html>", {"content-type": "text/html"}, applied=True),
        Answer(200, b"<html>", {"content-type": "text/html"}),
        Answer(503),
    ],
)
def test_membership_converges_after_a_bad_answer(
    sandbox: Start,
    webhook: Open,
    outbox: Outbox,
    acknowledge: Acknowledgements,
    clock: Clock,
    answer: Answer,
    change: Callable[[str], Change],
) -> None:
    calm = Answer(applied=True)
    box = sandbox([calm, answer])
    hook = webhook(box.url, timeout_s=0.3)
    hook.push(batch_of(addition("p1"), addition("p2")))
    batch = batch_of(change("p2"), change("p3"))
    outcome = deliver(batch, hook, outbox, acknowledge, clock, clock.sleep)
    assert outcome == Outcome(accepted=2)
    expected = {"p1", "p2", "p3"} if change is addition else {"p1"}
    assert set(box.members("buyers")) == expected
    assert len({attempt.webhook_id for attempt in box.attempts[1:]}) == 1
    assert clock.slept_s == [5]


def test_waiting_doubles_and_ends_with_the_rows_pending(
    sandbox: Start,
    webhook: Open,
    outbox: Outbox,
    acknowledge: Acknowledgements,
    clock: Clock,
) -> None:
    box = sandbox([Answer(500)] * 6)
    hook = webhook(box.url)
    batch = batch_of(addition("p1"), removal("p2"))
    outcome = deliver(batch, hook, outbox, acknowledge, clock, clock.sleep, 6)
    assert (outcome.accepted, outcome.pending) == (0, 2)
    assert outcome.error == "crm: answered 500."
    assert clock.slept_s == [5, 10, 20, 40, 60]
    assert len(box.attempts) == 6
    assert outbox.pending("crm") == [batch]
    assert outbox.pending("other") == []
    assert not acknowledge.rows
    again = deliver(batch, hook, outbox, acknowledge, clock, clock.sleep)
    assert again.accepted == 2
    assert {attempt.webhook_id for attempt in box.attempts} == {batch.key}


@pytest.mark.parametrize("change", [addition, removal])
def test_what_could_not_be_acknowledged_is_sent_again(
    sandbox: Start,
    webhook: Open,
    outbox: Outbox,
    acknowledge: Acknowledgements,
    clock: Clock,
    change: Callable[[str], Change],
) -> None:
    def disk_full(batch: Batch, receipt: Receipt) -> None:
        raise OSError("no space left")

    box = sandbox()
    hook = webhook(box.url)
    with pytest.raises(OSError, match="no space"):
        deliver(batch_of(change("p1")), hook, outbox, disk_full, clock, clock.sleep)
    (rest,) = outbox.pending()
    deliver(rest, hook, outbox, acknowledge, clock, clock.sleep)
    assert acknowledge.accepted == ["p1"]
    assert box.deliveries()["count"] == box.deliveries()["duplicates"] == 1


@pytest.mark.parametrize("times", [1, 2])
def test_retry_after_is_waited_for(
    sandbox: Start,
    webhook: Open,
    outbox: Outbox,
    acknowledge: Acknowledgements,
    clock: Clock,
    times: int,
) -> None:
    box = sandbox([Answer(429, b"", {"retry-after": "17"})] * times)
    outcome = deliver(
        batch_of(addition("p1")),
        webhook(box.url),
        outbox,
        acknowledge,
        clock,
        clock.sleep,
    )
    assert outcome.accepted == 1
    assert clock.slept_s == [17] * times


def test_a_long_retry_after_is_kept_by_later_runs(
    sandbox: Start,
    webhook: Open,
    outbox: Outbox,
    acknowledge: Acknowledgements,
    clock: Clock,
) -> None:
    box = sandbox([Answer(429, b"", {"retry-after": "3600"})])
    hook = webhook(box.url)

    def send(change: Change) -> Outcome:
        return deliver(batch_of(change), hook, outbox, acknowledge, clock, clock.sleep)

    assert send(addition("p1")).pending == 1
    clock.now += timedelta(minutes=59)
    assert send(removal("p2")).pending == 1  # the whole destination is left alone
    assert len(box.attempts) == 1
    assert not clock.slept_s
    clock.now += timedelta(minutes=2)
    for batch in outbox.pending("crm"):
        deliver(batch, hook, outbox, acknowledge, clock, clock.sleep)
    assert acknowledge.accepted == ["p1", "p2"]
    assert outbox.pending() == []


@pytest.mark.parametrize("status", [400, 413])
def test_bad_rows_end_up_alone(
    sandbox: Start,
    webhook: Open,
    outbox: Outbox,
    acknowledge: Acknowledgements,
    clock: Clock,
    status: int,
) -> None:
    box = sandbox(rule=refuses("p03", "p30", status=status))
    hook = webhook(box.url)
    hook.push(batch_of(*(addition(f"p{n:02}") for n in range(20, 30))))
    changes = [addition(f"p{n:02}") for n in range(20)]
    changes += [removal(f"p{n:02}") for n in range(20, 31)]
    outcome = deliver(batch_of(*changes), hook, outbox, acknowledge, clock, clock.sleep)
    assert outcome.accepted == 29
    assert outcome.pending == 0
    assert [refusal.profile_id for refusal in outcome.refused] == ["p03", "p30"]
    assert set(box.members("buyers")) == {f"p{n:02}" for n in range(20)} - {"p03"}
    assert outbox.pending() == []
    applied = box.deliveries()
    assert (applied["added"], applied["removed"]) == (10 + 19, 10)


def test_too_large_a_batch_is_sent_in_parts(
    sandbox: Start,
    webhook: Open,
    outbox: Outbox,
    acknowledge: Acknowledgements,
    clock: Clock,
) -> None:
    box = sandbox(rule=lambda c: Answer(413) if len(c.changes) > 3 else None)
    batch = batch_of(*(addition(f"p{n}") for n in range(8)))
    hook = webhook(box.url)
    outcome = deliver(batch, hook, outbox, acknowledge, clock, clock.sleep)
    assert outcome == Outcome(accepted=8)
    assert box.audiences() == {"buyers": 8}


@pytest.mark.parametrize("status", [302, 401, 403, 404, 410])
def test_a_wrong_address_or_key_neither_splits_nor_refuses(
    sandbox: Start,
    webhook: Open,
    outbox: Outbox,
    acknowledge: Acknowledgements,
    clock: Clock,
    status: int,
) -> None:
    box = sandbox([Answer(status)])
    hook = webhook(box.url)
    batch = batch_of(addition("p1"), removal("p2"))
    outcome = deliver(batch, hook, outbox, acknowledge, clock, clock.sleep)
    assert (outcome.pending, outcome.refused) == (2, ())
    assert len(box.attempts) == 1
    assert outbox.pending() == [batch]


def test_rows_refused_in_a_good_answer_are_reported(
    sandbox: Start,
    webhook: Open,
    outbox: Outbox,
    acknowledge: Acknowledgements,
    clock: Clock,
) -> None:
    box = sandbox([Answer(500, applied=True, refused=("p1",))])
    batch = batch_of(addition("p1"), addition("p2"))
    hook = webhook(box.url)
    outcome = deliver(batch, hook, outbox, acknowledge, clock, clock.sleep)
    assert outcome.accepted == 1
    assert [refusal.profile_id for refusal in outcome.refused] == ["p1"]
    assert acknowledge.accepted == ["p2"]
    assert set(box.members("buyers")) == {"p2"}


def test_an_unavailable_destination_leaves_the_other_half_pending(
    sandbox: Start,
    webhook: Open,
    outbox: Outbox,
    acknowledge: Acknowledgements,
    clock: Clock,
) -> None:
    calm = Answer(applied=True)
    box = sandbox([Answer(413), calm, Answer(500)])
    batch = batch_of(*(addition(f"p{n}") for n in range(4)))
    hook = webhook(box.url)
    outcome = deliver(batch, hook, outbox, acknowledge, clock, clock.sleep, 1)
    assert (outcome.accepted, outcome.pending) == (2, 2)
    assert [len(rest.changes) for rest in outbox.pending()] == [2]
    for rest in outbox.pending():
        deliver(rest, hook, outbox, acknowledge, clock, clock.sleep)
    assert sorted(acknowledge.accepted) == ["p0", "p1", "p2", "p3"]


def test_who_returns_is_added_again(
    sandbox: Start,
    webhook: Open,
    outbox: Outbox,
    acknowledge: Acknowledgements,
    clock: Clock,
) -> None:
    box = sandbox()
    hook = webhook(box.url)
    for change in (addition("p1"), removal("p1")) * 3:
        deliver(batch_of(change), hook, outbox, acknowledge, clock, clock.sleep)
        expected = {"p1"} if change.operation == "add" else set()
        assert set(box.members("buyers")) == expected
    assert box.deliveries()["duplicates"] == 0
    assert len({attempt.webhook_id for attempt in box.attempts}) == 6


def test_a_batch_built_again_is_the_pending_one(outbox: Outbox) -> None:
    first = outbox.enter(batch_of(addition("p1")), RUN_AT)
    later = Batch.of("crm", "buyers", RUN_AT + timedelta(hours=1), first.changes)
    assert outbox.enter(later, RUN_AT) == first
    outbox.finish(first.key)
    second = outbox.enter(later, RUN_AT)
    assert second.key != first.key
    assert outbox.enter(later, RUN_AT) == outbox.enter(second, RUN_AT) == second
    assert outbox.pending() == [second]


def test_halves_keep_their_place_in_the_queue(outbox: Outbox) -> None:
    first = outbox.enter(batch_of(addition("p1"), addition("p2")), RUN_AT)
    outbox.enter(batch_of(removal("p3")), RUN_AT + timedelta(seconds=1))
    outbox.split(first)
    waiting = [batch.changes[0].profile_id for batch in outbox.pending()]
    assert waiting == ["p1", "p2", "p3"]


def test_done_rows_hold_no_personal_data(outbox: Outbox, tmp_path: Path) -> None:
    for change in (addition, removal):
        batch = batch_of(*(change(f"p{n}") for n in range(500)))
        outbox.finish(outbox.enter(batch, RUN_AT).key)
    outbox.close()
    for file in tmp_path.glob("control.db*"):
        assert b"example.com" not in file.read_bytes()
        assert file.stat().st_mode & 0o077 == 0


def test_the_file_may_hold_other_tables(tmp_path: Path) -> None:
    path = tmp_path / "control.db"
    with sqlite3.connect(path) as db:
        db.execute("create table write_keys (name text)")
        db.execute("insert into write_keys values ('web')")
    first = Outbox(path)
    first.enter(batch_of(addition("p1")), RUN_AT)
    second = Outbox(path)
    assert second.pending() == [batch_of(addition("p1"))]
    with sqlite3.connect(path) as db:
        assert db.execute("select name from write_keys").fetchall() == [("web",)]
        assert db.execute("pragma journal_mode").fetchone() == ("wal",)
    second.close()
    first.close()


# A run that is killed before its n-th line, for every n, and the run after it.


class Journal:
    """Acknowledgements in a file, each synced, read once per batch key."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, batch: Batch, receipt: Receipt) -> None:
        refused = {refusal.profile_id for refusal in receipt.refused}
        rows = [
            [change.operation, change.profile_id]
            for change in batch.changes
            if change.profile_id not in refused
        ]
        with self.path.open("a") as file:
            file.write(json.dumps({"key": batch.key, "rows": rows}) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def delivered(self) -> set[str]:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        seen: set[str] = set()
        delivered: set[str] = set()
        for said in map(json.loads, lines):
            if said["key"] in seen:
                continue
            seen.add(said["key"])
            for operation, person in said["rows"]:
                change = delivered.add if operation == "add" else delivered.discard
                change(person)
        return delivered


def run(url: str, folder: Path, desired: set[str], kill_at: int | None) -> None:
    """Pending first, then the difference between desired and acknowledged."""
    clock, journal = Clock(), Journal(folder / "acks.ndjson")
    if kill_at is not None:
        sys.settrace(killer(kill_at))
    box = Outbox(folder / "control.db")
    hook = Webhook("crm", url, (bytes(range(32)),))
    for batch in box.pending("crm"):
        deliver(batch, hook, box, journal, clock, clock.sleep)
    delivered = journal.delivered()
    changes = [addition(person) for person in desired - delivered]
    changes += [removal(person) for person in delivered - desired]
    deliver(batch_of(*changes), hook, box, journal, clock, clock.sleep)
    hook.close()
    box.close()
    sys.settrace(None)


def killer(at: int) -> Callable[[FrameType, str, Any], Any]:
    """Kills this process before the n-th line run in the modules under test."""
    left = at
    files = {outbox_module.__file__, webhook_module.__file__, __file__}

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    return trace


def killed(url: str, folder: Path, desired: set[str], at: int) -> bool:
    child = os.fork()
    if child == 0:
        try:
            run(url, folder, desired, at)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


@pytest.mark.slow
def test_a_run_killed_at_any_line_is_made_good_by_the_next(
    sandbox: Start, tmp_path: Path
) -> None:
    at, kills = 1, 0
    while True:
        folder = tmp_path / f"kill{at}"
        folder.mkdir()
        box = sandbox(rule=refuses("p3"))
        run(box.url, folder, {"p1", "p2"}, None)
        desired = {"p2", "p3", "p4"}  # p1 leaves, p4 comes, p3 is refused
        was_killed = killed(box.url, folder, desired, at)
        run(box.url, folder, desired, None)
        assert set(box.members("buyers")) == {"p2", "p4"}, f"killed at {at}"
        assert Journal(folder / "acks.ndjson").delivered() == {"p2", "p4"}
        applied = box.deliveries()
        assert (applied["added"], applied["removed"]) == (3, 1), f"killed at {at}"
        rest = Outbox(folder / "control.db")
        assert rest.pending() == []
        rest.close()
        box.stop()
        if not was_killed:
            break
        kills += 1
        at += 3
    assert kills > 100
