"""Numbers of a table in Dagster are those of its health, never a person's."""

import duckdb

from orchestration.assets.columns import Columns


def test_only_tables_of_health_have_their_numbers_as_metadata() -> None:
    with duckdb.connect() as warehouse:
        warehouse.execute("create schema events; create schema identity")
        warehouse.execute("create table events.signed_up as select 33612345 as phone")
        warehouse.execute("create table identity.identity_health as select 3 as hubs")
        columns = Columns(warehouse, {})
        event = columns.metadata("events", "signed_up", None)
        health = columns.metadata("identity", "identity_health", None)
    assert event["dagster/row_count"] == 1
    assert "phone" not in event
    assert health["hubs"] == 3
