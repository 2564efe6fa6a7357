"""Segment's warehouse schema, exported as one CSV file per table.

Every event is in its own table with its properties, and in `tracks` without them. CSV
loses column types; they are inferred from the values: a column is a number, a boolean,
a list or an object if all its values are. DuckDB streams the tables.
"""

import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb

from connectors.sources.layouts import Untranslatable, compact, instant, text

__all__ = ["is_export", "looks_like", "read", "translate"]

_TYPES = {
    "tracks": "track",
    "identifies": "identify",
    "pages": "page",
    "screens": "screen",
    "groups": "group",
    "aliases": "alias",
}
# Latest state per user or account, not events.
_STATE_TABLES = ("users", "accounts")
_TIMES = {
    "timestamp": "timestamp",
    "originalTimestamp": "original_timestamp",
    "sentAt": "sent_at",
    "receivedAt": "received_at",
}
_IDS = {
    "messageId": "id",
    "userId": "user_id",
    "anonymousId": "anonymous_id",
    "previousId": "previous_id",
    "groupId": "group_id",
}
_LOADED = ("uuid", "uuid_ts", "loaded_at")
_TEXT_COLUMNS = {*_TIMES.values(), *_IDS.values(), *_LOADED, "event", "event_text"}
_CONTEXT_OBJECTS = (
    "app",
    "campaign",
    "device",
    "library",
    "location",
    "network",
    "os",
    "page",
    "screen",
    "traits",
)
_NUMBER = r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?"
_MAX_ROW_BYTES = 32 << 20
_FETCH_ROWS = 1000
_CSV = re.compile(r"\.csv(\.gz)?$", re.IGNORECASE)


def is_export(files: Sequence[Path]) -> bool:
    """Return whether these CSV files of one folder are such a schema."""
    return any(_table(file) in _TYPES and "id" in _header(file) for file in files)


def looks_like(row: Any) -> bool:
    """Return False: this layout is a folder, not a row."""
    return False


def read(files: Sequence[Path]) -> Iterator[bytes]:
    """Yield every event of the tables as a JSON line, always in the same order.

    A line is `{"table", "row"}`, or `{"table", "reason"}` if it is unreadable.
    """
    by_table = {
        _table(file): file
        for file in sorted(files)
        if _table(file) not in _STATE_TABLES
    }
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        connection.execute("set temp_directory = ?", [folder])
        connection.execute("set memory_limit = '1GB'")
        connection.execute("set threads = 1")  # keeps the order of the file
        for table, file in by_table.items():
            others: list[Path] = []
            if table == "tracks":
                others = [by_table[name] for name in by_table if name not in _TYPES]
            try:
                yield from _rows(connection, table, file, others)
            except duckdb.Error as error:
                kind = type(error).__name__
                yield _line(table, "reason", f"rest of the file is unreadable ({kind})")


def translate(row: Any) -> dict[str, Any]:
    """Convert one row of a table to a call."""
    if not isinstance(row, dict) or not isinstance(row.get("table"), str):
        raise Untranslatable("row is not an object with its table")
    table, values_by_column = row["table"], row.get("row")
    if not isinstance(values_by_column, dict):
        raise Untranslatable(f"{table}: {row.get('reason', 'row is not an object')}")
    type_ = _TYPES.get(table, "track")
    columns = dict(values_by_column)
    call: dict[str, Any] = {
        "type": type_,
        **{key: instant(columns, column) for key, column in _TIMES.items()},
        **{key: text(columns.get(column)) for key, column in _IDS.items()},
    }
    if call["messageId"] is None:
        raise Untranslatable(f"{table}: id is missing")
    event = text(columns.get("event_text")) or text(columns.get("event"))
    if type_ == "track":
        call["event"] = event or table
    elif type_ in ("page", "screen"):
        call["name"] = text(columns.pop("name", None))
    context: dict[str, Any] = {}
    values = {}
    for column, value in columns.items():
        if value is None or column in _TEXT_COLUMNS:
            continue
        if column.startswith("context_"):
            _put(context, column.removeprefix("context_"), value)
        else:
            values[column] = value
    call["traits" if type_ in ("identify", "group") else "properties"] = values or None
    call["context"] = context
    return compact(call)


