"""The published snapshot: what readers read while runs write the warehouse.

    published/
        20261121T150000Z-0007/
            staging/events/2026-11.parquet
            raw/dispositions/….parquet
            …
            snapshot.json       what is in it
            open.sql            the tables under their public names, in any DuckDB
        current                 a link to the version that is whole and newest

A version is never changed once `current` has named it. It shares the files that did
not change with the version before it (hard links), so a run writes what it changed.
Files of the raw streams never change: a version links them and writes nothing.
"""

import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import msgspec

from connectors.errors import ConfigError, LoomlineError
from connectors.home import Home
from connectors.landing.manifest import Manifest, replace_file, sync_folder
from connectors.landing.writer import ROW_GROUP

__all__ = [
    "PARTITIONED",
    "READERS_S",
    "PublishFailed",
    "Published",
    "Snapshot",
    "SnapshotFile",
    "SnapshotTable",
    "open_snapshot",
    "publish",
    "read_snapshot",
]

READERS_S = 3600.0
"""A version that is neither current nor the one before is deleted this long after it
was replaced. A reader that began with it has that time to end."""

PARTITIONED = {
    "staging.events": "received_at",
    "staging.dispositions": "received_at",
    "profiles.profile_events": "timestamp",
}
"""Tables that only grow, and the column that tells which of their files grows."""

PART_ROWS = 250_000
"""A month is one file until it holds more rows than this, then a file a day, then an
hour. So many rows of staging.events take 1.4 s to write; smaller files would be
thousands after a few years."""

SCHEMAS = ("staging", "events", "identity", "profiles", "audiences", "destinations")
ALONE = ("raw.loads",)

STREAMS = ("raw.dispositions", "raw.received_counts")
"""Raw streams that are published, as the files they are."""

NEWEST = "staging.int_dispositions"
"""Its newest load is the last that the models have seen. A version shows the streams up
to there, so that received = admitted + refused = accepted + … holds within it."""

LAYOUT = 1
"""Rises when files of older versions can no longer be shared."""


_SAFE: dict[str, str | bool | int | float | list[str]] = {
    "allow_community_extensions": False,
    "allow_persistent_secrets": False,  # those of the user, for other tools
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,  # variables of this program as tables
}


class PublishFailed(LoomlineError):
    """Nothing was published; readers go on with the version they have."""


class SnapshotFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a table. `hash` tells whether its rows are the same, in any order."""

    path: str  # below the version's folder
    rows: int
    bytes: int
    hash: str


class SnapshotTable(msgspec.Struct, frozen=True, kw_only=True):
    """One table; `hash` is of all its rows.

    `load_seq` is the last load whose rows count, of a raw stream: a compacted file may
    hold later ones. None for other tables.
    """

    schema: str
    name: str
    columns: dict[str, str]  # and DuckDB's type of each
    rows: int
    hash: str
    files: tuple[SnapshotFile, ...]
    load_seq: int | None = None


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A version, as its snapshot.json describes it."""

    version: str
    at: datetime  # the run's instant of evaluation
    published_at: datetime
    layout: int
    tables: tuple[SnapshotTable, ...]


