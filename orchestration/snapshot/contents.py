"""Lists the public tables of the warehouse, split into parts that become files."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb

from connectors.home import Home
from connectors.landing.manifest import Manifest
from orchestration.snapshot.reader import qualified_name, quote_name, quote_text

__all__ = [
    "PARTITIONED",
    "TablePart",
    "WarehouseTable",
    "digest_sum",
    "warehouse_tables",
]

PARTITIONED = {
    "staging.events": "received_at",
    "staging.dispositions": "received_at",
    "profiles.profile_events": "timestamp",
}
"""Append-only tables, and the column that partitions their files."""

PART_ROWS = 250_000
"""A month is one file until it has more rows than this, then one file per day, then per
hour. Writing this many rows of staging.events takes 1.4 s; smaller files would number
thousands after a few years."""

SCHEMAS = ("staging", "events", "identity", "profiles", "audiences", "destinations")
ALONE = ("raw.loads",)

STREAMS = ("raw.dispositions", "raw.received_counts")
"""Raw streams published as the files they are."""

NEWEST = "staging.int_dispositions"
"""The models have seen the streams up to this table's newest load. A version shows the
streams up to it, so that received = admitted + refused = accepted + … holds in it."""


@dataclass(frozen=True, slots=True)
class TablePart:
    """Rows of a table that make one file; in the warehouse, or already in `file`."""

    name: str
    condition: str
    rows: int
    sum: int
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class WarehouseTable:
    """A table of the warehouse and its current contents."""

    schema: str
    name: str
    columns: dict[str, str]
    parts: tuple[TablePart, ...]
    load_seq: int | None = None


def _is_public(schema: str, name: str) -> bool:
    """Return whether a table or view of the warehouse is published.

    Senders choose the names of event tables, but never one that is excluded here.
    """
    if f"{schema}.{name}" in ALONE:
        return True
    return schema in SCHEMAS and not name.startswith("int_") and "__" not in name


def warehouse_tables(
    home: Home, warehouse: duckdb.DuckDBPyConnection
) -> tuple[list[WarehouseTable], tuple[str, ...]]:
    """Return the public tables, and the names of unreadable views.

    dbt leaves the views of a removed model in place, even if their tables are gone:
    they must not block publishing everything else.
    """
    relations = warehouse.execute(
        """
        select schema_name, table_name from duckdb_tables()
        where database_name = current_database() and not temporary
        union
        select schema_name, view_name from duckdb_views()
        where database_name = current_database() and not temporary and not internal
        order by all
        """
    ).fetchall()
    tables: list[WarehouseTable] = []
    unreadable: list[str] = []
    for schema, name in relations:
        if f"{schema}.{name}" in STREAMS:
            tables.append(_stream(home, warehouse, schema, name))
        if not _is_public(schema, name):
            continue
        try:
            described = warehouse.execute(
                f"describe {qualified_name(schema, name)}"
            ).fetchall()
        except (duckdb.CatalogException, duckdb.BinderException):
            unreadable.append(f"{schema}.{name}")
            continue
        columns = {row[0]: row[1] for row in described}
        parts = tuple(_parts(warehouse, schema, name, columns))
        tables.append(WarehouseTable(schema, name, columns, parts))
    return tables, tuple(unreadable)


def _stream(
    home: Home, warehouse: duckdb.DuckDBPyConnection, schema: str, name: str
) -> WarehouseTable:
    """Return a raw stream: the files of all loads that the models have seen.

    The first file is empty and has all columns; older files may lack some.
    """
    empty = home.raw / "schema" / f"{name}.parquet"
    described = warehouse.execute(
        f"describe from read_parquet({quote_text(str(empty))})"
    ).fetchall()
    columns = {row[0]: row[1] for row in described if row[0] != "load_seq"}
    (newest,) = warehouse.execute(
        f"select coalesce(max(load_seq), 0) from {NEWEST}"
    ).fetchall()[0]
    digest = hashlib.sha256(empty.read_bytes()).hexdigest()
    parts = [TablePart("empty", "", 0, digest_sum(digest), empty)]
    for file in Manifest(home).files():
        is_later = file.tier == "load" and file.load_seq > newest
        if file.stream == name and not is_later:
            path = home.raw / file.path
            parts.append(
                TablePart(path.stem, "", file.rows, digest_sum(file.sha256), path)
            )
    return WarehouseTable(schema, name, columns, tuple(parts), newest)


def _parts(
    warehouse: duckdb.DuckDBPyConnection,
    schema: str,
    name: str,
    columns: dict[str, str],
) -> Iterator[TablePart]:
    """Yield a table's future files, each with an order-independent fingerprint.

    It is the sum of the rows' hashes: unlike xor, a sum does not cancel duplicate rows.
    `hash` does not distinguish an empty list or a struct of nulls from null, so nested
    columns are also hashed as text.
    """
    hashed = [quote_name(column) for column in columns]
    hashed += [
        f"{quote_name(column)}::varchar"
        for column, kind in columns.items()
        if kind.endswith(("]", ")")) and not kind.startswith("DECIMAL")
    ]
    counts = f"count(*), coalesce(sum(hash({', '.join(hashed)})::hugeint), 0)"
    source = qualified_name(schema, name)
    is_event = schema == "events" and "received_at" in columns
    column = "received_at" if is_event else PARTITIONED.get(f"{schema}.{name}")
    if column is None or column not in columns:
        rows, total = warehouse.execute(f"select {counts} from {source}").fetchall()[0]
        yield TablePart("all", "true", rows, total)
        return
    quoted = quote_name(column)
    # Years of four digits; anything else is a mistake, and goes into one file.
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
        yield TablePart("none", "true", 0, 0)
    undated = [row for row in hours if row[0] == "undated"]
    for _, rows, total in undated:
        yield TablePart("undated", f"({is_dated}) is not true", rows, total)
    dated = [row for row in hours if row[0] != "undated"]
    yield from _split(dated, quoted, ("month", "day", "hour"))


def _split(
    hours: list[tuple[str, int, int]], quoted: str, tiers: tuple[str, ...]
) -> Iterator[TablePart]:
    """Yield one part per month; if it has too many rows, per day, then per hour."""
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
        yield TablePart(label, condition, rows, sum(row[2] for row in group))


def digest_sum(sha256: str) -> int:
    """Convert a file's digest to the `sum` of a part."""
    return int(sha256[:32], 16)
