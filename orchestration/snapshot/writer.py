"""Writes the published snapshot, for readers while runs write the warehouse.

    published/
        20261121T150000Z-0007/
            staging/events/2026-11.parquet
            raw/dispositions/….parquet
            …
            snapshot.json       its contents
            open.sql            creates the tables under their public names, in DuckDB
        current                 a link to the newest complete version

A version is immutable once `current` points to it. It shares unchanged files with the
previous version (hard links), so a run writes only what changed. Files of the raw
streams never change: a version links them and writes nothing.
"""

import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import msgspec

from connectors.errors import ConfigError, LoomlineError
from connectors.home import Home
from connectors.landing.manifest import replace_file, sync_folder
from connectors.landing.writer import ROW_GROUP
from orchestration.snapshot.contents import TablePart, WarehouseTable, warehouse_tables
from orchestration.snapshot.reader import (
    Snapshot,
    SnapshotFile,
    SnapshotTable,
    is_wide,
    open_script,
    qualified_name,
    quote_name,
    quote_text,
    read_snapshot,
)
from orchestration.snapshot.retention import retire, version_names

__all__ = ["PublishFailed", "Published", "publish"]

LAYOUT = 1
"""Increase it when files of older versions can no longer be shared."""


class PublishFailed(LoomlineError):
    """Nothing was published; readers keep the version they have."""


@dataclass(frozen=True, slots=True)
class Published:
    """The result of `publish`."""

    version: str
    is_new: bool  # False if nothing had changed
    tables: int
    rows: int
    files_written: int
    files_kept: int  # shared with the previous version or the raw streams
    bytes_written: int
    seconds: float
    unreadable: tuple[str, ...]  # views without their tables: skipped


def publish(
    home: Home, *, at: datetime, clock: Callable[[], float] = time.time
) -> Published:
    """Publish the warehouse's tables as a new version; write only what changed.

    The caller holds `run.lock`, and no process has the warehouse open for writing; it
    is opened read-only and closed again. If this is stopped at any point, `current` is
    the previous or the new version, complete, and the next call removes leftovers.

    Raises:
        PublishFailed: the warehouse cannot be opened or read, or the disk is full.
    """
    started = time.monotonic()
    number = 1 + max(version_names(home), default=0)
    retire(home, clock)
    previous = _previous(home)
    snapshot = previous
    written: list[SnapshotFile] = []
    try:
        with duckdb.connect(str(home.warehouse), read_only=True) as warehouse:
            warehouse.execute("set TimeZone = 'UTC'")
            # Return memory between tables; some need a lot for a moment.
            warehouse.execute("set allocator_bulk_deallocation_flush_threshold='8MB'")
            tables, unreadable = warehouse_tables(home, warehouse)
            shared = _shared(home, previous, tables)
            if snapshot is None or not _is_same(home, snapshot, tables, shared):
                name = f"{at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{number:04}"
                snapshot, written = _write(
                    warehouse, home, name, at, clock, tables, shared, previous
                )
                if previous is not None:  # its grace period begins now
                    os.utime(home.published / previous.version, (clock(), clock()))
                _swap(home, name)
    except (duckdb.Error, OSError) as error:
        retire(home, clock)
        raise PublishFailed(
            f"Nothing was published; readers keep the previous version: {error}"
        ) from error
    retire(home, clock)
    files = sum(len(table.files) for table in snapshot.tables)
    return Published(
        version=snapshot.version,
        is_new=snapshot is not previous,
        tables=len(snapshot.tables),
        rows=sum(table.rows for table in snapshot.tables),
        files_written=len(written),
        files_kept=files - len(written),
        bytes_written=sum(file.bytes for file in written),
        seconds=time.monotonic() - started,
        unreadable=unreadable,
    )