@dataclass(frozen=True, slots=True)
class Published:
    """What a call of `publish` did."""

    version: str
    is_new: bool  # False when nothing had changed
    tables: int
    rows: int
    files_written: int
    files_kept: int  # shared with the version before or the raw streams
    bytes_written: int
    seconds: float
    unreadable: tuple[str, ...]  # views whose tables are gone: left out


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows of a table that make one file, as they are in the warehouse or in `file`."""

    name: str
    condition: str
    rows: int
    sum: int
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class _Table:
    """A table of the warehouse and what it holds now."""

    schema: str
    name: str
    columns: dict[str, str]
    parts: tuple[_Part, ...]
    load_seq: int | None = None


def publish(
    home: Home, *, at: datetime, clock: Callable[[], float] = time.time
) -> Published:
    """Make what the warehouse holds the version that readers find; only what changed.

    For the holder of `run.lock`, while no process has the warehouse open for writing;
    it is opened read-only, and closed again. Stopped anywhere, `current` is the former
    or the new version, whole, and what is left over is removed by the next call.

    Raises:
        PublishFailed: the warehouse cannot be opened or read, or the disk is full.
    """
    started = time.monotonic()
    number = 1 + max(_versions(home), default=0)
    _retire(home, clock)
    former = _former(home)
    snapshot = former
    written: list[SnapshotFile] = []
    try:
        with duckdb.connect(str(home.warehouse), read_only=True) as warehouse:
            warehouse.execute("set TimeZone = 'UTC'")
            # Give memory back between tables; some take much for a moment.
            warehouse.execute("set allocator_bulk_deallocation_flush_threshold='8MB'")
            tables, unreadable = _tables(home, warehouse)
            shared = _shared(home, former, tables)
            if snapshot is None or not _is_same(home, snapshot, tables, shared):
                name = f"{at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{number:04}"
                snapshot, written = _write(
                    warehouse, home, name, at, clock, tables, shared, former
                )
                if former is not None:  # from now on nobody new finds it
                    os.utime(home.published / former.version, (clock(), clock()))
                _swap(home, name)
    except (duckdb.Error, OSError) as error:
        _retire(home, clock)
        raise PublishFailed(
            f"Readers keep the tables they have; nothing was published: {error}"
        ) from error
    _retire(home, clock)
    files = sum(len(table.files) for table in snapshot.tables)
    return Published(
        version=snapshot.version,
        is_new=snapshot is not former,
        tables=len(snapshot.tables),
        rows=sum(table.rows for table in snapshot.tables),
        files_written=len(written),
        files_kept=files - len(written),
        bytes_written=sum(file.bytes for file in written),
        seconds=time.monotonic() - started,
        unreadable=unreadable,
    )


def read_snapshot(home: Home) -> Snapshot:
    """What the current version holds.

    Raises:
        ConfigError: nothing is published yet.
    """
    version = _current(home)
    if version is None:
        raise ConfigError(
            f"In {home.path} nothing is published yet: loomline run does it"
        )
    path = home.published / version / "snapshot.json"
    return msgspec.json.decode(path.read_bytes(), type=Snapshot)


def open_snapshot(
    home: Home, snapshot: Snapshot | None = None, *, is_safe: bool = True
) -> duckdb.DuckDBPyConnection:
    """A database in memory with the published tables under their public names.

    It stays with one version, the current one unless another is given, whatever is
    published meanwhile. No lock is taken and nothing is waited for.

    A safe one opens the version's files and no others, loads no extension, and keeps
    these settings. DuckDB makes no difference between reading and writing there: who
    runs statements of others refuses those that write files (COPY and the like).

    Raises:
        ConfigError: nothing is published yet.
    """
    snapshot = snapshot or read_snapshot(home)
    connection = duckdb.connect(config=_SAFE if is_safe else {})
    connection.execute("set TimeZone = 'UTC'")
    # What does not fit into memory, not below the working directory.
    spill = Path(tempfile.gettempdir()) / f"loomline-{os.getuid()}"
    spill.mkdir(mode=0o700, exist_ok=True)
    connection.execute(f"set temp_directory = {_text(str(spill))}")
    for statement in _statements(home, snapshot):
        connection.execute(statement)
    if is_safe:
        folder = home.published / snapshot.version
        files = (file.path for table in snapshot.tables for file in table.files)
        allowed = ", ".join(_text(str(folder / path)) for path in files)
        connection.execute(f"set allowed_paths = [{allowed}]")
        connection.execute("set enable_external_access = false")
        connection.execute("set lock_configuration = true")
    return connection


# What the warehouse holds


def _is_public(schema: str, name: str) -> bool:
    """Which tables and views of the warehouse are published.

    Tables of events are named by senders, but never like those that are left out.
    """
    if f"{schema}.{name}" in ALONE:
        return True
    return schema in SCHEMAS and not name.startswith("int_") and "__" not in name


def _tables(
    home: Home, warehouse: duckdb.DuckDBPyConnection
) -> tuple[list[_Table], tuple[str, ...]]:
    """The public tables, and the names of views that cannot be read any longer.

    dbt leaves the views of a removed model where they are, also when the tables they
    read are gone: that must not keep everything else from being published.
    """
    found = warehouse.execute(
        """
        select schema_name, table_name from duckdb_tables()
        where database_name = current_database() and not temporary
        union
        select schema_name, view_name from duckdb_views()
        where database_name = current_database() and not temporary and not internal
        order by all
        """
    ).fetchall()
    tables: list[_Table] = []
    unreadable: list[str] = []
    for schema, name in found:
        if f"{schema}.{name}" in STREAMS:
            tables.append(_stream(home, warehouse, schema, name))
        if not _is_public(schema, name):
            continue
        try:
            described = warehouse.execute(f"describe {_name(schema, name)}").fetchall()
        except (duckdb.CatalogException, duckdb.BinderException):
            unreadable.append(f"{schema}.{name}")
            continue
        columns = {row[0]: row[1] for row in described}
        parts = tuple(_parts(warehouse, schema, name, columns))
        tables.append(_Table(schema, name, columns, parts))
    return tables, tuple(unreadable)


def _stream(
    home: Home, warehouse: duckdb.DuckDBPyConnection, schema: str, name: str
) -> _Table:
    """A raw stream: the files of all loads that the models have seen.

    The first is the empty one that has all columns; older files may lack some.
    """
    empty = home.raw / "schema" / f"{name}.parquet"
    described = warehouse.execute(
        f"describe from read_parquet({_text(str(empty))})"
    ).fetchall()
    columns = {row[0]: row[1] for row in described if row[0] != "load_seq"}
    (newest,) = warehouse.execute(
        f"select coalesce(max(load_seq), 0) from {NEWEST}"
    ).fetchall()[0]
    digest = hashlib.sha256(empty.read_bytes()).hexdigest()
    parts = [_Part("empty", "", 0, _sum(digest), empty)]
    for file in Manifest(home).files():
        is_later = file.tier == "load" and file.load_seq > newest
        if file.stream == name and not is_later:
            path = home.raw / file.path
            parts.append(_Part(path.stem, "", file.rows, _sum(file.sha256), path))
    return _Table(schema, name, columns, tuple(parts), newest)


def _parts(
    warehouse: duckdb.DuckDBPyConnection,
    schema: str,
    name: str,
    columns: dict[str, str],
) -> Iterator[_Part]:
    """A table's files to be, and a fingerprint of each one's rows in any order.

    The sum of the rows' hashes: it does not lose rows that are there twice, as xor
    would. `hash` takes an empty list for null, and a struct of nulls too, so that
    nested columns go in as text as well.
    """
    hashed = [_quoted(column) for column in columns]
    hashed += [
        f"{_quoted(column)}::varchar"
        for column, kind in columns.items()
        if kind.endswith(("]", ")")) and not kind.startswith("DECIMAL")
    ]
    counts = f"count(*), coalesce(sum(hash({', '.join(hashed)})::hugeint), 0)"
    source = _name(schema, name)
    is_event = schema == "events" and "received_at" in columns
    column = "received_at" if is_event else PARTITIONED.get(f"{schema}.{name}")
    if column is None or column not in columns:
        rows, total = warehouse.execute(f"select {counts} from {source}").fetchall()[0]
        yield _Part("all", "true", rows, total)
        return
    quoted = _quoted(column)
    # Years of four digits; whatever lies outside them is a mistake, and kept together.
    is_dated = f"{quoted} >= '1000-01-01' and {quoted} < '9999-01-01'"
    hours = warehouse.execute(
        f"""
        select
            if({is_dated}, strftime({quoted}, '%Y-%m-%dT%H'), 'undated') as hour,
            {counts}
        from {source} group by 1 order by 1
        """
    ).fetchall()
    if not hours:
        yield _Part("none", "true", 0, 0)
    undated = [row for row in hours if row[0] == "undated"]
    for _, rows, total in undated:
        yield _Part("undated", f"({is_dated}) is not true", rows, total)
    dated = [row for row in hours if row[0] != "undated"]
    yield from _split(dated, quoted, ("month", "day", "hour"))


def _split(
    hours: list[tuple[str, int, int]], quoted: str, tiers: tuple[str, ...]
) -> Iterator[_Part]:
    """One part per month; of those with too many rows one per day, then per hour."""
    tier, *finer = tiers
    length, start = {
        "month": (7, "{}-01"),
        "day": (10, "{}"),
        "hour": (13, "{}:00:00"),
    }[tier]
    groups: dict[str, list[tuple[str, int, int]]] = {}
    for row in hours:
        groups.setdefault(row[0][:length], []).append(row)
    for label, group in groups.items():
        rows = sum(row[1] for row in group)
        if finer and rows > PART_ROWS:
            yield from _split(group, quoted, tuple(finer))
            continue
        begin = f"timestamp '{start.format(label)}'"
        condition = f"{quoted} >= {begin} and {quoted} < {begin} + interval '1 {tier}'"
        yield _Part(label, condition, rows, sum(row[2] for row in group))


# Writing a version


def _shared(
    home: Home, former: Snapshot | None, tables: list[_Table]
) -> dict[tuple[str, str, str], SnapshotFile]:
    """Files of the former version that the new one holds as well, by their part."""
    if former is None or former.layout != LAYOUT:
        return {}
    folder = home.published / former.version
    before = {(table.schema, table.name): table for table in former.tables}
    shared: dict[tuple[str, str, str], SnapshotFile] = {}
    for table in tables:
        other = before.get((table.schema, table.name))
        if other is None or list(other.columns.items()) != list(table.columns.items()):
            continue
        files = {file.path: file for file in other.files}
        for part in table.parts:
            file = files.get(_path(table, part))
            if file is None or (file.rows, file.hash) != (part.rows, _hex(part.sum)):
                continue
            try:
                is_whole = (folder / file.path).stat().st_size == file.bytes
            except FileNotFoundError:
                is_whole = False
            if is_whole:
                shared[table.schema, table.name, part.name] = file
    return shared


def _is_same(
    home: Home,
    former: Snapshot,
    tables: list[_Table],
    shared: dict[tuple[str, str, str], SnapshotFile],
) -> bool:
    """Whether a new version would be the former one; not when the home was moved."""
    files = sum(len(table.files) for table in former.tables)
    parts = sum(len(table.parts) for table in tables)
    try:
        script = (home.published / former.version / "open.sql").read_bytes()
    except FileNotFoundError:
        return False
    return (
        [table.load_seq for table in former.tables]
        == [table.load_seq for table in tables]
        and len(shared) == files == parts
        and script == _script(home, former)
    )


def _write(
    warehouse: duckdb.DuckDBPyConnection,
    home: Home,
    version: str,
    at: datetime,
    clock: Callable[[], float],
    tables: list[_Table],
    shared: dict[tuple[str, str, str], SnapshotFile],
    former: Snapshot | None,
) -> tuple[Snapshot, list[SnapshotFile]]:
    """The version's folder, whole and on disk, and which of its files are new."""
    folder = home.published / version
    is_first = not home.published.exists()
    folder.mkdir(parents=True)
    if is_first:
        sync_folder(home.path)
    entries: list[SnapshotTable] = []
    written: list[SnapshotFile] = []
    for table in tables:
        files: list[SnapshotFile] = []
        for part in table.parts:
            path = _path(table, part)
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            file = shared.get((table.schema, table.name, part.name))
            if file is None or former is None:
                file = _make_file(warehouse, table, part, folder, path)
                if part.file is None:
                    written.append(file)
            else:
                _link(home.published / former.version / path, folder / path)
            files.append(file)
        entries.append(
            SnapshotTable(
                schema=table.schema,
                name=table.name,
                columns=table.columns,
                rows=sum(file.rows for file in files),
                hash=_hex(sum(part.sum for part in table.parts)),
                files=tuple(files),
                load_seq=table.load_seq,
            )
        )
    snapshot = Snapshot(
        version=version,
        at=at.astimezone(UTC),
        published_at=datetime.fromtimestamp(clock(), UTC),
        layout=LAYOUT,
        tables=tuple(entries),
    )
    for below in {(folder / file.path).parent for t in entries for file in t.files}:
        sync_folder(below)
    for below in {folder / table.schema for table in entries}:
        sync_folder(below)
    replace_file(folder / "open.sql", _script(home, snapshot))
    described = msgspec.json.format(msgspec.json.encode(snapshot), indent=1)
    replace_file(folder / "snapshot.json", described + b"\n")
    sync_folder(home.published)
    return snapshot, written


