"""Writes a load: temporary file, fsync, rename; the manifest entry comes last."""

import hashlib
import time
from collections.abc import Mapping
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq

from connectors.home import Home
from connectors.landing.manifest import LoadedFile, Manifest, replace_file
from connectors.landing.streams import UNREPEATED

__all__ = ["land", "write_files"]

ROW_GROUP = 122_880
"""Rows per row group: DuckDB's own default, one unit of its parallel scans."""


def write_files(
    home: Home,
    name: str,
    tables: Mapping[str, pa.Table],
    *,
    day: str,
    names: tuple[str, ...] = (),
) -> list[LoadedFile]:
    """Write one load's files; they count only once the manifest lists them.

    `name` identifies the load's input, `names` each part if there are several. The same
    load written again, or by two processes, may differ in its arrival time: a path
    contains its content's hash, so that a listed file is never replaced. `day` is a
    folder, `YYYY-MM-DD`.
    """
    files = []
    for stream, table in tables.items():
        sink = pa.BufferOutputStream()
        pq.write_table(
            table,
            sink,
            compression="zstd",
            row_group_size=ROW_GROUP,
            use_dictionary=[n for n in table.column_names if n not in UNREPEATED],
        )
        data = sink.getvalue().to_pybytes()
        digest = hashlib.sha256(data).hexdigest()
        path = f"{stream}/{day}/{name}-{digest[:16]}.parquet"
        replace_file(home.raw / path, data)
        files.append(
            LoadedFile(
                load_seq=0,
                stream=stream,
                path=path,
                rows=table.num_rows,
                sha256=digest,
                names=names or (name,),
                landed_at=time.time(),
            )
        )
    return files


def land(home: Home, name: str, tables: Mapping[str, pa.Table]) -> bool:
    """Write one load and list it in the manifest; False if it landed before."""
    manifest = Manifest(home)
    if name in manifest.names():
        return False
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    return bool(manifest.extend([write_files(home, name, tables, day=day)]))
