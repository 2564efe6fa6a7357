"""Reads instants as clients write them, and corrects wrong clocks.

Instants are integers, microseconds since 1970 in UTC.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

__all__ = ["FUTURE_LIMIT", "SKEW_LIMIT", "Corrected", "correct", "instant", "isoformat"]

SKEW_LIMIT = 60 * 1_000_000
"""Differences up to this many microseconds are not corrected."""

FUTURE_LIMIT = 24 * 3600 * 1_000_000
"""An event further ahead than this many microseconds gets its arrival time."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_NAIVE = datetime(1970, 1, 1)
_MICROSECOND = timedelta(microseconds=1)
# The years 1 to 9999: the range every engine and library supports.
_FIRST = (datetime.min - _EPOCH_NAIVE) // _MICROSECOND
_LAST = (datetime.max - _EPOCH_NAIVE) // _MICROSECOND
_NUMBER = re.compile(r"-?\d{1,19}(\.\d*)?", re.ASCII)
_SHORT_DATE = re.compile(r"^(\d{4})-(\d{1,2})-(\d{1,2})(?!\d)", re.ASCII)


class Corrected(NamedTuple):
    timestamp: int
    skew_ms: int | None  # added to the client's time; None: unknown
    is_future: bool  # the client's time was replaced by the arrival


def instant(value: Any) -> int | None:
    """Return microseconds since 1970, or None if the value is not an instant.

    Text is ISO 8601, UTC if it has no zone. Numbers, also as text, are seconds,
    milliseconds, microseconds or nanoseconds since 1970, distinguished by their size
    (seconds until the year 5138).
    """
    if type(value) is not str:
        return _since_1970(value) if type(value) in (int, float) else None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return _unusual(value)
    if moment.tzinfo:
        since = moment - _EPOCH
    elif len(value) != 8 and _NUMBER.fullmatch(value):
        # Thirteen digits also parse as a day and a time; eight are a day.
        return _since_1970(float(value))
    else:
        since = moment - _EPOCH_NAIVE
    micros = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    return micros if _FIRST <= micros <= _LAST else None


def _since_1970(value: int | float) -> int | None:
    if not 0 <= value < 1e20:  # NaN is neither
        return None
    if value < 1e17:
        scale = 1_000_000 if value < 1e11 else 1_000 if value < 1e14 else 1
        return round(value * scale)
    return int(value) // 1000


def _padded(date: re.Match[str]) -> str:
    year, month, day = date.groups()
    return f"{year}-{month:0>2}-{day:0>2}"


def _unusual(text: str) -> int | None:
    """Read digits, and ISO 8601 in lower case, with a zone name, or as `2015-2-02`."""
    if _NUMBER.fullmatch(text):
        return _since_1970(float(text))
    plain = _SHORT_DATE.sub(_padded, text.strip().upper())
    for zone in (" UTC", " GMT", " Z"):
        plain = plain.removesuffix(zone) + ("Z" if plain.endswith(zone) else "")
    return None if plain == text else instant(plain)


def correct(
    client: int | None, sent_at: int | None, received_at: int, *, is_final: bool
) -> Corrected:
    """Return the event's time from the client's time and the arrival.

    The difference between sending and arriving counts as the error of the client's
    clock if it exceeds SKEW_LIMIT. `is_final` keeps the client's time: a vendor's
    export has already corrected it, or the arrival is unknown.
    """
    if client is None:
        return Corrected(received_at, None, False)
    skew = 0
    skew_ms = None
    if not is_final and sent_at is not None:
        skew = received_at - sent_at
        if -SKEW_LIMIT <= skew <= SKEW_LIMIT:
            skew = 0
        skew_ms = skew // 1000
    timestamp = client + skew
    if timestamp - received_at > FUTURE_LIMIT:
        return Corrected(received_at, skew_ms, True)
    if timestamp < _FIRST:
        timestamp = _FIRST
    return Corrected(timestamp, skew_ms, False)


def isoformat(micros: int) -> str:
    """Format the instant as ISO 8601 text in UTC, at microsecond precision."""
    return (_EPOCH + timedelta(microseconds=micros)).isoformat(timespec="microseconds")
