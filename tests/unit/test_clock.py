"""Instants as clients write them, and the correction of their clocks."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.events.clock import (
    FUTURE_LIMIT,
    SKEW_LIMIT,
    correct,
    instant,
    isoformat,
)

SECOND = 1_000_000
MOMENT = 1_776_165_218 * SECOND  # 2026-04-14T11:13:38Z


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("2026-04-14T11:13:38Z", MOMENT),
        ("2026-04-14T11:13:38+00:00", MOMENT),
        ("2026-04-14T13:13:38+02:00", MOMENT),
        ("2026-04-14T13:13:38+0200", MOMENT),
        ("2026-04-14T04:13:38-07", MOMENT),
        ("2026-04-14T11:13:38", MOMENT),
        ("2026-04-14 11:13:38", MOMENT),
        ("2026-04-14 11:13:38 UTC", MOMENT),
        ("2026-04-14 11:13:38 GMT", MOMENT),
        ("2026-04-14t11:13:38z", MOMENT),
        (" 2026-04-14T11:13:38Z\n", MOMENT),
        ("20260414T111338Z", MOMENT),
        ("2026-04-14T11:13:38.5Z", MOMENT + 500_000),
        ("2026-04-14T11:13:38,500Z", MOMENT + 500_000),
        ("2026-04-14T11:13:38.123456Z", MOMENT + 123_456),
        ("2026-04-14T11:13:38.123456789Z", MOMENT + 123_456),
        ("2026-4-14T11:13:38Z", MOMENT),  # as in an example of Segment's batch call
        ("2026-04-14", MOMENT - (11 * 3600 + 13 * 60 + 38) * SECOND),
        ("20260414", MOMENT - (11 * 3600 + 13 * 60 + 38) * SECOND),
        ("1969-12-31T23:59:59Z", -SECOND),
        ("0001-01-01T00:00:00Z", -62_135_596_800 * SECOND),
        (1_776_165_218, MOMENT),
        (1_776_165_218.5, MOMENT + 500_000),
        (1_776_165_218.123456, MOMENT + 123_456),
        (1_776_165_218_000, MOMENT),
        (1_776_165_218_000_000, MOMENT),
        (1_776_165_218_000_000_000, MOMENT),
        ("1776165218", MOMENT),
        ("1776165218.25", MOMENT + 250_000),
        ("1776165218000", MOMENT),
        (" 1776165218000 ", MOMENT),
        ("1776165218000000", MOMENT),
        ("1612111310512", 1_612_111_310_512_000),  # also 1612-11-13T05:12
        (0, 0),
        ("0", 0),
        ("0000-01-01T00:00:00Z", None),
        ("10000-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("9999-12-31T23:59:59-14:00", None),
        ("2026-02-30T00:00:00Z", None),
        ("2026-04-14T25:00:00Z", None),
        (-1, None),
        ("-1776165218", None),
        (1e300, None),
        (float("inf"), None),
        (float("nan"), None),
        (10**30, None),
        ("nan", None),
        ("1_000", None),
        ("null", None),
        ("yesterday", None),
        ("", None),
        ("UTC UTC", None),
        (True, None),
        (None, None),
        ([], None),
        (["2026-04-14"], None),
        ({"$date": 1}, None),
    ],
)
def test_a_time_is_read_or_known_to_be_unreadable(sent: Any, read: int | None) -> None:
    assert instant(sent) == read


@given(st.datetimes(timezones=st.just(UTC)))
def test_what_is_written_is_read_back(moment: datetime) -> None:
    micros = instant(moment.isoformat())
    assert micros is not None
    assert datetime.fromisoformat(isoformat(micros)) == moment


@given(st.text() | st.from_regex(r"[-+0-9.:TZ ]{0,30}") | st.floats() | st.integers())
def test_nothing_raises_and_the_year_fits(value: Any) -> None:
    micros = instant(value)
    if micros is not None:
        assert instant(isoformat(micros)) == micros


@pytest.mark.parametrize(
    ("client", "sent_at", "timestamp", "skew_ms"),
    [
        (MOMENT - 5, MOMENT, MOMENT - 5, 0),
        (MOMENT - 5, None, MOMENT - 5, None),
        (MOMENT - 5, MOMENT - SKEW_LIMIT, MOMENT - 5, 0),
        (MOMENT - 5, MOMENT - SKEW_LIMIT - 1, MOMENT + SKEW_LIMIT - 4, 60_000),
        (
            MOMENT + 3_600 * SECOND,
            MOMENT + 3_700 * SECOND,
            MOMENT - 100 * SECOND,
            -3_700_000,
        ),
        (None, MOMENT, MOMENT, None),
        (MOMENT + FUTURE_LIMIT, None, MOMENT + FUTURE_LIMIT, None),
        (0, 250_000_000_000 * SECOND, -62_135_596_800 * SECOND, -248_223_834_782_000),
    ],
)
def test_a_wrong_clock_is_corrected_beyond_a_minute(
    client: int | None, sent_at: int | None, timestamp: int, skew_ms: int | None
) -> None:
    assert correct(client, sent_at, MOMENT, is_final=False) == (
        timestamp,
        skew_ms,
        False,
    )


def test_more_than_a_day_ahead_becomes_the_arrival() -> None:
    late = MOMENT + FUTURE_LIMIT + 1
    assert correct(late, None, MOMENT, is_final=False) == (MOMENT, None, True)
    assert correct(late, None, MOMENT, is_final=True) == (MOMENT, None, True)


def test_a_time_that_was_corrected_before_is_taken_as_it_is() -> None:
    sent_at = MOMENT - 3_600 * SECOND
    assert correct(MOMENT - 9, sent_at, MOMENT, is_final=True).timestamp == MOMENT - 9