def _make_file(
    warehouse: duckdb.DuckDBPyConnection,
    table: _Table,
    part: _Part,
    folder: Path,
    path: str,
) -> SnapshotFile:
    """Rows in an order of their own, so that the same rows are the same bytes."""
    if part.file is not None:
        _link(part.file, folder / path)
        size = (folder / path).stat().st_size
        return SnapshotFile(path=path, rows=part.rows, bytes=size, hash=_hex(part.sum))
    columns = ", ".join(
        f"{_quoted(column)}::varchar as {_quoted(column)}"
        if _is_wide(kind)
        else _quoted(column)
        for column, kind in table.columns.items()
    )
    (rows,) = warehouse.execute(
        f"""
        copy (
            select {columns} from {_name(table.schema, table.name)}
            where {part.condition} order by all
        ) to {_text(str(folder / path))}
        (format parquet, compression zstd, row_group_size {ROW_GROUP})
        """
    ).fetchall()[0]
    with (folder / path).open("rb") as file:
        os.fsync(file.fileno())
        size = os.fstat(file.fileno()).st_size
    return SnapshotFile(path=path, rows=rows, bytes=size, hash=_hex(part.sum))


def _link(former: Path, new: Path) -> None:
    """The same file under a second name; a copy where a file can have but one."""
    try:
        new.hardlink_to(former)
    except OSError:
        shutil.copyfile(former, new)
        with new.open("rb") as file:
            os.fsync(file.fileno())


