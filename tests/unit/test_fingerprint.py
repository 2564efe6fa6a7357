"""Fingerprints: the same within a day, linked to nobody after it, never unasked."""

import multiprocessing
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.events.fingerprint import PERIOD_S, Fingerprints, wanted
from connectors.events.policy import NoConsent, Policy
from connectors.landing.home import Home

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
    assert wanted(policy, statement, gpc) is is_wanted
