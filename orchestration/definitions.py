"""What Dagster shows and runs: landing, the models, the pushes."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import msgspec
from dagster_dbt import DagsterDbtTranslator, DbtCliResource, DbtProject, dbt_assets

from connectors.landing.compaction import compact, sweep
from connectors.landing.inbox import land_inbox
from connectors.landing.locks import exclusive
from connectors.landing.prepare import prepare
from orchestration.delivery import deliver_changes, deliver_pending, read_syncs
from orchestration.models import BUILD_FLAGS, Models
from orchestration.project import Project, instant
from orchestration.rules import building

__all__ = ["defs"]

_project = Project.find()
_dbt_project = DbtProject(_project.path, profiles_dir=_project.path)
_vars = ["--vars", msgspec.json.encode(_project.dbt_vars()).decode()]


def _manifest() -> Path:
    """dbt's manifest, made anew when a file it comes from is newer."""
    path = _dbt_project.manifest_path
    folders = ("models", "macros", "seeds", "tests/data", "orchestration/defs")
    files = [_project.path / "dbt_project.yml"]
    for folder in folders:
        files += (_project.path / folder).rglob("*")
    newest = max(file.stat().st_mtime for file in files)
    if not path.exists() or path.stat().st_mtime < newest:
        Models(_project).parse()
    return path


class _Translator(DagsterDbtTranslator):
    """Groups are the folders of the flow; raw streams come from the landed files."""

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        """Schema and table, as they are asked for in SQL."""
        table = dbt_resource_props["alias"] or dbt_resource_props["name"]
        return dg.AssetKey([dbt_resource_props["schema"], table])

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        if dbt_resource_props["resource_type"] == "seed":
            return "seeds"
        return str(dbt_resource_props["fqn"][1])

    def get_asset_spec(
        self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None
    ) -> dg.AssetSpec:
        spec = super().get_asset_spec(manifest, unique_id, project)
        if unique_id.startswith("model.") and ".raw_" in unique_id:
            return spec.merge_attributes(deps=[dg.AssetKey("landed_files")])
        return spec


@dg.asset(group_name="landing")
def landed_files(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    """Files of the inbox, admitted and landed as raw streams."""
    prepare(_project.home)
    done = land_inbox(_project.home, _project.path, on_problem=context.log.warning)
    compact(_project.home)
    return dg.MaterializeResult(
        metadata={"received": done.received, **dict(done.dispositions)}
    )


@dbt_assets(
    manifest=_manifest(), project=_dbt_project, dagster_dbt_translator=_Translator()
)
def models(context: dg.AssetExecutionContext, dbt: DbtCliResource) -> Iterator[Any]:
    project_models = Models(_project, say=context.log.info)
    with (
        exclusive(_project.home.run_lock, on_wait=context.log.info),
        building(_project) as must_rebuild,
        project_models.environment(at=instant(None)),
    ):
        project_models.wait_until_free()
        arguments = ["build", *BUILD_FLAGS, *_vars]
        if must_rebuild:
            arguments.append("--full-refresh")
        yield from dbt.cli(arguments, context=context).stream()
        sweep(_project.home)


@dg.asset(group_name="destinations", deps=[dg.AssetKey(["destinations", "sync_delta"])])
def pushes(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    """What changed, delivered and confirmed."""
    home, destinations = _project.home, _project.destinations()
    project_models = Models(_project, say=context.log.info)
    at = instant(None)
    with exclusive(home.run_lock, on_wait=context.log.info):
        recovered = deliver_pending(home, destinations)
        # The difference is what is left after that.
        project_models.refresh_confirmed(at=at)
        found = deliver_changes(
            home, destinations, read_syncs(home), at=at, recovered=recovered
        )
        project_models.refresh_confirmed(at=at)
    return dg.MaterializeResult(
        metadata={
            f"{push.sync.audience} → {push.sync.destination}": (
                f"+{push.added} -{push.removed}, {push.pending} pending"
            )
            for push in found
        }
    )


defs = dg.Definitions(
    assets=[landed_files, models, pushes],
    resources={
        "dbt": DbtCliResource(
            project_dir=_dbt_project,
            # beside the Python that runs this: an environment need not be activated
            dbt_executable=str(Path(sys.executable).with_name("dbt")),
        )
    },
)