def _swap(home: Home, version: str) -> None:
    """From here on readers find this version."""
    beside = home.published / ".current.part"
    beside.symlink_to(version)
    beside.replace(home.published / "current")
    sync_folder(home.published)


def _statements(home: Home, snapshot: Snapshot) -> Iterator[str]:
    """SQL that gives an empty DuckDB the tables of a version.

    In a database of the warehouse's name, so that compiled SQL of the models finds
    them too.
    """
    folder = home.published / snapshot.version
    yield "attach ':memory:' as warehouse"
    yield "use warehouse"
    for schema in dict.fromkeys(table.schema for table in snapshot.tables):
        yield f"create schema {_quoted(schema)}"
    for table in snapshot.tables:
        columns = ", ".join(
            f"{_quoted(column)}::{kind} as {_quoted(column)}"
            if _is_wide(kind)
            else _quoted(column)
            for column, kind in table.columns.items()
        )
        files = ",\n    ".join(_text(str(folder / file.path)) for file in table.files)
        options, condition = "hive_partitioning = false", ""
        if table.load_seq is not None:
            # Only compacted files have the column; of the others all rows count.
            options += ", union_by_name = true"
            condition = f"\nwhere coalesce(load_seq, 0) <= {table.load_seq}"
        yield (
            f"create view {_name(table.schema, table.name)} as\n"
            f"select {columns}\n"
            f"from read_parquet([\n    {files}\n], {options}){condition}"
        )


