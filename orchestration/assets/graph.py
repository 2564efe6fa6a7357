"""The definitions: every asset, check, job, schedule and sensor of one installation."""

import warnings
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import dagster as dg
import msgspec

from connectors.errors import ConfigError
from orchestration.assets.checks import (
    checked_assets,
    expectation_checks,
    name_checks,
)
from orchestration.assets.dbt_assets import model_assets
from orchestration.assets.event_tables import event_table_specs
from orchestration.assets.landing import landing_assets
from orchestration.assets.schedules import refreshes
from orchestration.assets.snapshot import snapshot_asset
from orchestration.assets.sync_assets import SYNC_DELTA, push_keys
from orchestration.audiences import Audience
from orchestration.expectations import load_suites
from orchestration.pipeline.dagster_instance import home_tag, kept_open
from orchestration.pipeline.dbt_runner import Models
from orchestration.pipeline.run import Run, running
from orchestration.project import Project, instant

__all__ = ["graph"]


def graph(
    models: Models, under_way: Callable[[], Run | None] = lambda: None
) -> dg.Definitions:
    """Return the definitions of the configuration; reads files but opens no database.

    Steps belong to the run that `under_way` returns, or else to a new run that starts
    with the first step.

    Raises:
        ConfigError: the configuration is invalid; lists every fault.
        ModelsFailed: dbt cannot read the models.
    """
    models.project.check(with_variables=False)
    with warnings.catch_warnings():
        # Code references of assets are a beta feature.
        warnings.simplefilter("ignore", dg.BetaWarning)
        return _graph(models, under_way)


def _graph(models: Models, under_way: Callable[[], Run | None]) -> dg.Definitions:
    project = models.project
    audiences, destinations = project.audiences(), project.destinations()
    suites = load_suites(project.defs)
    manifest = msgspec.json.decode(models.manifest_path().read_bytes())
    _compare(audiences, manifest)
    pushes = push_keys(audiences, destinations)
    jobs, schedules, sensors = refreshes(project.home, audiences)
    models_asset = model_assets(project, manifest)
    event_tables = event_table_specs(project.home, models_asset.keys)
    before = [SYNC_DELTA, *checked_assets(suites), *pushes]
    before += [table.key for table in event_tables]
    own = dg.Definitions(
        assets=[
            *dg.with_source_code_references(
                [*landing_assets(), snapshot_asset(before)]
            ),
            models_asset,
            *event_tables,
        ],
        asset_checks=[
            *([expectation_checks(suites)] if suites else []),
            *([name_checks(audiences)] if audiences else []),
        ],
        jobs=jobs,
        schedules=schedules,
        sensors=sensors,
        resources={"run": _run_resource(models, under_way)},
        # One process for all steps: it holds the lock and has dbt's manifest in memory.
        executor=dg.in_process_executor,
    )
    return dg.Definitions.merge(own, _components(project))


def _components(project: Project) -> dg.Definitions:
    """Return the definitions of the files below `orchestration/defs`.

    Found by folder, not by module name as `load_from_defs_folder` does: this code may
    be installed outside the project it runs.
    """
    if not any(project.defs.rglob("*.*")):
        return dg.Definitions()
    module = ModuleType("orchestration.defs")
    module.__file__ = str(project.defs / "__init__.py")
    return dg.ComponentTree(defs_module=module, project_root=project.path).build_defs()


def _run_resource(
    models: Models, under_way: Callable[[], Run | None]
) -> dg.ResourceDefinition:
    @dg.resource(
        config_schema={
            "as_of": dg.Field(
                str,
                is_required=False,
                description="As-of instant, e.g. 2026-05-01T00:00:00Z. Default: "
                "LOOMLINE_NOW, or else the current time.",
            ),
            "full_refresh": dg.Field(
                bool,
                default_value=False,
                description="Rebuild all tables except the histories.",
            ),
        },
        description="The run in progress; holds run.lock from first to last step.",
    )
    def run(context: dg.InitResourceContext) -> Iterator[Run]:
        current = under_way()
        if current is not None:
            yield current
            return
        # Not when the definitions load: `dg` loads them without these variables.
        models.project.check()
        config = context.resource_config
        log, instance, recorded = context.log, context.instance, context.run
        assert log is not None and instance is not None and recorded is not None
        # Assets materialized without a job do not get the tags of one.
        instance.add_run_tags(recorded.run_id, home_tag(models.project.home))
        models.say = log.info
        with (
            kept_open(),
            running(
                models,
                at=instant(config.get("as_of")),
                full_refresh=config["full_refresh"],
                say=log.info,
            ) as begun,
        ):
            yield begun

    return run


def _compare(audiences: dict[str, Audience], manifest: dict[str, Any]) -> None:
    """Check that dbt and the audience's file agree on `sync_to` and `refresh`."""
    for node in manifest["nodes"].values():
        audience = audiences.get(node["name"])
        if audience is None or node["resource_type"] != "model":
            continue
        meta = node["config"].get("meta", {})
        if (
            tuple(meta.get("sync_to", ())) != audience.sync_to
            or meta.get("refresh", "daily") != audience.refresh
        ):
            raise ConfigError(
                f"{node['original_file_path']}: set `sync_to` and `refresh` only under "
                f"config.meta in {audience.name}.yml."
            )
