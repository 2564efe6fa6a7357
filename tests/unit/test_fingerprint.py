"""Fingerprints: the same within a day, linked to no one after it, never unasked."""

import json
import multiprocessing
import sqlite3
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.events.admission import Admission
from connectors.events.canonical import Event
from connectors.events.decisions import AdmissionDecision
from connectors.events.event_builder import Origin
from connectors.events.fingerprint import PERIOD_S, Fingerprints, is_permitted
from connectors.events.identifiers import IdentifierRules
from connectors.events.placeholders import Placeholders
from connectors.events.policy import NoConsent, Policy
from connectors.events.rows import Admitted
from connectors.events.rulebook import Rulebook
from connectors.home import Home
from tests.support.rule_files import Rules

PROJECT = Path(__file__).parents[2]
IDENTIFIERS = IdentifierRules.load(PROJECT)
PLACEHOLDERS = Placeholders.load(PROJECT)
MIDNIGHT = 20_500 * PERIOD_S
SHOWN = ("web", "203.0.113.9", "Mozilla/5.0", "de-AT,de;q=0.9")


def salts(home: Home) -> dict[int, bytes]:
    database = sqlite3.connect(home.control)
    found = dict(database.execute("select period, salt from salts"))
    database.close()
    return found


def test_a_fingerprint_lasts_one_utc_day(tmp_path: Path) -> None:
    prints = Fingerprints(Home(tmp_path))
    first = prints.stamp(MIDNIGHT, *SHOWN)
    assert len(first) == 32 and int(first, 16) >= 0
    assert prints.stamp(MIDNIGHT + PERIOD_S - 0.001, *SHOWN) == first
    next_day = prints.stamp(MIDNIGHT + PERIOD_S, *SHOWN)
    assert next_day != first
    assert prints.stamp(MIDNIGHT + PERIOD_S - 0.001, *SHOWN) == first  # a slow clock
    assert prints.stamp(MIDNIGHT + PERIOD_S, *SHOWN) == next_day


def test_another_process_or_a_restart_makes_the_same(tmp_path: Path) -> None:
    one, other = Fingerprints(Home(tmp_path)), Fingerprints(Home(tmp_path))
    assert one.stamp(MIDNIGHT, *SHOWN) == other.stamp(MIDNIGHT + 5, *SHOWN)


def test_another_installation_makes_others(tmp_path: Path) -> None:
    one, other = Fingerprints(Home(tmp_path / "1")), Fingerprints(Home(tmp_path / "2"))
    assert one.stamp(MIDNIGHT, *SHOWN) != other.stamp(MIDNIGHT, *SHOWN)


def _stamped(path: Path, barrier: Any, answers: Any) -> None:
    barrier.wait()
    answers.put(Fingerprints(Home(path)).stamp(MIDNIGHT, *SHOWN))


