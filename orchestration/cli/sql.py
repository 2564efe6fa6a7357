"""`loomline sql`: query the published snapshot, once or at a prompt."""

import contextlib
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import msgspec
from duckdb import StatementType as Kind
from rich.console import Console
from rich.table import Table
from rich.text import Text

from connectors.errors import LoomlineError
from connectors.home import Home
from orchestration.snapshot.reader import Snapshot, open_snapshot, read_snapshot

__all__ = ["QueryFailed", "answer", "ask", "prompt"]

Say = Callable[[str], None]

SHOWN_ROWS = 50
"""Rows of an answer on a terminal; pipes and --json get all rows."""

COUNTED_ROWS = 100_000
"""Limit for counting the other rows, since counting means fetching them."""

LISTED_TABLES = 12
"""Tables per schema that are listed when the prompt starts."""

SHOWN_RECORDS = 10
"""Rows shown as records on a terminal, with a line per column."""

_HELP = frozenset(("help", ".help", "?", "\\?", "\\h"))
_TABLES = frozenset((".tables", "\\d", "\\dt", "\\dt+", "\\d+"))
_END = frozenset(("exit", "quit", ".exit", ".quit", "\\q"))
"""Commands of other shells, which need no semicolon."""

_ALL_TABLES = (
    "select table_schema as schema, table_name as name from information_schema.tables "
    "order by all"
)
_DESCRIBE = re.compile(r"(?:\\d\+?|\.schema|describe|desc)\s+([\w.\"]+)", re.IGNORECASE)
_SHOW = re.compile(r"show\s+(?:all\s+)?tables", re.IGNORECASE)

_HINTS = """\
End a statement with ; and the prompt with Ctrl-D.
  .tables or \\d             list all tables
  \\d profiles.profiles      list the columns of a table
  from profiles.profiles;    a whole query"""

_READING = frozenset(
    (
        *(Kind.SELECT, Kind.TRANSACTION, Kind.SET, Kind.VACUUM),
        # These change memory only.
        *(Kind.CREATE, Kind.CREATE_FUNC, Kind.ALTER, Kind.DROP),
        *(Kind.INSERT, Kind.UPDATE, Kind.DELETE, Kind.MERGE_INTO),
    )
)
"""Statements allowed without --unsafe. Others write files, load extensions or wrap such
statements; DuckDB's settings keep the allowed ones from accessing files."""

_EXPLAIN = re.compile(
    r"(?:\s|--[^\r\n]*[\r\n])*explain(?:\s+analyze)?\b"
    r"(?:\s*\(\s*(?:analyze|format)\b[^()]*\))?",
    re.IGNORECASE,
)
_KEPT = re.compile(r"configuration has been locked|in the \w+ extension")
_KEPT_SAFE = (
    "`loomline sql` reads published tables only: no other files, no extensions, "
    "no settings. Add --unsafe to allow this."
)


class QueryFailed(LoomlineError):
    """DuckDB could not parse or run a statement; carries its message."""


def ask(home: Home, query: str, *, say: Say, is_safe: bool = True) -> None:
    """Run the statements and print each answer as a table.

    Raises:
        QueryFailed: a statement failed; the answers before it are printed.
        ConfigError: nothing has been published yet.
    """
    if query.strip().rstrip(";").lower() in _HELP:
        say(_HINTS)
        return
    with contextlib.closing(_open(home, read_snapshot(home), say, is_safe)) as tables:
        _print_answers(tables, _in_sql(query), _console())


def answer(home: Home, query: str, *, say: Say, is_safe: bool = True) -> dict[str, Any]:
    """Return the last statement's answer for --json: column names, and rows as lists.

    Raises:
        QueryFailed: a statement failed.
        ConfigError: nothing has been published yet.
    """
    columns: list[str] = []
    rows: list[list[Any]] = []
    with contextlib.closing(_open(home, read_snapshot(home), say, is_safe)) as tables:
        for statement in tables.statements(_in_sql(query)):
            columns, rows = [], []
            if tables.execute(statement):
                columns = tables.columns
                rows = [[_plain(cell) for cell in row] for row in tables.fetch()]
    return {"columns": columns, "rows": rows}


