"""The typed event tables, one asset each, built with `events.event_columns`."""

from collections.abc import Collection, Iterator

import dagster as dg
import duckdb
import msgspec

from connectors.errors import ConfigError
from connectors.home import Home
from orchestration.assets.columns import Columns
from orchestration.snapshot.reader import SnapshotTable, read_snapshot

__all__ = ["REGISTRY", "event_table_specs", "materializations"]

SCHEMA = "events"
REGISTRY = dg.AssetKey([SCHEMA, "event_columns"])
LANDED_WITH = ("raw", "dispositions")
"""The published stream with the last load that the models have read."""


def event_table_specs(
    home: Home, models: Collection[dg.AssetKey]
) -> list[dg.AssetSpec]:
    """Return the event tables of the published snapshot; opens no warehouse.

    Senders choose event names, so a table that a run adds becomes an asset when the
    definitions are loaded again.
    """
    return [
        dg.AssetSpec(
            key,
            deps=[REGISTRY],
            group_name=SCHEMA,
            kinds={"duckdb", "table"},
            description=f"One row per accepted event `{table.name}`, one typed column "
            "per property. A run creates and widens it with `event_columns`.",
            metadata={
                "dagster/column_schema": dg.TableSchema(
                    [dg.TableColumn(*column) for column in table.columns.items()]
                )
            },
        )
        for (schema, name), table in _published(home).items()
        if schema == SCHEMA and (key := dg.AssetKey([schema, name])) not in models
    ]


def materializations(
    home: Home,
    warehouse: duckdb.DuckDBPyConnection,
    columns: Columns,
    models: Collection[dg.AssetKey],
) -> Iterator[dg.AssetMaterialization]:
    """Yield one for each event table that differs from its published version.

    Compares columns and row counts, and looks for events that landed afterwards.
    """
    published = _published(home)
    stream = published.get(LANDED_WITH)
    seen = stream.load_seq if stream and stream.load_seq is not None else -1
    news = {
        table
        for (table,) in warehouse.execute(
            "select distinct table_name from events.event_columns where event in "
            "(select event from staging.int_events where load_seq > ?)",
            [seen],
        ).fetchall()
    }
    for (table,) in warehouse.execute(
        "select table_name from duckdb_tables() where schema_name = ? order by all",
        [SCHEMA],
    ).fetchall():
        key = dg.AssetKey([SCHEMA, table])
        if key in models or "__" in table:  # tables of the registry itself
            continue
        metadata = columns.metadata(SCHEMA, table, None)
        before = published.get((SCHEMA, table))
        columns_now = metadata["dagster/column_schema"].columns
        if (
            table in news
            or before is None
            or before.rows != metadata["dagster/row_count"]
            or [*before.columns.items()]
            != [(one.name, one.type) for one in columns_now]
        ):
            yield dg.AssetMaterialization(key, metadata=metadata)


def _published(home: Home) -> dict[tuple[str, str], SnapshotTable]:
    try:
        tables = read_snapshot(home).tables
    except (ConfigError, FileNotFoundError, msgspec.MsgspecError):
        return {}  # nothing published, or unreadable until the next run
    return {(table.schema, table.name): table for table in tables}
