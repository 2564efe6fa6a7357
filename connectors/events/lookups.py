"""Lookups: enrich an event from a table or an HTTP service."""

import csv
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, unquote, urlsplit

from connectors.events.decode import decode_item
from connectors.events.naming import as_text

if TYPE_CHECKING:
    import httpx

__all__ = ["Answer", "Known", "Lookup", "Table", "Unanswered", "UnsafeKey", "Url"]

Row = tuple[Any, ...]
"""The values of the requested columns, in order."""

MAX_CACHED = 50_000
FAILURE_CACHE_S = 5.0
"""How long a key without an answer is not requested again."""

_FAILURES_IN_A_ROW = 5  # after so many, no requests for FAILURE_CACHE_S
_MAX_ANSWER_BYTES = 1 << 20
_CLIMBS = re.compile(r"\.\.|[/\\\x00-\x1f\x7f-\x9f]")
_MAX_ENCODINGS = 3  # nested percent-encodings; no id needs more than one


class Unanswered(Exception):
    """The service gave no usable answer; the fallback is used and flagged."""


class UnsafeKey(Exception):
    """The key would change the path of the request."""


class Lookup(Protocol):
    """A source of values by key."""

    waits: bool  # whether `find` may take as long as a network call

    def find(self, key: str) -> Row | None:
        """Return the values for a key, or None if the key is unknown.

        Raises:
            Unanswered: the service did not tell whether the key is known.
            UnsafeKey: the key is not safe to put into the address.
        """


class Table:
    """A CSV or Parquet file, held in memory."""

    waits = False

    def __init__(self, path: Path, key_column: str | None, columns: Sequence[str]):
        """Read the file.

        Without `key_column` the first column is the key.

        Raises:
            ValueError: the file is not usable; the message says why.
        """
        try:
            names, rows = _READ[path.suffix](path)
        except KeyError:
            raise ValueError("a table is a .csv or .parquet file") from None
        except (OSError, ValueError, csv.Error) as error:
            raise ValueError(f"not readable ({type(error).__name__})") from None
        key_column = key_column or (names[0] if names else "")
        unknown = [name for name in (key_column, *columns) if name not in names]
        if unknown:
            raise ValueError(
                f"has no column {', '.join(unknown)}; it has {', '.join(names)}"
            )
        places = [names.index(name) for name in columns]
        key_place = names.index(key_column)
        self._rows: dict[str, Row] = {}
        for number, row in enumerate(rows, 1):
            key = as_text(row[key_place])
            if key is None:
                continue
            if key in self._rows:
                raise ValueError(f"row {number}: its {key_column} is a duplicate")
            self._rows[key] = tuple(row[place] for place in places)

    def find(self, key: str) -> Row | None:
        return self._rows.get(key)


class Known:
    """An example's fixed answer; makes no request."""

    def __init__(self, answer: Any, columns: Sequence[str]) -> None:
        self.waits = False
        self._answer = answer
        self._columns = columns

    def find(self, key: str) -> Row | None:
        return _taken(self._answer, self._columns)


Answer = tuple[float, Row | None, bool]
"""Expiry, values, and whether the service failed."""