def prompt(home: Home, *, say: Say, is_safe: bool = True) -> None:
    """Run statements from the terminal until Ctrl-D, and print their errors.

    Raises:
        ConfigError: nothing has been published yet.
    """
    console = _console()
    snapshot = read_snapshot(home)
    tables = _open(home, snapshot, say, is_safe)
    say(_listing(snapshot, LISTED_TABLES))
    say(
        "End a statement with ; and the prompt with Ctrl-D. `.tables` lists all tables,"
        " `help` shows more."
    )
    with _history():
        text = ""
        while True:
            try:
                text += input("   ...> " if text else "loomline> ") + "\n"
                word = text.strip().rstrip(";").lower()
                if word in _END:
                    break
                if not word or word in _HELP or word in _TABLES:
                    if word:
                        say(_HINTS if word in _HELP else _listing(snapshot))
                    text = ""
                    continue
                text = _in_sql(text)
                if not sqlite3.complete_statement(text):  # knows quotes and comments
                    continue
                if not (home.published / snapshot.version).is_dir():
                    # The prompt has outlived the version it opened.
                    snapshot = read_snapshot(home)
                    tables.close()
                    tables = _open(home, snapshot, say, is_safe)
                _print_answers(tables, text, console)
            except EOFError:
                say("")
                break
            except KeyboardInterrupt:
                say("")
            except QueryFailed as error:
                say(str(error))
            text = ""
    tables.close()


def _in_sql(text: str) -> str:
    """Translate a command of another shell to SQL; return other text unchanged."""
    word = text.strip().rstrip(";").rstrip()
    if word.lower() in _TABLES:
        return f"{_ALL_TABLES};"
    if described := _DESCRIBE.fullmatch(word):
        return f"describe {described[1]};"
    return f"{word};" if _SHOW.fullmatch(word) else text


def _listing(snapshot: Snapshot, most: int | None = None) -> str:
    """List the tables by schema; count those of a schema with more than `most`."""
    schemas: dict[str, list[str]] = {}
    for table in snapshot.tables:
        schemas.setdefault(table.schema, []).append(table.name)
    width = max(map(len, schemas), default=0)
    return "\n".join(
        f"{schema:{width}}  "
        + (
            f"{len(names)} tables"
            if most is not None and len(names) > most
            else ", ".join(sorted(names))
        )
        for schema, names in sorted(schemas.items())
    )


def _open(home: Home, snapshot: Snapshot, say: Say, is_safe: bool) -> "_Tables":
    say(f"Version {snapshot.version}, as of {snapshot.at:%Y-%m-%d %H:%M} UTC")
    return _Tables(open_snapshot(home, snapshot, is_safe=is_safe), is_safe)


@contextlib.contextmanager
def _history() -> Iterator[None]:
    """Keep a history for the arrow keys, if Python was built with readline."""
    try:
        import readline
    except ImportError:
        yield
        return
    path = Path("~/.loomline_history").expanduser()
    with contextlib.suppress(OSError):
        path.touch(0o600)  # a statement may name a person
        readline.read_history_file(path)
    readline.set_history_length(1000)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            readline.write_history_file(path)


# Statements


