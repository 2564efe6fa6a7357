"""A home folder that models can be run on: empty streams are streams too."""

import pyarrow as pa
import pyarrow.parquet as pq

from connectors.home import Home
from connectors.landing.manifest import Manifest, replace_file
from connectors.landing.streams import SCHEMAS

__all__ = ["prepare"]


def prepare(home: Home) -> None:
    """Make the folders, an empty manifest, and a file of each stream's columns.

    Raises:
        ConfigError: the home folder cannot be made or written to.
    """
    home.make(home.inbox, home.raw / "schema")
    with Manifest(home).rewriting() as (files, write):
        # The manifest may exist by now: another process may have landed.
        if not home.loads.exists():
            write(files)
    for stream, schema in SCHEMAS.items():
        # A compacted file says per row which load it came with.
        schema = schema.append(pa.field("load_seq", pa.int64()))
        sink = pa.BufferOutputStream()
        pq.write_table(schema.empty_table(), sink)
        data = sink.getvalue().to_pybytes()
        path = home.raw / "schema" / f"{stream}.parquet"
        if not path.exists() or path.read_bytes() != data:
            replace_file(path, data)