class Url:
    """A service that answers with a JSON object; answers are cached.

    Thread-safe.
    """

    waits = True

    def __init__(
        self,
        url: str,
        columns: Sequence[str],
        *,
        timeout_s: float = 0.5,
        cache_s: float = 3600,
        headers: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`url` contains `{key}` after the host name.

        Raises:
            ValueError: it does not, or is not a valid address.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("an address must begin with https:// and a host")
        if "{key}" in parts.netloc or "{key}" not in url.partition("#")[0]:
            raise ValueError("{key} must be in the path or the query")
        self._url = url
        self._is_in_path = "{key}" in parts.path
        self._columns = columns
        self._timeout_s = timeout_s
        self._cache_s = cache_s
        self._headers = dict(headers or {})
        self._clock = clock
        self._lock = threading.Lock()
        self._client: httpx.Client | None = None
        self._answers: dict[str, Answer] = {}
        self._failures = 0  # in a row
        self._paused_until = clock()

    def find(self, key: str) -> Row | None:
        if self._is_in_path and not _is_one_segment(key):
            raise UnsafeKey
        now = self._clock()
        answer = self._answers.get(key)
        if answer is None or answer[0] <= now:
            if self._paused_until > now:
                raise Unanswered
            answer = self._asked(key)
            with self._lock:
                self._answers.pop(key, None)
                while len(self._answers) >= MAX_CACHED:  # the oldest goes first
                    del self._answers[next(iter(self._answers))]
                self._answers[key] = answer
        if answer[2]:
            raise Unanswered
        return answer[1]

    def _asked(self, key: str) -> Answer:
        import httpx  # takes 0.1 s, which only lookups by address should pay

        with self._lock:
            if self._client is None:
                self._client = httpx.Client(
                    timeout=self._timeout_s, headers=self._headers
                )
        url = self._url.replace("{key}", quote(key, safe=""))
        is_down = True
        row: Row | None = None
        try:
            with self._client.stream("GET", url) as response:
                # 404 and the like are about the key, the others about the service.
                is_down = response.status_code in (401, 403, 429) or (
                    response.status_code >= 500
                )
                if response.status_code == 200:
                    is_down = True
                    row = _taken(self._read(response), self._columns)
                    is_down = False
        except (httpx.HTTPError, httpx.InvalidURL, Unanswered, ValueError):
            pass  # `row` stays None: the caller raises, and the failure is cached
        now = self._clock()
        with self._lock:
            self._failures = self._failures + 1 if is_down else 0
            if self._failures >= _FAILURES_IN_A_ROW:
                self._paused_until = now + FAILURE_CACHE_S
                self._failures = 0
        if row is None:
            return now + FAILURE_CACHE_S, None, True
        return now + self._cache_s, row, False

    def _read(self, response: "httpx.Response") -> Any:
        # The client's timeout applies to each chunk; a service that sends one byte at
        # a time would never hit it.
        ends_at = self._clock() + self._timeout_s
        body = bytearray()
        for piece in response.iter_bytes():
            body += piece
            if len(body) > _MAX_ANSWER_BYTES or self._clock() > ends_at:
                raise Unanswered
        return decode_item(bytes(body))


def _is_one_segment(key: str) -> bool:
    """Return whether a key stays one path segment, however often it is decoded."""
    for _ in range(_MAX_ENCODINGS + 1):
        if key in ("", ".") or _CLIMBS.search(key):
            return False
        try:
            decoded = unquote(key, errors="strict")
        except UnicodeDecodeError:  # such as `%c0%ae`, which some servers read as a dot
            return False
        if decoded == key:
            return True
        key = decoded
    return False


def _taken(answer: Any, columns: Sequence[str]) -> Row | None:
    """Return the columns of an answer; a column may be a path into nested objects."""
    if type(answer) is not dict:
        return None
    row = []
    for column in columns:
        value: Any = answer
        for step in [column] if column in answer else column.split("."):
            value = value.get(step) if type(value) is dict else None
        row.append(value)
    return tuple(row)


def _csv(path: Path) -> tuple[list[str], Iterator[Sequence[Any]]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, strict=True)
        names = next(reader, [])
        rows = [[cell or None for cell in row] for row in reader if row]
    if any(len(row) != len(names) for row in rows):
        raise ValueError("rows differ in length")
    return names, iter(rows)


def _parquet(path: Path) -> tuple[list[str], Iterator[Sequence[Any]]]:
    import pyarrow.parquet as pq  # takes as long to load as the rest of admission

    table = pq.read_table(path)
    columns = [map(_json, column.to_pylist()) for column in table.columns]
    return table.column_names, zip(*columns, strict=True)


def _json(value: Any) -> Any:
    """Convert a Parquet value to JSON's types; dates, decimals and the like to text."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


_READ: dict[str, Callable[[Path], tuple[list[str], Iterator[Sequence[Any]]]]] = {
    ".csv": _csv,
    ".parquet": _parquet,
}