class _Tables:
    """A connection to the published tables that checks statements."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, is_safe: bool) -> None:
        self._connection = connection
        self._is_safe = is_safe

    def close(self) -> None:
        self._connection.close()

    def statements(self, query: str) -> list[duckdb.Statement]:
        with self._failures():
            # On this connection: parsing IMPORT DATABASE reads the files it names.
            return self._connection.extract_statements(query)

    def execute(self, statement: duckdb.Statement) -> bool:
        """Run a statement and return whether it has an answer."""
        if self._is_safe and not self._is_reading(statement):
            raise QueryFailed(f"Not run: {_shortened(statement)}\n{_KEPT_SAFE}")
        with self._failures():
            self._connection.execute(statement)
        kinds = statement.expected_result_type
        return (
            duckdb.ExpectedResultType.QUERY_RESULT in kinds
            and duckdb.ExpectedResultType.NOTHING not in kinds
        )

    def fetch(self, count: int | None = None) -> list[tuple[Any, ...]]:
        """Fetch rows; a streamed answer can still fail here."""
        with self._failures():
            if count is None:
                return self._connection.fetchall()
            return self._connection.fetchmany(count)

    @property
    def columns(self) -> list[str]:
        return [column[0] for column in self._connection.description or ()]

    def _is_reading(self, statement: duckdb.Statement) -> bool:
        if statement.type != Kind.EXPLAIN:
            return statement.type in _READING
        explained = _EXPLAIN.match(statement.query)  # EXPLAIN ANALYZE runs the query
        if explained is None:
            return False
        inner = self.statements(statement.query[explained.end() :])
        return [one.type for one in inner] == [Kind.SELECT]

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except duckdb.Error as error:
            text = str(error)
            if self._is_safe and (
                isinstance(error, duckdb.PermissionException) or _KEPT.search(text)
            ):
                text = f"{text}\n{_KEPT_SAFE}"
            raise QueryFailed(text) from error
        except RuntimeError as error:
            if isinstance(error.__cause__, KeyboardInterrupt):  # DuckDB's Ctrl-C
                # Otherwise the next statement may wait for threads that still run.
                self._connection.interrupt()
                raise KeyboardInterrupt from error
            raise


def _shortened(statement: duckdb.Statement) -> str:
    text = " ".join(statement.query.split())
    return text if len(text) <= 80 else f"{text[:79]}…"


# Output


def _console() -> Console:
    """Return a console that never truncates or wraps output to files and pipes."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=1_000_000)


def _print_answers(tables: _Tables, query: str, console: Console) -> None:
    for statement in tables.statements(query):
        if not tables.execute(statement):
            continue
        columns = tables.columns
        if statement.type == duckdb.StatementType.EXPLAIN:
            for row in tables.fetch():  # one drawing per row
                console.out(row[-1], highlight=False)
            continue
        if not console.is_terminal:
            console.print(_table(columns, tables.fetch()))
            continue
        rows = tables.fetch(SHOWN_ROWS)
        more = 0
        while more < COUNTED_ROWS and (chunk := tables.fetch(10_000)):
            more += len(chunk)
        table = _table(columns, rows)
        unbounded = console.options.update(max_width=1_000_000)
        if console.measure(table, options=unbounded).maximum > console.width:
            more += max(len(rows) - SHOWN_RECORDS, 0)
            for number, row in enumerate(rows[:SHOWN_RECORDS], 1):
                console.print(_list(columns, row, number))
        else:
            console.print(table)
        if more:
            count = f"{more:,}" if more < COUNTED_ROWS else f"{COUNTED_ROWS:,} or more"
            console.print(f"{count} more rows; add a limit, or pipe to see all of them")


def _table(columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> Table:
    table = Table()
    for number, column in enumerate(columns):
        is_number = any(
            isinstance(row[number], (int, float)) and not isinstance(row[number], bool)
            for row in rows[:SHOWN_ROWS]
        )
        table.add_column(
            Text(_visible(column)),
            justify="right" if is_number else "left",
            no_wrap=True,
        )
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    return table


def _list(columns: Sequence[str], row: tuple[Any, ...], number: int) -> Table:
    """Return a row as a record, with a line per column."""
    table = Table(title=f"row {number}", title_justify="left", show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for column, value in zip(columns, row, strict=True):
        table.add_row(Text(_visible(column)), _cell(value))
    return table


def _cell(value: Any) -> Text:
    if value is None:
        return Text("NULL", style="dim")
    return Text(_visible(str(value)))


def _visible(text: str) -> str:
    """Escape control characters, which events from strangers may contain."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else repr(character)[1:-1]
        for character in text
    )


def _plain(value: Any) -> Any:
    """Return a JSON value; integers beyond 64 bits become text, as in events."""
    if isinstance(value, Decimal):
        return msgspec.Raw(str(value).encode())  # a number with all its digits
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return str(value)
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {
            key if isinstance(key, str) else str(key): _plain(each)
            for key, each in value.items()
        }
    return value
