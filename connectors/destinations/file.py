"""Audience changes as files, one per batch: `<url>/<audience>/<batch key>.<format>`.

One row per person and identifier: additions first, then removals. The file name derives
from the batch, so a retry overwrites the file.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import astuple
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import fsspec
import httpx
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import (
    LocalFileSystem,
)
from pydantic import Field

from connectors.destinations import settings as common
from connectors.destinations.protocol import Batch, Identifier, Receipt
from connectors.errors import ConfigError, Rejected, Unavailable

__all__ = ["File", "Settings", "connect"]

Format = Literal["parquet", "csv", "ndjson"]
Row = tuple[datetime, datetime, str, str, str, str, str]

SCHEMA = pa.schema(
    [
        ("sent_at", pa.timestamp("us", tz="UTC")),  # the order to apply files in
        ("run_at", pa.timestamp("us", tz="UTC")),
        ("audience", pa.string()),
        ("operation", pa.string()),  # add, resend, remove
        ("profile_id", pa.string()),
        ("identifier_type", pa.string()),
        ("identifier_value", pa.string()),
    ]
)
_PLACE_ERRORS = (
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)
_AUDIENCE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")  # becomes a folder


class Settings(common.Settings):
    kind: Literal["file"]
    # Any fsspec URL, may hold ${VAR:-default}.
    url: str = Field(min_length=1, examples=["${LOOMLINE_HOME}/deliveries"])
    format: Format = Field(examples=["parquet"])
    batch_rows: int = Field(default=100_000, ge=1)


class File:
    def __init__(
        self,
        name: str,
        url: str,
        format: Format,
        *,
        batch_rows: int = 100_000,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.max_batch_rows = batch_rows
        self._name = name
        self._format = format
        self._clock = clock
        try:
            self._files, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise ConfigError(
                f"{name}: cannot open this kind of url ({type(error).__name__});"
                " check its scheme and install the fsspec package for it."
            ) from None

    def push(self, batch: Batch) -> Receipt:
        """Write the batch's file; a batch without identifiers writes none.

        Raises:
            Unavailable: the file was not written, or its size differs from the data.
            Rejected: the folder does not exist or is not writable.
        """
        if not _AUDIENCE.fullmatch(batch.audience):
            raise Rejected(
                f"{self._name}: the audience's name cannot be a folder.", "destination"
            )
        rows = _rows(batch, self._clock())
        if rows:
            path = f"{self._root.rstrip('/')}/{batch.audience}"
            self._write(
                path, f"{batch.key}.{self._format}", _encode(rows, self._format)
            )
        return Receipt(len(batch.changes), (), None, "batch")

    def close(self) -> None:
        pass

    def _write(self, folder: str, name: str, content: bytes) -> None:
        try:
            if isinstance(self._files, LocalFileSystem):
                _write_local(Path(folder), name, content)
            else:
                self._files.makedirs(folder, exist_ok=True)
                self._files.pipe_file(f"{folder}/{name}", content)
            written_bytes = self._files.size(f"{folder}/{name}")
        except _PLACE_ERRORS as error:
            raise Rejected(
                f"{self._name}: {type(error).__name__}; check the url and its rights.",
                "destination",
            ) from None
        except Exception as error:  # noqa: BLE001, each file system has its own
            raise Unavailable(f"{self._name}: {type(error).__name__}.") from None
        if written_bytes != len(content):
            raise Unavailable(
                f"{self._name}: {name} has {written_bytes} bytes, not {len(content)}."
            )


def connect(
    name: str,
    settings: common.Settings,
    env: Mapping[str, str],
    transport: httpx.BaseTransport | None = None,
) -> File:
    """Return the destination `name`; `transport` is for kinds that use HTTP.

    Raises:
        ConfigError: the url is not usable.
    """
    assert isinstance(settings, Settings)
    url = common.expand(name, settings.url, env)
    return File(name, url, settings.format, batch_rows=settings.batch_rows)


def _rows(batch: Batch, sent_at: datetime) -> list[Row]:
    rows: list[Row] = []

    def put(
        operation: str, profile_id: str, identifiers: tuple[Identifier, ...]
    ) -> None:
        rows.extend(
            (sent_at, batch.run_at, batch.audience, operation, profile_id, *astuple(i))
            for i in identifiers
        )

    for change in batch.changes:
        operation = "resend" if change.operation == "resend" else "add"
        put(operation, change.profile_id, change.add)
        put("remove", change.profile_id, change.remove)
    return rows


def _encode(rows: list[Row], format: Format) -> bytes:
    if format == "parquet":
        binary = io.BytesIO()
        table = pa.table(
            [
                pa.array(column, field.type)
                for column, field in zip(zip(*rows, strict=True), SCHEMA, strict=True)
            ],
            schema=SCHEMA,
        )
        pq.write_table(table, binary, compression="zstd")
        return binary.getvalue()
    named = [
        dict(
            zip(
                SCHEMA.names,
                (_instant(row[0]), _instant(row[1]), *row[2:]),
                strict=True,
            )
        )
        for row in rows
    ]
    if format == "ndjson":
        return msgspec.json.Encoder().encode_lines(named)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, SCHEMA.names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(named)
    return text.getvalue().encode()


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _write_local(folder: Path, name: str, content: bytes) -> None:
    """Write the file atomically and durably."""
    made = [p for p in (folder, *folder.parents) if not p.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{name}.part"
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / name)
    for changed in {folder, *(p.parent for p in made)}:
        handle = os.open(changed, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
