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
"""The values of the columns that are taken, in their order."""

MAX_CACHED = 50_000
FAILURE_CACHE_S = 5.0
"""How long a key that got no answer is not asked again."""

_FAILURES_IN_A_ROW = 5  # after so many, nobody is asked for FAILURE_CACHE_S
_MAX_ANSWER_BYTES = 1 << 20
_CLIMBS = re.compile(r"\.\.|[/\\\x00-\x1f\x7f-\x9f]")
_MAX_ENCODINGS = 3  # one over the other; no id needs more than one


class Unanswered(Exception):
    """The service did not answer as it should; the fallback is used, and it is said."""


class UnsafeKey(Exception):
    """The key would lead to another path than the one the lookup is for."""


class Lookup(Protocol):
    """Where values are found."""

    waits: bool  # whether finding may take as long as a call over the network

    def find(self, key: str) -> Row | None:
        """The values for a key; None when nothing is known of it.

        Raises:
            Unanswered: nobody knows whether anything is known.
            UnsafeKey: the key is not asked for.
        """


class Table:
    """A CSV or Parquet file, held in memory."""

    waits = False

    def __init__(self, path: Path, key_column: str | None, columns: Sequence[str]):
        """Read the file.

        Without `key_column` its first column is the key.

        Raises:
            ValueError: the file cannot be used; the text says why.
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
                raise ValueError(f"row {number}: its {key_column} stands there twice")
            self._rows[key] = tuple(row[place] for place in places)

    def find(self, key: str) -> Row | None:
        return self._rows.get(key)


class Known:
    """The answer of an example, where nobody is asked."""

    def __init__(self, answer: Any, columns: Sequence[str]) -> None:
        self.waits = False
        self._answer = answer
        self._columns = columns

    def find(self, key: str) -> Row | None:
        return _taken(self._answer, self._columns)


Answer = tuple[float, Row | None, bool]
"""Until when it holds, the values, whether the service failed."""


class Url:
    """A service that answers with a JSON object; answers are kept for a while.

    May be asked from several threads at once.
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
        """`url` holds `{key}` behind the host's name.

        Raises:
            ValueError: it does not, or is no address.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("an address begins with https:// and a host")
        if "{key}" in parts.netloc or "{key}" not in url.partition("#")[0]:
            raise ValueError("{key} must stand in the path or the query")
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
        import httpx  # 0.1 s that only who looks things up by address waits for

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
                # 404 and the like say something of the key, the others of the service.
                is_down = response.status_code in (401, 403, 429) or (
                    response.status_code >= 500
                )
                if response.status_code == 200:
                    is_down = True
                    row = _taken(self._read(response), self._columns)
                    is_down = False
        except (httpx.HTTPError, httpx.InvalidURL, Unanswered, ValueError):
            pass  # `row` is None: told to the caller, and remembered for a short while
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
        # The client's timeout is for each piece; a service that sends a byte at a time
        # would take for ever.
        ends_at = self._clock() + self._timeout_s
        body = bytearray()
        for piece in response.iter_bytes():
            body += piece
            if len(body) > _MAX_ANSWER_BYTES or self._clock() > ends_at:
                raise Unanswered
        return decode_item(bytes(body))


def _is_one_segment(key: str) -> bool:
    """Whether a key stays one segment of a path, however often a server decodes it."""
    for _ in range(_MAX_ENCODINGS + 1):
        if key in ("", ".") or _CLIMBS.search(key):
            return False
        try:
            decoded = unquote(key, errors="strict")
        except UnicodeDecodeError:  # as `%c0%ae`, which some servers take for a dot
            return False
        if decoded == key:
            return True
        key = decoded
    return False


def _taken(answer: Any, columns: Sequence[str]) -> Row | None:
    """The columns of an answer; they may be paths of nested objects."""
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
    import pyarrow.parquet as pq  # as slow to load as all the rest of admission

    table = pq.read_table(path)
    columns = [map(_json, column.to_pylist()) for column in table.columns]
    return table.column_names, zip(*columns, strict=True)


def _json(value: Any) -> Any:
    """A value of Parquet as JSON has it; days, decimals and the like are text."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


_READ: dict[str, Callable[[Path], tuple[list[str], Iterator[Sequence[Any]]]]] = {
    ".csv": _csv,
    ".parquet": _parquet,
}