def test_processes_that_start_at_once_agree_on_the_salt(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    barrier, answers = spawn.Barrier(4), spawn.Queue()
    workers = [
        spawn.Process(target=_stamped, args=(tmp_path, barrier, answers))
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    made = {answers.get(timeout=60) for _ in workers}
    for worker in workers:
        worker.join(60)
    assert len(made) == 1 and len(salts(Home(tmp_path))) == 1


@given(
    one=st.tuples(*[st.text(max_size=4)] * 4),
    other=st.tuples(*[st.text(max_size=4)] * 4),
)
def test_only_the_same_four_texts_make_the_same(
    tmp_path_factory: pytest.TempPathFactory, one: Any, other: Any
) -> None:
    prints = Fingerprints(Home(tmp_path_factory.getbasetemp()))
    made = prints.stamp(MIDNIGHT, *one), prints.stamp(MIDNIGHT, *other)
    assert (made[0] == made[1]) == (one == other)


def test_texts_that_read_alike_when_joined_are_told_apart(tmp_path: Path) -> None:
    prints = Fingerprints(Home(tmp_path))
    made = {
        prints.stamp(MIDNIGHT, *texts)
        for texts in [
            ("ab", "c", "", ""),
            ("a", "bc", "", ""),
            ("a\0b", "c", "", ""),
            ("a", "b\0c", "", ""),
            ('a","b', "c", "", ""),
            ("", "abc", "", ""),
        ]
    }
    assert len(made) == 6


def test_salts_before_yesterdays_are_gone_from_the_disk(tmp_path: Path) -> None:
    home = Home(tmp_path)
    keeper = sqlite3.connect(home.control)  # as a collector that stays connected
    keeper.execute("pragma journal_mode = wal")
    keeper.execute("select * from sqlite_master").fetchall()
    prints = Fingerprints(home)
    prints.stamp(MIDNIGHT, *SHOWN)
    old = salts(home)[20_500]
    prints.stamp(MIDNIGHT + PERIOD_S, *SHOWN)
    assert salts(home).keys() == {20_500, 20_501}
    prints.stamp(MIDNIGHT + 2 * PERIOD_S, *SHOWN)
    assert salts(home).keys() == {20_501, 20_502}
    for path in tmp_path.iterdir():
        assert old not in path.read_bytes(), path.name
    keeper.close()


def test_nothing_that_went_in_is_stored_and_others_may_not_read(tmp_path: Path) -> None:
    home = Home(tmp_path / "new")
    Fingerprints(home).stamp(MIDNIGHT, *SHOWN)
    assert stat.S_IMODE(home.control.stat().st_mode) == 0o600
    stored = b"".join(path.read_bytes() for path in home.path.iterdir())
    assert not any(text.encode() in stored for text in SHOWN if len(text) > 3)


@pytest.mark.parametrize(
    ("category", "no_consent", "statement", "gpc", "is_wanted"),
    [
        (None, "assume_true", None, False, False),
        (None, "assume_true", {"analytics": True}, False, False),
        ("analytics", "assume_true", None, False, True),
        ("analytics", "assume_false", None, False, False),
        ("analytics", "require", None, False, False),
        ("analytics", "require", {"analytics": True}, False, True),
        ("analytics", "assume_true", {"analytics": False}, False, False),
        ("analytics", "assume_true", {}, False, False),
        ("analytics", "assume_true", {"advertising": True}, False, False),
        ("analytics", "assume_true", {"analytics": True}, True, True),
        ("analytics", "assume_true", None, True, True),
        ("advertising", "assume_true", {"advertising": True}, False, True),
        ("advertising", "assume_true", {"advertising": True}, True, False),
        ("advertising", "assume_true", None, True, False),
    ],
)
def test_a_fingerprint_is_wanted_only_where_its_category_is_granted(
    category: str | None,
    no_consent: NoConsent,
    statement: dict[str, bool] | None,
    gpc: bool,
    is_wanted: bool,
) -> None:
    policy = Policy(fingerprint=category, no_consent=no_consent)
    assert is_permitted(policy, statement, gpc) is is_wanted


# Who gets one

ASKING = Policy(fingerprint="analytics")


Sent = tuple[Any, AdmissionDecision | None]


def live(policy: Policy = ASKING, *, gpc: bool = False) -> Origin:
    """A request that shows the fingerprint `f1`."""
    return Origin(
        *("web", "web", "http", "segment-1", 1_776_165_218_000_000),
        keeps_received_at=False,
        policy=policy,
        gpc=gpc,
        fingerprint=lambda: "f1",
    )


def taken(
    item: dict[str, Any], origin: Origin | None = None, book: Rulebook | None = None
) -> Admitted:
    """Decided at admission, and landed by another process."""
    origin = origin or live()
    out = Admitted()
    item = {"messageId": "m", **item}
    decision = Admission(IDENTIFIERS, book, PLACEHOLDERS).decide(item, origin)
    sent = msgspec.json.encode((item, decision))
    item, decision = msgspec.json.decode(sent, type=Sent)
    Admission(IDENTIFIERS).build_rows(item, decision, origin, out)
    return out


def carried(out: Admitted) -> set[tuple[str, str]]:
    """The identifiers of the one event that was admitted."""
    ((*values,),) = out.events
    row = dict(zip(Event.__struct_fields__, values, strict=True))
    found = {
        (identifier_type, value) for identifier_type, value, _ in row["identifiers"]
    }
    stored = json.loads(row["context"] or "{}").get("fingerprint")
    assert ("fingerprint", stored) in found or stored is None
    return found


def is_stamped(item: dict[str, Any], origin: Origin | None = None) -> bool:
    return ("fingerprint", "f1") in carried(taken(item, origin))


@pytest.mark.parametrize(
    "item",
    [
        {"type": "track", "event": "Seen"},
        {"type": "page", "name": "Home", "context": {"locale": "de-AT"}},
        {"type": "page", "context": []},  # how PHP writes an empty object
        {"type": "identify", "traits": {"plan": "free"}},
        {"type": "track", "event": "Seen", "userId": "", "anonymousId": None},
    ],
)
def test_an_event_without_identifiers_is_recognized_by_its_fingerprint(
    item: dict[str, Any],
) -> None:
    assert carried(taken(item)) == {("fingerprint", "f1")}


@pytest.mark.parametrize(
    "item",
    [
        {"type": "identify", "userId": "u1"},
        {"type": "identify", "userId": "u1", "anonymousId": "c1"},
        {"type": "identify", "userId": 7},
        {"type": "identify", "traits": {"email": "jane@acme.com"}},
        {"type": "identify", "anonymousId": "c1", "traits": {"phone": "+4930901820"}},
        {"type": "identify", "context": {"externalIds": [{"id": "1", "type": "crm"}]}},
        {"event": "$identify", "distinct_id": "c1", "properties": {"$user_id": "u1"}},
        {"event": "$identify", "distinct_id": "c1", "properties": {"$email": "j@a.co"}},
        {
            "event": "$identify",
            "distinct_id": "u1",
            "properties": {"$anon_distinct_id": "c1"},
        },
    ],
)
def test_the_identify_of_a_person_carries_the_fingerprint(item: dict[str, Any]) -> None:
    assert is_stamped(item)
    assert not is_stamped(item, live(Policy()))
    assert not is_stamped(item, live(Policy(fingerprint="advertising"), gpc=True))
    refused = {"consent": {"categoryPreferences": {"analytics": False}}}
    context = {**item.get("context", {}), **refused}
    assert not is_stamped({**item, "context": context})


@pytest.mark.parametrize(
    "item",
    [
        {"type": "identify", "anonymousId": "c1", "traits": {"plan": "free"}},
        {"type": "identify", "context": {"device": {"id": "d1"}}},
        {"type": "identify", "userId": "null", "anonymousId": "c1"},
        {"type": "identify", "userId": "Anonymous", "anonymousId": "c1"},
        {"type": "identify", "distinctId": "d1"},
        {"type": "track", "event": "Seen", "userId": "u1"},
        {"type": "track", "event": "Seen", "anonymousId": "c1"},
        {"type": "page", "userId": "u1", "anonymousId": "c1"},
        {"type": "group", "userId": "u1", "groupId": "acme"},
        {"type": "alias", "userId": "u1", "previousId": "c1"},
        {"event": "Seen", "distinct_id": "c1", "properties": {"$device_id": "c1"}},
    ],
)
def test_no_fingerprint_stands_beside_a_mere_cookie_or_on_what_a_person_does(
    item: dict[str, Any],
) -> None:
    assert not is_stamped(item)


def test_a_fingerprint_that_the_sender_made_stays_as_it_was_sent() -> None:
    view = {"type": "track", "event": "Seen", "context": {"fingerprint": "own"}}
    identify = {"type": "identify", "userId": "u1", "context": {"fingerprint": "own"}}
    for origin in (live(), live(Policy())):
        assert carried(taken(view, origin)) == {("fingerprint", "own")}
        assert carried(taken(identify, origin)) == {
            ("fingerprint", "own"),
            ("user_id", "u1"),
        }
    assert is_stamped({**identify, "context": {"fingerprint": None}})


def test_a_transformation_that_takes_the_person_away_leaves_no_fingerprint(
    rules: Rules,
) -> None:
    rules.transformation("match: {type: identify}\ndo: [remove: [user_id]]\n")
    identify = {"type": "identify", "userId": "u1", "anonymousId": "c1"}
    out = taken(identify, book=rules.load())
    assert carried(out) == {("anonymous_id", "c1")}


@pytest.mark.parametrize(
    "item",
    [
        {"type": "track", "event": "Seen"},
        {"type": "track", "event": "Seen", "context": {"locale": "de"}},
        {"event": "Seen", "uuid": "p1", "properties": {"$lib": "web"}},
        {"event": "Seen", "uuid": "p1", "properties": {}, "context": "no object"},
    ],
)
def test_a_view_that_was_quarantined_is_replayed_with_its_fingerprint(
    item: dict[str, Any],
) -> None:
    strict = Policy(fingerprint="analytics", unknown_events="quarantine")
    (row,) = taken(item, live(strict), Rulebook()).dispositions
    assert row.disposition == "quarantined"
    payload = json.loads(row.payload or "")
    unseen = live(Policy())  # a replay has no request to look at
    again = Admitted()
    Admission(IDENTIFIERS).admit(payload, unseen, again)
    assert carried(again) == {("fingerprint", "f1")}


def test_what_may_not_be_kept_leaves_no_fingerprint(rules: Rules) -> None:
    rules.contract("event: seen\nconsent: [advertising]\nschema: {}\n")
    agreed = {"consent": {"categoryPreferences": {"analytics": True}}}
    view = {"type": "track", "event": "Seen", "messageId": "m", "context": agreed}
    decision = Admission(IDENTIFIERS, rules.load()).decide(view, live())
    assert decision is not None and decision.disposition == "consent_filtered"
    assert b"f1" not in msgspec.json.encode(decision)
