"""Prepares a home folder so that models can run on it, even without any data."""

import pyarrow as pa
import pyarrow.parquet as pq

from connectors.home import Home
from connectors.landing.manifest import Manifest, replace_file
from connectors.landing.streams import SCHEMAS

__all__ = ["prepare"]


def prepare(home: Home) -> None:
    """Create the folders, an empty manifest, and a file with each stream's columns.

    Raises:
            ConfigError: the home folder cannot be created or written to.
    """
    home.make(home.inbox, home.raw / "schema")
    with Manifest(home).rewriting() as (files, write):
        # Another process may have landed meanwhile.
        if not home.loads.exists():
            write(files)
    for stream, schema in SCHEMAS.items():
        # A compacted file has the load of each row.
        schema = schema.append(pa.field("load_seq", pa.int64()))
        sink = pa.BufferOutputStream()
        pq.write_table(schema.empty_table(), sink)
        data = sink.getvalue().to_pybytes()
        path = home.raw / "schema" / f"{stream}.parquet"
        if not path.exists() or path.read_bytes() != data:
            replace_file(path, data)