def _rows(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    file: Path,
    others: Sequence[Path],
) -> Iterator[bytes]:
    """Yield one table's rows; of `tracks`, only those without a table of their own."""
    header = _header(file)
    if "id" not in header:
        yield _line(table, "reason", "column id is missing")
        return
    select = _typed(connection, file, header)
    without = ""
    if others:
        ids = " union all ".join(
            f"select id from {_csv(other)}"
            for other in others
            if "id" in _header(other)
        )
        without = f"anti join ({ids}) using (id)" if ids else ""
    connection.execute("drop table if exists reject_errors")
    connection.execute("drop table if exists reject_scans")
    source = _csv(file, "store_rejects = true")
    result = connection.execute(f"select to_json({select}) from {source} {without}")
    prefix = b'{"table":%b,"row":' % json.dumps(table).encode()
    while rows := result.fetchmany(_FETCH_ROWS):
        for (value,) in rows:
            yield prefix + value.encode() + b"}\n"
    rejected = connection.execute(
        "select distinct line, error_type::text from reject_errors order by all"
    )
    for line, kind in rejected.fetchall():
        yield _line(table, "reason", f"line {line} is damaged ({kind.lower()})")


def _typed(
    connection: duckdb.DuckDBPyConnection, file: Path, header: Sequence[str]
) -> str:
    """Return a struct of the table's columns, with non-text values as JSON."""
    open_columns = [name for name in header if name not in _TEXT_COLUMNS]
    is_json: set[str] = set()
    if open_columns:
        tests = ", ".join(
            f"bool_and(regexp_full_match({name}, '{_NUMBER}')"
            f" or {name} in ('true', 'false')),"
            f" bool_and({name}[1] in ('[', '{{') and json_valid({name}))"
            for name in map(_quoted, open_columns)
        )
        result = connection.execute(f"select {tests} from {_csv(file)}").fetchone()
        answers = iter(result or ())
        pairs = zip(open_columns, answers, answers, strict=True)
        is_json = {
            name for name, is_scalar, is_nested in pairs if is_scalar or is_nested
        }
    members = (
        f"{_quoted(name)} := {_quoted(name)}{'::json' if name in is_json else ''}"
        for name in header
    )
    return f"struct_pack({', '.join(members)})"


def _csv(file: Path, option: str = "ignore_errors = true") -> str:
    path = str(file).replace("'", "''")
    return (
        f"read_csv('{path}', all_varchar = true, header = true, delim = ',',"
        f""" quote = '"', escape = '"', max_line_size = {_MAX_ROW_BYTES},"""
        f" buffer_size = {2 * _MAX_ROW_BYTES}, {option})"
    )


def _header(file: Path) -> list[str]:
    """Return the column names as DuckDB reads them; none for an unreadable file."""
    try:
        with duckdb.connect() as connection:
            result = connection.execute(f"from {_csv(file)} limit 0")
            return [column[0] for column in result.description or ()]
    except duckdb.Error:
        return []


def _table(file: Path) -> str:
    return _CSV.sub("", file.name).lower()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _line(table: str, key: str, value: str) -> bytes:
    return json.dumps({"table": table, key: value}).encode() + b"\n"


def _put(context: dict[str, Any], name: str, value: Any) -> None:
    """Undo the flattening of the context's well-known objects."""
    head, _, rest = name.partition("_")
    if name == "user_agent":
        context["userAgent"] = value
    elif rest and head in _CONTEXT_OBJECTS:
        member = context.setdefault(head, {})
        if isinstance(member, dict):
            member[rest] = value
    else:
        context[name] = value
