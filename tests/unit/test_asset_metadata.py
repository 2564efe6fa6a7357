"""Numbers of a table in Dagster are those of its health; lineage is kept."""

import json
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from orchestration.assets.columns import Columns

KEYS = {
    ("a", "source"): dg.AssetKey(["a", "source"]),
    ("a", "model"): dg.AssetKey(["a", "model"]),
}
SQL = "select id, name as label from warehouse.a.source where at < '2026-05-01' limit 5"


def test_only_tables_of_health_have_their_numbers_as_metadata(tmp_path: Path) -> None:
    with duckdb.connect() as warehouse:
        warehouse.execute("create schema events; create schema identity")
        warehouse.execute("create table events.signed_up as select 33612345 as phone")
        warehouse.execute("create table identity.identity_health as select 3 as hubs")
        columns = Columns(warehouse, {}, tmp_path / "lineage.json")
        event = columns.metadata("events", "signed_up", None)
        health = columns.metadata("identity", "identity_health", None)
    assert event["dagster/row_count"] == 1
    assert "phone" not in event
    assert health["hubs"] == 3


@pytest.fixture
def warehouse() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:warehouse")
    connection.execute("create schema a; create table a.source (id int, name text)")
    connection.execute("create table a.model (id int, label text)")
    return connection


def origins(
    warehouse: duckdb.DuckDBPyConnection, cache: Path, sql: str = SQL
) -> dict[str, list[str]]:
    columns = Columns(warehouse, KEYS, cache)
    lineage = columns.metadata("a", "model", sql)["dagster/column_lineage"]
    columns.save()
    return {
        column: [dep.column_name for dep in deps]
        for column, deps in lineage.deps_by_column.items()
    }


def test_lineage_is_traced_again_when_the_query_or_a_table_has_changed(
    warehouse: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    cache = tmp_path / "built" / "lineage.json"
    traced = {"id": ["id"], "label": ["name"]}
    assert origins(warehouse, cache) == traced

    kept = json.loads(cache.read_text())
    kept["a.model"][1]["label"] = []  # to be seen where the cache is read
    cache.write_text(json.dumps(kept))
    later = SQL.replace("2026-05-01", "2026-05-02").replace("limit 5", "limit 6")
    assert origins(warehouse, cache, later) == traced | {"label": []}

    other = SQL.replace("name as label", "id as label")
    assert origins(warehouse, cache, other) == {"id": ["id"], "label": ["id"]}
    assert origins(warehouse, cache) == traced
    cache.write_text(json.dumps(kept))
    warehouse.execute("alter table a.source add column more int")
    assert origins(warehouse, cache) == traced
    cache.write_text("{")
    assert origins(warehouse, cache) == traced
