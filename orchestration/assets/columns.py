"""Metadata of a table: row count, columns and column lineage."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import duckdb
from sqlglot import exp, parse_one
from sqlglot.errors import SqlglotError
from sqlglot.lineage import lineage
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import build_scope
from sqlglot.schema import MappingSchema

__all__ = ["Columns"]

Table = tuple[str, str]  # schema, name


class Columns:
    """Reads a warehouse's catalog once, for the metadata of many tables.

    `keys` maps tables to assets.
    """

    def __init__(
        self, warehouse: duckdb.DuckDBPyConnection, keys: Mapping[Table, dg.AssetKey]
    ) -> None:
        self._warehouse = warehouse
        self._keys = keys
        self._columns: dict[Table, dict[str, str]] = {}
        catalog = warehouse.sql(
            "select schema_name, table_name, column_name, data_type "
            "from duckdb_columns() where not internal order by column_index"
        ).fetchall()
        for schema, table, column, kind in catalog:
            self._columns.setdefault((schema, table), {})[column] = kind
        self._schema = MappingSchema(dialect="duckdb")
        for (schema, table), columns in self._columns.items():
            self._schema.add_table(
                exp.table_(table, db=schema, catalog="warehouse"),
                columns,
                dialect="duckdb",
            )

    def metadata(self, schema: str, table: str, sql: str | None) -> dict[str, Any]:
        """Rows, columns and their origins; of a table of health its numbers as well.

        Other tables of one row may hold a person's.
        """
        columns = self._columns[schema, table]
        relation = exp.table_(table, db=schema, quoted=True).sql(dialect="duckdb")
        counted = self._warehouse.execute(f"select count(*) from {relation}").fetchall()
        rows: int = counted[0][0]
        metadata: dict[str, Any] = {
            "dagster/row_count": rows,
            "dagster/column_schema": dg.TableSchema(
                [dg.TableColumn(name, kind) for name, kind in columns.items()]
            ),
        }
        if sql:
            origins = self._origins((schema, table), sql)
            if isinstance(origins, str):
                metadata["columns without lineage"] = origins
            else:
                metadata["dagster/column_lineage"] = dg.TableColumnLineage(origins)
        if rows == 1 and table.endswith("_health"):
            (values,) = self._warehouse.execute(f"from {relation}").fetchall()
            for name, value in zip(columns, values, strict=True):
                if isinstance(value, int | float):
                    metadata[name] = value
        return metadata

    def _origins(
        self, table: Table, sql: str
    ) -> dict[str, list[dg.TableColumnDep]] | str:
        """Return the source columns of each column, or an error message."""
        try:
            query: Any = qualify(
                parse_one(sql, dialect="duckdb"),
                schema=self._schema,
                dialect="duckdb",
                validate_qualify_columns=False,
            )
            scope = build_scope(query)
            origins: dict[str, list[dg.TableColumnDep]] = {}
            for column in self._columns[table].keys() & {*query.named_selects}:
                root = lineage(column, query, scope=scope, dialect="duckdb")
                leaves = [node for node in root.walk() if not node.downstream]
                deps = {
                    (self._keys[origin], exp.to_column(leaf.name).name)
                    for leaf in leaves
                    for origin in [_table(leaf.expression)]
                    if origin in self._keys and origin != table
                }
                origins[column] = [
                    dg.TableColumnDep(key, name) for key, name in sorted(deps)
                ]
        except SqlglotError as error:
            return str(error).partition(" in query")[0]
        return origins


def _table(expression: exp.Expr) -> Table:
    table = expression.find(exp.Table)
    return (table.db, table.name) if table else ("", "")