def _script(home: Home, snapshot: Snapshot) -> bytes:
    lines = [
        f"-- The published tables, version {snapshot.version}, for a DuckDB in memory:",
        "-- duckdb -init …/published/current/open.sql",
    ]
    lines += [f"{statement};" for statement in _statements(home, snapshot)]
    return ("\n".join(lines) + "\n").encode()


# Versions


def _versions(home: Home) -> dict[int, str]:
    """Every version that is there, whole or not, by its number."""
    if not home.published.is_dir():
        return {}
    found = (
        re.fullmatch(r"\d{8}T\d{6}Z-(\d{4,})", path.name)
        for path in home.published.iterdir()
    )
    return {int(match[1]): match[0] for match in found if match}


def _current(home: Home) -> str | None:
    try:
        return os.readlink(home.published / "current")
    except FileNotFoundError:
        return None


def _former(home: Home) -> Snapshot | None:
    """The version before the one to come, when it can be read."""
    try:
        return read_snapshot(home)
    except (ConfigError, FileNotFoundError, msgspec.MsgspecError):
        return None


def _retire(home: Home, clock: Callable[[], float]) -> None:
    """Remove what a killed call left, and versions whose readers are done."""
    versions = _versions(home)
    current = _current(home)
    newest = next((n for n, name in versions.items() if name == current), 0)
    whole = sorted(number for number in versions if number <= newest)
    kept = whole[-2:]
    for number, name in versions.items():
        path = home.published / name
        if number in kept:
            continue
        if number in whole and clock() - path.stat().st_mtime <= READERS_S:
            continue
        # Away first: under its name a version is whole.
        path.replace(path.with_name(f".{name}.gone"))
    if home.published.is_dir():
        for path in home.published.glob(".*"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


# Names


def _path(table: _Table, part: _Part) -> str:
    return f"{_folder(table.schema)}/{_folder(table.name)}/{part.name}.parquet"


def _folder(name: str) -> str:
    """A table's name as the name of a folder; no two names become one."""
    escaped = re.sub(
        r"[\x00-\x1f\x7f%/\\*?\[\]:]", lambda found: f"%{ord(found[0]):02X}", name
    )
    return re.sub(r"^\.", "%2E", escaped)


def _name(schema: str, name: str) -> str:
    return f"{_quoted(schema)}.{_quoted(name)}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _is_wide(kind: str) -> bool:
    """128-bit integers: Parquet has none, and DuckDB would round them to doubles."""
    return "HUGEINT" in kind


def _sum(sha256: str) -> int:
    """A file's digest as the `sum` of a part."""
    return int(sha256[:32], 16)


def _hex(value: int) -> str:
    return f"{value % 2**128:032x}"
