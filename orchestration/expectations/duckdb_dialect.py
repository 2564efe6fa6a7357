"""A SQLAlchemy dialect for an existing DuckDB connection, which its owner closes.

Great Expectations only uses SQLAlchemy. DuckDB's SQL is close to PostgreSQL's, whose
dialect writes it; metadata comes from DuckDB's own functions.

    engine = create_engine(URL, creator=lambda: connection, poolclass=StaticPool)

For reading only: each statement is its own transaction. A rollback when a connection
returns to its pool would discard unfetched results.
"""

from typing import TYPE_CHECKING, Any

import duckdb
from sqlalchemy import exc, types
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.base import PGDialect, PGIdentifierPreparer

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["URL", "Dialect"]

URL = "duckdb+loomline://"
registry.register("duckdb.loomline", __name__, "Dialect")


class _Quoting(PGIdentifierPreparer):
    def _requires_quotes(self, value: str) -> bool:
        return True  # DuckDB's reserved words are not PostgreSQL's: `at` is one


class Dialect(PGDialect):
    """DuckDB: its types by their SQL names; nested types as NullType."""

    name = "duckdb"
    driver = "loomline"
    preparer = _Quoting
    supports_statement_cache = True

    @classmethod
    def import_dbapi(cls) -> Any:
        return duckdb

    def initialize(self, connection: "Connection") -> None:
        self.default_schema_name = "main"

    def do_begin(self, *_: object) -> None: ...

    def do_commit(self, *_: object) -> None: ...

    def do_rollback(self, *_: object) -> None: ...

    def get_schema_names(self, connection: "Connection", **_: Any) -> list[str]:
        return _names(connection, "schema_name from duckdb_schemas()")

    def get_table_names(
        self, connection: "Connection", schema: str | None = None, **_: Any
    ) -> list[str]:
        return _names(connection, "table_name from duckdb_tables()", schema or "main")

    def get_view_names(
        self, connection: "Connection", schema: str | None = None, **_: Any
    ) -> list[str]:
        return _names(connection, "view_name from duckdb_views()", schema or "main")

    def has_table(
        self,
        connection: "Connection",
        table_name: str,
        schema: str | None = None,
        **_: Any,
    ) -> bool:
        return table_name in [
            *self.get_table_names(connection, schema),
            *self.get_view_names(connection, schema),
        ]

    def get_columns(
        self,
        connection: "Connection",
        table_name: str,
        schema: str | None = None,
        **_: Any,
    ) -> list[Any]:
        rows = connection.exec_driver_sql(
            "select column_name, data_type, is_nullable from duckdb_columns()"
            " where database_name = current_database()"
            " and schema_name = ? and table_name = ? order by column_index",
            (schema or "main", table_name),
        ).all()
        if not rows:
            raise exc.NoSuchTableError(table_name)
        return [
            {
                "name": str(name),
                "type": _type(str(data_type)),
                "nullable": bool(is_nullable),
                "default": None,
            }
            for name, data_type, is_nullable in rows
        ]

    def get_pk_constraint(self, *_: Any, **__: Any) -> Any:
        return {"constrained_columns": [], "name": None}  # dbt creates none


def _names(connection: "Connection", what: str, schema: str | None = None) -> list[str]:
    """Return the names a `duckdb_…()` function lists, in this database only."""
    query = f"select {what} where database_name = current_database()"
    if schema is None:
        rows = connection.exec_driver_sql(query)
    else:
        rows = connection.exec_driver_sql(f"{query} and schema_name = ?", (schema,))
    return sorted(str(name) for (name,) in rows)


def _type(text: str) -> types.TypeEngine[Any]:
    if text == "TIMESTAMP WITH TIME ZONE":
        return types.TIMESTAMP(timezone=True)
    type_class = getattr(types, text.partition("(")[0], None)
    if not isinstance(type_class, type) or text.endswith("]"):
        return types.NullType()
    instance = type_class()
    return instance if isinstance(instance, types.TypeEngine) else types.NullType()
