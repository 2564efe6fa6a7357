"""The project as dbt reads it: contracts of public tables, and descriptions."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from dbt.artifacts.resources.types import AccessType
from dbt.contracts.graph.nodes import ModelNode

from orchestration.pipeline.dbt_runner import Models
from tests.support.warehouses import Warehouse

PROMISED = {
    *("staging.events", "staging.dispositions"),
    *("identity.identity_edges", "identity.identity_nodes"),
    *("identity.identity_conflicts", "identity.profile_aliases"),
    *("identity.profile_merges", "profiles.profiles", "profiles.profile_traits"),
    *("profiles.profile_events", "profiles.groups", "profiles.group_members"),
    *("profiles.consent", "audiences.audience_members", "destinations.sync_members"),
    *("destinations.sync_delta", "destinations.sync_runs"),
}


def models(warehouse: Warehouse) -> dict[str, ModelNode]:
    manifest = warehouse.models._manifest
    assert manifest is not None
    return {
        f"{node.schema}.{node.alias}": node
        for node in manifest.nodes.values()
        if isinstance(node, ModelNode)
    }


def faults(nodes: Iterable[ModelNode]) -> Iterator[str]:
    """Yield what public models lack; audiences are one file and need no contract."""
    for node in nodes:
        if node.access != "public" or node.name.startswith("aud_"):
            continue
        if not node.contract.enforced:
            yield f"{node.name} has no enforced contract"
        for column in node.columns.values():
            if not (column.data_type and column.description):
                yield f"{node.name}.{column.name} has no type or no description"


def test_the_promised_tables_and_the_audiences_are_public(warehouse: Warehouse) -> None:
    public = {
        name for name, node in models(warehouse).items() if node.access == "public"
    }
    audiences = {f"audiences.{name}" for name in warehouse.models.project.audiences()}
    assert public == PROMISED | audiences


def test_every_public_model_has_an_enforced_contract(warehouse: Warehouse) -> None:
    assert list(faults(models(warehouse).values())) == []


def test_a_public_model_without_a_contract_is_reported(warehouse: Warehouse) -> None:
    node = models(warehouse)["profiles.groups"]
    column = replace(node.columns["traits"], data_type=None)
    broken = replace(
        node,
        columns={"traits": column},
        contract=replace(node.contract, enforced=False),
    )
    assert list(faults([broken])) == [
        "groups has no enforced contract",
        "groups.traits has no type or no description",
    ]
    assert list(faults([node, replace(broken, access=AccessType.Protected)])) == []


def test_the_tables_have_the_types_of_their_contracts(warehouse: Warehouse) -> None:
    warehouse.build()
    for name in sorted(PROMISED):
        node = models(warehouse)[name]
        promised = [
            (column.name, str(column.data_type)) for column in node.columns.values()
        ]
        schema, table = name.split(".")
        built = warehouse.rows(
            "select column_name, replace(lower(data_type), '\"', '') "
            "from duckdb_columns() where database_name = current_database() "
            f"and schema_name = '{schema}' and table_name = '{table}' "
            "order by column_index"
        )
        assert built == promised, name


def test_events_are_stored_by_name_and_time(warehouse: Warehouse) -> None:
    """With a contract dbt inserts into a table, in the order of the query."""
    warehouse.land(
        [
            {
                "type": "track",
                "event": name,
                "userId": "u",
                "messageId": f"{name}{day}",
                "timestamp": f"2026-04-{day:02}T00:00:00Z",
                "receivedAt": f"2026-04-{day:02}T00:00:00Z",
            }
            for day in range(28, 0, -1)
            for name in ("Viewed", "Bought")
        ],
        "web",
    )
    warehouse.build(select="+profile_events")
    stored = warehouse.rows("select event, timestamp from profiles.profile_events")
    assert len(stored) == 56 and stored == sorted(stored)


# Descriptions


def columns(project: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(
        [*project.glob("models/**/*.yml"), *project.glob("seeds/*.yml")]
    ):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        for entry in [*content.get("models", ()), *content.get("seeds", ())]:
            for column in entry.get("columns", ()):
                yield entry["name"], column


def test_a_description_stands_once(project_path: Path) -> None:
    """Columns with the same meaning share a block of models/columns.md."""
    written = Counter(
        column["description"].strip()
        for _, column in columns(project_path)
        if "{{" not in column.get("description", "{{")
    )
    assert [text for text, count in written.items() if count > 1] == []


def test_every_block_is_used_by_several_columns(
    warehouse: Warehouse, project_path: Path
) -> None:
    used = Counter(
        column["description"]
        for _, column in columns(project_path)
        if "{{" in column.get("description", "")
    )
    manifest = warehouse.models._manifest
    assert manifest is not None
    blocks = {doc.name for doc in manifest.docs.values() if doc.package_name != "dbt"}
    shared = {f'{{{{ doc("{name}") }}}}' for name in blocks - {"__overview__"}}
    assert shared == {*used}
    assert [name for name, count in used.items() if count < 2] == []


# Parsing


def test_no_file_is_read_again_because_a_run_has_other_variables(
    warehouse: Warehouse,
) -> None:
    """dbt parses a file again if a variable that it reads has a new value."""
    read = Models(warehouse.models.project)
    read.parse()
    manifest = read._manifest
    assert manifest is not None
    assert [name for name in manifest.env_vars if name.startswith("LOOMLINE_")] == []
