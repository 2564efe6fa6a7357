"""Metadata of a table: row count, columns and column lineage."""

import json
import re
from collections.abc import Mapping
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
from sqlglot import exp, parse_one
from sqlglot.errors import SqlglotError
from sqlglot.lineage import lineage
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import build_scope
from sqlglot.schema import MappingSchema

from connectors.landing.manifest import replace_file

__all__ = ["Columns"]

Table = tuple[str, str]  # schema, name

_LITERAL = re.compile(r"'[^']*'|(?<![\w.])\d+(?![\w.])")
"""Values in SQL, such as a run's instant; lineage does not depend on them."""


class Columns:
    """Reads a warehouse's catalog once, for the metadata of many tables.

    `keys` maps tables to assets. `cache` is a file that keeps lineage for the next run:
    SQLGlot takes longer for all models than many a run of them.
    """

    def __init__(
        self,
        warehouse: duckdb.DuckDBPyConnection,
        keys: Mapping[Table, dg.AssetKey],
        cache: Path,
    ) -> None:
        self._warehouse = warehouse
        self._keys = keys
        self._cache = cache
        try:
            self._known = json.loads(cache.read_bytes())
        except (FileNotFoundError, ValueError):  # traced again
            self._known = {}
        self._lineage: dict[str, Any] = {}
        self._columns: dict[Table, dict[str, str]] = {}
        catalog = warehouse.sql(
            "select schema_name, table_name, column_name, data_type "
            "from duckdb_columns() where not internal order by column_index"
        ).fetchall()
        for schema, table, column, kind in catalog:
            self._columns.setdefault((schema, table), {})[column] = kind

    def save(self) -> None:
        """Write the lineage of the tables that were asked for to the cache."""
        kept = self._known | self._lineage
        if kept != self._known:
            self._cache.parent.mkdir(exist_ok=True)
            replace_file(self._cache, json.dumps(kept).encode())

    def metadata(self, schema: str, table: str, sql: str | None) -> dict[str, Any]:
        """Return row count, columns and lineage, and the numbers of health tables.

        Numbers of other one-row tables can be personal data.
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
                metadata["dagster/column_lineage"] = dg.TableColumnLineage(
                    {
                        column: [
                            dg.TableColumnDep(self._keys[origin, name], found)
                            for origin, name, found in deps
                        ]
                        for column, deps in origins.items()
                    }
                )
        if rows == 1 and table.endswith("_health"):
            (values,) = self._warehouse.execute(f"from {relation}").fetchall()
            for name, value in zip(columns, values, strict=True):
                if isinstance(value, int | float):
                    metadata[name] = value
        return metadata

    def _origins(self, table: Table, sql: str) -> dict[str, list[list[str]]] | str:
        """Return schema, table and column of the origins per column, or an error."""
        name, key = ".".join(table), self._key(table, sql)
        if name in self._known and self._known[name][0] == key:
            origins: dict[str, list[list[str]]] | str = self._known[name][1]
        else:
            origins = self._trace(table, sql)
        self._lineage[name] = [key, origins]
        return origins

    def _key(self, table: Table, sql: str) -> str:
        """Return what lineage depends on: the query, and the columns it can read."""
        read = {
            ".".join(one): columns
            for one, columns in self._columns.items()
            if one == table or (one in self._keys and one[1] in sql)
        }
        return sha256(
            (_LITERAL.sub("0", sql) + json.dumps(read, sort_keys=True)).encode()
        ).hexdigest()

    @cached_property
    def _schema(self) -> MappingSchema:
        schema = MappingSchema(dialect="duckdb")
        for (db, table), columns in self._columns.items():
            schema.add_table(
                exp.table_(table, db=db, catalog="warehouse"),
                columns,
                dialect="duckdb",
            )
        return schema

    def _trace(self, table: Table, sql: str) -> dict[str, list[list[str]]] | str:
        try:
            query: Any = qualify(
                parse_one(sql, dialect="duckdb"),
                schema=self._schema,
                dialect="duckdb",
                validate_qualify_columns=False,
            )
            scope = build_scope(query)
            origins: dict[str, list[list[str]]] = {}
            for column in self._columns[table].keys() & {*query.named_selects}:
                root = lineage(column, query, scope=scope, dialect="duckdb")
                leaves = [node for node in root.walk() if not node.downstream]
                deps = {
                    (*origin, exp.to_column(leaf.name).name)
                    for leaf in leaves
                    for origin in [_table(leaf.expression)]
                    if origin in self._keys and origin != table
                }
                origins[column] = [list(dep) for dep in sorted(deps)]
        except SqlglotError as error:
            return str(error).partition(" in query")[0]
        return origins


def _table(expression: exp.Expr) -> Table:
    table = expression.find(exp.Table)
    return (table.db, table.name) if table else ("", "")
