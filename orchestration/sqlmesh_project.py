"""Runs SQLMesh on the dbt models, for development; see docs/sqlmesh.md.

SQLMesh never gets the path of the production warehouse: its tables and its state are in
`sqlmesh/` in the home folder.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import yaml
from dbt.artifacts.resources.v1.unit_test_definition import (
    UnitTestDefinition,
    UnitTestFormat,
)
from dotenv import dotenv_values
from sqlmesh.core.config import Config, DuckDBConnectionConfig, ModelDefaultsConfig
from sqlmesh.core.console import get_console
from sqlmesh.core.model import SeedModel
from sqlmesh.core.model.seed import CsvSettings
from sqlmesh.core.test.discovery import ModelTestMetadata
from sqlmesh.dbt.loader import DbtLoader, sqlmesh_config
from sqlmesh.dbt.project import Project as DbtProject

from connectors.home import Home
from connectors.landing.manifest import Manifest
from connectors.landing.prepare import prepare
from orchestration.project import NO_TELEMETRY, Project, instant

__all__ = ["sqlmesh_project"]

Columns = dict[str, dict[str, str]]  # per table of `prod`: name → type


class Loader(DbtLoader):
    """Reads the models as dbt does where SQLMesh would read them differently."""

    environment: Mapping[str, str]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Not earlier: SQLMesh resets environment variables set by a config. Not later:
        # `sqlmesh run` creates a loader without loading anything.
        os.environ.update(self.environment)
        super().__init__(*args, **kwargs)

    def _load_projects(self) -> list[DbtProject]:
        if self._projects:
            return self._projects
        for project in super()._load_projects():
            for package in project.packages.values():
                for model in package.models.values():
                    # Build a changed model beside the old one.
                    model.forward_only = False
                    if model.unique_key:
                        # dbt's delete+insert: a key may have several rows. SQLMesh
                        # would merge and keep one row per key.
                        model.partition_by = model.unique_key
                        model.unique_key = None
        return self._projects

    def _load_models(self, *args: Any, **kwargs: Any) -> Any:
        models, indexed = super()._load_models(*args, **kwargs)
        for name, model in models.items():
            if isinstance(model, SeedModel):
                # `None` and `nan` are plain text, as in dbt.
                csv = CsvSettings(keep_default_na=False, na_values=[""])
                kind = model.kind.copy(update={"csv_settings": csv})
                models.update({name: model.copy(update={"kind": kind})})
        return models, indexed

    def load_model_tests(self) -> list[ModelTestMetadata]:
        """Return dbt's unit tests, except those that override a macro."""
        columns = self._columns()
        if not columns:
            get_console().log_warning(
                "Unit tests take column types from `prod`, which is empty before the "
                "first `sqlmesh plan`."
            )
            return []
        return [
            test
            for project in self._load_projects()
            for test in _unit_tests(project, columns)
        ]

    def _columns(self) -> Columns:
        columns: Columns = {}
        for table, column, kind in self.context.engine_adapter.fetchall(
            "select schema_name || '.' || table_name, column_name, data_type "
            "from duckdb_columns() where database_name = current_database()"
        ):
            columns.setdefault(table, {})[column] = kind
        return columns


def _unit_tests(project: DbtProject, columns: Columns) -> Iterator[ModelTestMetadata]:
    context = project.context
    names = {name: node.canonical_name(context) for name, node in context.refs.items()}
    for test in context.manifest._manifest.unit_tests.values():
        if _is_for_dbt_alone(test):
            continue
        model = names[test.model]
        inputs = {names[one.input.split("'")[1]]: one for one in test.given}
        if not columns.keys() >= {model, *inputs}:
            continue  # new models are not in `prod` yet
        expected: Any = test.expect.rows
        if not expected:
            nulls = ", ".join(f'null as "{name}"' for name in columns[model])
            expected = {"query": f"select {nulls} limit 0"}
        yield ModelTestMetadata(
            path=context.project_root / test.original_file_path,
            test_name=test.name,
            body={
                "model": model,
                # A column missing in a row is null, of the column's type.
                "inputs": {
                    name: {"query": one.rows}
                    if one.format == UnitTestFormat.SQL
                    else {"rows": one.rows, "columns": columns[name]}
                    for name, one in inputs.items()
                },
                "outputs": {"query": expected, "partial": True},
            },
        )


def _is_for_dbt_alone(test: UnitTestDefinition) -> bool:
    """Return whether a test needs dbt: SQLMesh renders models with its own macros."""
    overrides = test.overrides
    if overrides is None:
        return False
    first_time = {"is_incremental": False, "watermark": -1}
    return bool(overrides.env_vars) or not (
        overrides.macros.items() <= first_time.items()
    )


def _let_environment_win(path: Path) -> None:
    """Give the environment precedence over `.env`; SQLMesh does the opposite."""
    initial = psutil.Process().environ()  # as of process start
    for name in dotenv_values(path / ".env"):
        if name in initial:
            os.environ[name] = initial[name]


def _write_profile(path: Path, folder: Path) -> None:
    """Write the project's DuckDB profile, pointing to SQLMesh's own file."""
    ((name, profile),) = yaml.safe_load(path.read_text(encoding="utf-8")).items()
    output = profile["outputs"]["duckdb"] | {"path": str(folder / "warehouse.duckdb")}
    output.pop("threads", None)  # SQLMesh always uses one, and warns otherwise
    written = yaml.safe_dump(
        {name: {"target": "duckdb", "outputs": {"duckdb": output}}}
    )
    target = folder / "profiles.yml"
    if not target.exists() or target.read_text(encoding="utf-8") != written:
        target.write_text(written, encoding="utf-8")


def _environment(home: Home, folder: Path) -> dict[str, str]:
    """Return the variables the models read, and the profile's folder."""
    return NO_TELEMETRY | {
        "LOOMLINE_HOME": str(home.path),
        "LOOMLINE_NOW": instant(None).isoformat(),
        "LOOMLINE_LOADED": str(Manifest(home).newest()),
        "LOOMLINE_ONLY": "",
        "DBT_PROFILES_DIR": str(folder),
    }


def sqlmesh_project(path: Path) -> Config:
    """Return the configuration of the project in a folder, on its home's copy.

    Raises:
        ConfigError: the home folder is not usable, or an audience's file is faulty.
    """
    os.environ["LOOMLINE_PROJECT"] = str(path)
    _let_environment_win(path)
    project = Project.find()
    prepare(project.home)
    folder = project.home.path / "sqlmesh"
    folder.mkdir(exist_ok=True)
    _write_profile(path / "profiles.yml", folder)
    environment = _environment(project.home, folder)
    os.environ.update(environment)
    return sqlmesh_config(
        path,
        state_connection=DuckDBConnectionConfig(database=str(folder / "state.db")),
        profiles_dir=folder,
        variables=project.dbt_vars(),
        loader=type("ProjectLoader", (Loader,), {"environment": environment}),
        # Models are always read whole; any start before the first interval works.
        model_defaults=ModelDefaultsConfig(dialect="duckdb", start="2026-01-01"),
        cache_dir=str(folder / "cache"),
        disable_anonymized_analytics=True,
    )
