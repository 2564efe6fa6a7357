"""dbt's exposures say of each destination what it receives and whose that is."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from connectors.errors import ConfigError
from connectors.home import Home
from orchestration.exposures import write_exposures
from orchestration.project import Project

DESTINATION = """
type: orchestration.components.Destination
attributes: {kind: file, url: out, format: csv}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("DBT_TARGET_PATH", "target")
    for name in ("crm", "drop"):
        folder = tmp_path / "orchestration" / "defs" / "destinations" / name
        folder.mkdir(parents=True)
        (folder / "defs.yaml").write_text(DESTINATION)
    audiences = tmp_path / "models" / "audiences"
    audiences.mkdir(parents=True)
    for name, owner in (("aud_a", "sales"), ("aud_b", "growth")):
        (audiences / f"{name}.sql").touch()
        (audiences / f"{name}.yml").write_text(
            f"models:\n  - name: {name}\n"
            f"    config: {{meta: {{sync_to: [crm], owner: {owner}}}}}\n"
        )
    return Project(tmp_path, Home(tmp_path / "home"))


def exposures(project: Project) -> list[dict[str, Any]]:
    write_exposures(project)
    path = project.path / "target" / "exposures" / "destinations.yml"
    assert [*path.parent.iterdir()] == [path]
    content: dict[str, list[dict[str, Any]]] = yaml.safe_load(path.read_text())
    return content["exposures"]


def test_each_destination_says_what_it_receives(project: Project) -> None:
    crm, drop = exposures(project)
    assert crm == {
        "name": "crm",
        "type": "application",
        "owner": {"name": "growth, sales"},
        "description": "Receives `aud_a`, `aud_b` (file).",
        "depends_on": ["ref('sync_members')", "ref('sync_delta')"],
    }
    assert drop["owner"] == {"name": "no owner"}
    assert drop["description"] == "Receives no audience (file)."


def test_a_removed_destination_is_gone_and_an_unchanged_file_is_not_written(
    project: Project,
) -> None:
    exposures(project)
    path = project.path / "target" / "exposures" / "destinations.yml"
    before = path.stat().st_mtime_ns
    exposures(project)
    assert path.stat().st_mtime_ns == before
    shutil.rmtree(project.defs / "destinations" / "drop")
    assert [one["name"] for one in exposures(project)] == ["crm"]


def test_an_exposure_with_the_name_of_a_destination_is_refused(
    project: Project,
) -> None:
    path = project.path / "models" / "dashboards.yml"
    path.write_text("exposures:\n  - name: board\n  - name: crm\n")
    destination = project.defs / "destinations" / "crm" / "defs.yaml"
    with pytest.raises(ConfigError) as refused:
        write_exposures(project)
    assert str(refused.value) == (
        f"{path}, line 3: {destination} already makes an exposure `crm`; rename one."
    )


@pytest.mark.parametrize("content", ["exposures:", "exposures: [1]", "- exposures:"])
def test_what_is_no_exposure_is_left_to_dbt(project: Project, content: str) -> None:
    (project.path / "models" / "dashboards.yml").write_text(content)
    assert len(exposures(project)) == 2
