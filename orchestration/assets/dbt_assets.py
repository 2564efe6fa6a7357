"""The dbt models as assets: folders are groups, tests are checks."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import duckdb
from dagster_dbt import (
    DagsterDbtTranslator,
    DagsterDbtTranslatorSettings,
    DbtProject,
    dbt_assets,
)
from dagster_dbt.asset_utils import DAGSTER_DBT_UNIQUE_ID_METADATA_KEY as UNIQUE_ID

from orchestration.assets.columns import Columns
from orchestration.assets.event_tables import REGISTRY, materializations
from orchestration.assets.landing import LANDED
from orchestration.pipeline.build_state import built_from
from orchestration.pipeline.dbt_runner import ModelsFailed, open_when_free
from orchestration.pipeline.model_errors import without_values
from orchestration.pipeline.run import Run
from orchestration.project import Project

__all__ = ["model_assets"]

Event = dg.MaterializeResult[None] | dg.AssetCheckResult

GOOD = {"success", "pass", "no-op"}


class _Translator(DagsterDbtTranslator):
    """Groups are the folders of the flow; raw streams come from the landed files."""

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        """Return schema and table, as used in SQL."""
        table = dbt_resource_props["alias"] or dbt_resource_props["name"]
        return dg.AssetKey([dbt_resource_props["schema"], table])

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        if dbt_resource_props["resource_type"] == "seed":
            return "seeds"
        return str(dbt_resource_props["fqn"][1])

    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> list[str] | None:
        owner = dbt_resource_props.get("config", {}).get("meta", {}).get("owner")
        return [f"team:{owner}"] if owner else None

    def get_asset_spec(
        self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None
    ) -> dg.AssetSpec:
        spec = super().get_asset_spec(manifest, unique_id, project)
        if unique_id.startswith("model.") and ".raw_" in unique_id:
            return spec.merge_attributes(deps=[LANDED])
        return spec


def model_assets(project: Project, manifest: dict[str, Any]) -> dg.AssetsDefinition:
    """Return all models and seeds as one step: dbt orders and tests them."""

    @dbt_assets(
        manifest=manifest,
        project=DbtProject(project.path, profiles_dir=project.path),
        dagster_dbt_translator=_Translator(
            DagsterDbtTranslatorSettings(enable_code_references=True)
        ),
        name="models",
        pool="warehouse",
        required_resource_keys={"run"},
    )
    def models(context: dg.AssetExecutionContext) -> Iterator[Event]:
        run: Run = context.resources.run
        select, only = _selection(context, manifest, {*project.audiences()})
        failed: ModelsFailed | None = None
        try:
            nodes = run.build(select, only)
        except ModelsFailed as error:
            nodes, failed = list(error.nodes), error
        if nodes:
            path = run.home.warehouse
            with open_when_free(path, run.say, read_only=True) as warehouse:
                yield from _events(context, run, nodes, warehouse)
        if failed is not None:
            raise failed

    return models


def _selection(
    context: dg.AssetExecutionContext, manifest: Mapping[str, Any], audiences: set[str]
) -> tuple[str | None, tuple[str, ...] | None]:
    """Return dbt's selection and the audiences that are due; None selects all."""
    assets = context.assets_def
    keys = context.selected_asset_keys
    if not keys:  # only checks
        checks = assets.check_specs_by_output_name.values()
        ids = [
            (spec.metadata or {})[UNIQUE_ID]
            for spec in checks
            if spec.key in context.selected_asset_check_keys
        ]
        return " ".join(manifest["nodes"][id]["name"] for id in ids), None
    names = [
        manifest["nodes"][assets.get_asset_spec(key).metadata[UNIQUE_ID]]["name"]
        for key in keys
    ]
    if len(names) == len(assets.node_keys_by_output_name):
        return None, None
    only = tuple(sorted(audiences & {*names}))
    return " ".join(sorted(names)), only if len(only) < len(audiences) else None


def _events(
    context: dg.AssetExecutionContext,
    run: Run,
    nodes: list[Any],
    warehouse: duckdb.DuckDBPyConnection,
) -> Iterator[Event]:
    """Yield the result of each node that is an asset or check of the selection."""
    specs = {
        spec.metadata[UNIQUE_ID]: spec
        for spec in context.assets_def.specs
        if spec.key in context.selected_asset_keys
    }
    checks = {
        (spec.metadata or {})[UNIQUE_ID]: spec.key
        for spec in context.assets_def.check_specs
        if spec.key in context.selected_asset_check_keys
    }
    columns = Columns(
        warehouse,
        {
            (key.path[0], key.path[1]): key
            for key in context.assets_def.node_keys_by_output_name.values()
        },
        built_from(run.home).with_name("lineage.json"),
    )
    for result in nodes:
        node = result.node
        is_seed = node.resource_type == "seed"
        if node.unique_id in specs and str(result.status) in GOOD:
            if specs[node.unique_id].key == REGISTRY:
                for event in materializations(
                    run.home, warehouse, columns, context.assets_def.keys
                ):
                    context.log_event(event)
            sql = None if is_seed else node.compiled_code
            with run.result.timed("lineage"):
                metadata = columns.metadata(node.schema, node.alias, sql)
            yield dg.MaterializeResult(
                asset_key=specs[node.unique_id].key,
                metadata={"seconds": round(result.execution_time, 3), **metadata},
            )
        elif node.unique_id in checks and str(result.status) != "skipped":
            key = checks[node.unique_id]
            yield dg.AssetCheckResult(
                asset_key=key.asset_key,
                check_name=key.name,
                passed=str(result.status) == "pass",
                severity=dg.AssetCheckSeverity.WARN
                if str(result.status) == "warn"
                else dg.AssetCheckSeverity.ERROR,
                metadata={
                    "failed_rows": result.failures or 0,
                    **(
                        {"why": without_values(result.message)}
                        if result.message
                        else {}
                    ),
                },
            )
    columns.save()