def _shared(
    home: Home, previous: Snapshot | None, tables: list[WarehouseTable]
) -> dict[tuple[str, str, str], SnapshotFile]:
    """Return the files the new version shares with the previous one, by part."""
    if previous is None or previous.layout != LAYOUT:
        return {}
    folder = home.published / previous.version
    before = {(table.schema, table.name): table for table in previous.tables}
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
    previous: Snapshot,
    tables: list[WarehouseTable],
    shared: dict[tuple[str, str, str], SnapshotFile],
) -> bool:
    """Return whether nothing has changed; False also if the home was moved."""
    files = sum(len(table.files) for table in previous.tables)
    parts = sum(len(table.parts) for table in tables)
    try:
        script = (home.published / previous.version / "open.sql").read_bytes()
    except FileNotFoundError:
        return False
    return (
        [table.load_seq for table in previous.tables]
        == [table.load_seq for table in tables]
        and len(shared) == files == parts
        and script == open_script(home, previous)
    )


def _write(
    warehouse: duckdb.DuckDBPyConnection,
    home: Home,
    version: str,
    at: datetime,
    clock: Callable[[], float],
    tables: list[WarehouseTable],
    shared: dict[tuple[str, str, str], SnapshotFile],
    previous: Snapshot | None,
) -> tuple[Snapshot, list[SnapshotFile]]:
    """Write the version's folder durably; return it and its new files."""
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
            if file is None or previous is None:
                file = _make_file(warehouse, table, part, folder, path)
                if part.file is None:
                    written.append(file)
            else:
                _link(home.published / previous.version / path, folder / path)
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
    replace_file(folder / "open.sql", open_script(home, snapshot))
    described = msgspec.json.format(msgspec.json.encode(snapshot), indent=1)
    replace_file(folder / "snapshot.json", described + b"\n")
    sync_folder(home.published)
    return snapshot, written


def _make_file(
    warehouse: duckdb.DuckDBPyConnection,
    table: WarehouseTable,
    part: TablePart,
    folder: Path,
    path: str,
) -> SnapshotFile:
    """Write sorted rows, so that the same rows give the same bytes."""
    if part.file is not None:
        _link(part.file, folder / path)
        size = (folder / path).stat().st_size
        return SnapshotFile(path=path, rows=part.rows, bytes=size, hash=_hex(part.sum))
    columns = ", ".join(
        f"{quote_name(column)}::varchar as {quote_name(column)}"
        if is_wide(kind)
        else quote_name(column)
        for column, kind in table.columns.items()
    )
    (rows,) = warehouse.execute(
        f"""
        copy (
            select {columns} from {qualified_name(table.schema, table.name)}
            where {part.condition} order by all
        ) to {quote_text(str(folder / path))}
        (format parquet, compression zstd, row_group_size {ROW_GROUP})
        """
    ).fetchall()[0]
    with (folder / path).open("rb") as file:
        os.fsync(file.fileno())
        size = os.fstat(file.fileno()).st_size
    return SnapshotFile(path=path, rows=rows, bytes=size, hash=_hex(part.sum))


def _link(previous: Path, new: Path) -> None:
    """Hard-link a file, or copy it if the file system has no hard links."""
    try:
        new.hardlink_to(previous)
    except OSError:
        shutil.copyfile(previous, new)
        with new.open("rb") as file:
            os.fsync(file.fileno())


def _swap(home: Home, version: str) -> None:
    """Make this version the current one."""
    temporary = home.published / ".current.part"
    temporary.symlink_to(version)
    temporary.replace(home.published / "current")
    sync_folder(home.published)


def _previous(home: Home) -> Snapshot | None:
    """Return the current version if it is readable."""
    try:
        return read_snapshot(home)
    except (ConfigError, FileNotFoundError, msgspec.MsgspecError):
        return None


def _path(table: WarehouseTable, part: TablePart) -> str:
    return f"{_folder(table.schema)}/{_folder(table.name)}/{part.name}.parquet"


def _folder(name: str) -> str:
    """Convert a table's name to a folder's name, one to one."""
    escaped = re.sub(
        r"[\x00-\x1f\x7f%/\\*?\[\]:]", lambda found: f"%{ord(found[0]):02X}", name
    )
    return re.sub(r"^\.", "%2E", escaped)


def _hex(value: int) -> str:
    return f"{value % 2**128:032x}"
