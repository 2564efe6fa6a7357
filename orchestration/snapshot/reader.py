"""Reads the published snapshot, in its own in-memory database."""

import os
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import duckdb
import msgspec

from connectors.errors import ConfigError
from connectors.home import Home
from orchestration.snapshot.retention import current_version

__all__ = [
    "Snapshot",
    "SnapshotFile",
    "SnapshotTable",
    "open_script",
    "open_snapshot",
    "qualified_name",
    "quote_name",
    "quote_text",
    "read_snapshot",
]

_SAFE: dict[str, str | bool | int | float | list[str]] = {
    "allow_community_extensions": False,
    "allow_persistent_secrets": False,  # the user's, for other tools
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,  # Python variables as tables
}


class SnapshotFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a table. `hash` is the same for the same rows, in any order."""

    path: str  # below the version's folder
    rows: int
    bytes: int
    hash: str


class SnapshotTable(msgspec.Struct, frozen=True, kw_only=True):
    """One table; `hash` covers all its rows.

    For a raw stream `load_seq` is the last load whose rows count: a compacted file may
    contain later ones. None for other tables.
    """

    schema: str
    name: str
    columns: dict[str, str]  # name → DuckDB type
    rows: int
    hash: str
    files: tuple[SnapshotFile, ...]
    load_seq: int | None = None


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A version, as described by its snapshot.json."""

    version: str
    at: datetime  # the run's as-of instant
    published_at: datetime
    layout: int
    tables: tuple[SnapshotTable, ...]


def read_snapshot(home: Home) -> Snapshot:
    """Return the description of the current version.

    Raises:
        ConfigError: nothing has been published yet.
    """
    version = current_version(home)
    if version is None:
        raise ConfigError(
            f"Nothing has been published in {home.path} yet. Run `loomline run` first."
        )
    path = home.published / version / "snapshot.json"
    return msgspec.json.decode(path.read_bytes(), type=Snapshot)


def open_snapshot(
    home: Home, snapshot: Snapshot | None = None, *, is_safe: bool = True
) -> duckdb.DuckDBPyConnection:
    """Open an in-memory database with the published tables under their public names.

    It stays on one version, by default the current one, whatever is published
    meanwhile. It takes no lock and waits for nothing.

    A safe connection opens only the version's files, loads no extension, and locks
    these settings. DuckDB does not distinguish reading from writing there: code that
    runs untrusted statements must refuse those that write files (COPY and the like).

    Raises:
        ConfigError: nothing has been published yet.
        ConfigError: nothing is published yet.
    """
    snapshot = snapshot or read_snapshot(home)
    connection = duckdb.connect(config=_SAFE if is_safe else {})
    connection.execute("set TimeZone = 'UTC'")
    # DuckDB would otherwise spill below the working directory.
    spill = Path(tempfile.gettempdir()) / f"loomline-{os.getuid()}"
    spill.mkdir(mode=0o700, exist_ok=True)
    connection.execute(f"set temp_directory = {quote_text(str(spill))}")
    for statement in _statements(home, snapshot):
        connection.execute(statement)
    # `show tables` lists them all, and a unique table name needs no schema.
    schemas = ["main", *dict.fromkeys(table.schema for table in snapshot.tables)]
    connection.execute(f"set search_path = {quote_text(','.join(schemas))}")
    if is_safe:
        folder = home.published / snapshot.version
        files = (file.path for table in snapshot.tables for file in table.files)
        allowed = ", ".join(quote_text(str(folder / path)) for path in files)
        connection.execute(f"set allowed_paths = [{allowed}]")
        connection.execute("set enable_external_access = false")
        connection.execute("set lock_configuration = true")
    return connection


def _statements(home: Home, snapshot: Snapshot) -> Iterator[str]:
    """Yield SQL that creates a version's tables in an empty DuckDB.

    The database has the warehouse's name, so that the models' compiled SQL works, too.
    """
    folder = home.published / snapshot.version
    yield "attach ':memory:' as warehouse"
    yield "use warehouse"
    for schema in dict.fromkeys(table.schema for table in snapshot.tables):
        yield f"create schema {quote_name(schema)}"
    for table in snapshot.tables:
        columns = ", ".join(
            f"{quote_name(column)}::{kind} as {quote_name(column)}"
            if is_wide(kind)
            else quote_name(column)
            for column, kind in table.columns.items()
        )
        files = ",\n    ".join(
            quote_text(str(folder / file.path)) for file in table.files
        )
        options, condition = "hive_partitioning = false", ""
        if table.load_seq is not None:
            # Only compacted files have the column; in others all rows count.
            options += ", union_by_name = true"
            condition = f"\nwhere coalesce(load_seq, 0) <= {table.load_seq}"
        yield (
            f"create view {qualified_name(table.schema, table.name)} as\n"
            f"select {columns}\n"
            f"from read_parquet([\n    {files}\n], {options}){condition}"
        )


def open_script(home: Home, snapshot: Snapshot) -> bytes:
    lines = [
        f"-- The published tables, version {snapshot.version}, for a DuckDB in memory:",
        "-- duckdb -init …/published/current/open.sql",
    ]
    lines += [f"{statement};" for statement in _statements(home, snapshot)]
    return ("\n".join(lines) + "\n").encode()


def qualified_name(schema: str, name: str) -> str:
    return f"{quote_name(schema)}.{quote_name(name)}"


def quote_name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def quote_text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def is_wide(kind: str) -> bool:
    """Return whether Parquet lacks the type; DuckDB would round it to a double."""
    return "HUGEINT" in kind
