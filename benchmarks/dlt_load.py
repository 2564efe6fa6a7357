"""The peer of the landing benchmark: dlt loading an NDJSON file into DuckDB.

Runs in a separate environment: python dlt_load.py FILE FOLDER
"""

import sys
from collections.abc import Iterator
from typing import Any

import dlt
from dlt.common.json import json

JSON = {"data_type": "json"}


@dlt.resource(  # type: ignore[untyped-decorator]
    name="events",
    max_table_nesting=0,
    columns=dict.fromkeys(("properties", "traits", "context", "integrations"), JSON),
)
def events(path: str) -> Iterator[list[Any]]:
    batch = []
    with open(path, "rb") as lines:
        for line in lines:
            batch.append(json.loadb(line))
            if len(batch) == 5000:
                yield batch
                batch = []
    yield batch


def main(path: str, folder: str) -> None:
    pipeline = dlt.pipeline(
        "peer",
        destination=dlt.destinations.duckdb(f"{folder}/peer.duckdb"),
        dataset_name="raw",
        pipelines_dir=f"{folder}/pipelines",
    )
    pipeline.run(events(path))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
