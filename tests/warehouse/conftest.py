"""Home folders with models; dbt parses the project once for all tests."""

from dataclasses import replace
from pathlib import Path

import pytest

from connectors.home import Home
from connectors.landing.prepare import prepare
from orchestration.pipeline.dbt_runner import Models
from orchestration.project import Project
from tests.support.warehouses import MakeWarehouse, Warehouse


@pytest.fixture(scope="session")
def _parsed() -> list[Models]:
    """Cache for models that have parsed the project."""
    return []


@pytest.fixture
def make_warehouse(
    tmp_path: Path,
    project_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    _parsed: list[Models],
) -> MakeWarehouse:
    """Return a function that creates an empty installation."""
    made: list[Warehouse] = []

    def make() -> Warehouse:
        home = Home(tmp_path / f"home-{len(made)}")
        prepare(home)
        monkeypatch.setenv("LOOMLINE_HOME", str(home.path))
        project = Project(project_path, home)
        if not _parsed:
            _parsed.append(Models(project))
            _parsed[0].parse()
        models = replace(_parsed[0], project=project)
        made.append(Warehouse(models))
        return made[-1]

    return make


@pytest.fixture
def warehouse(make_warehouse: MakeWarehouse) -> Warehouse:
    return make_warehouse()
