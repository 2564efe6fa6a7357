"""dbt's parsed project is read again from `target/` while nothing it holds changed."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from connectors.home import Home
from orchestration.pipeline.dbt_runner import Models
from orchestration.project import Project

MODEL = "models/audiences/aud_all.sql"


@pytest.fixture
def parse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Parse in a home of that name; returns the SQL of the model as it was read."""
    project = tmp_path / "project"
    (project / MODEL).parent.mkdir(parents=True)
    (project / MODEL).write_text("select 1 as profile_id")
    (project / "dbt_project.yml").write_text("{name: loomline, profile: loomline}")
    (project / "models/schema.yml").write_text(
        "models: [{name: aud_all, config: {alias: "
        "\"all{{ env_var('SCHEMA_SUFFIX', '') }}\"}}]"
    )
    (project / "profiles.yml").write_text(
        "loomline: {target: dev, outputs: {dev: {type: duckdb, "
        "path: \"{{ env_var('LOOMLINE_HOME') }}/warehouse.duckdb\"}}}"
    )
    monkeypatch.setenv("DBT_TARGET_PATH", str(project / "target"))

    def parse(home: str) -> str:
        monkeypatch.setenv("LOOMLINE_HOME", str(tmp_path / home))
        models = Models(Project(project, Home(tmp_path / home)))
        models.parse()
        assert not models.is_outdated()
        assert models._manifest is not None
        return models._manifest.nodes["model.loomline.aud_all"].raw_code

    return parse


def written(folder: Path) -> int:
    """When dbt last parsed the project."""
    return (folder / "project/target/loomline_parsed").stat().st_mtime_ns


def test_another_home_or_a_touched_file_parses_nothing(
    parse: Callable[[str], str], tmp_path: Path
) -> None:
    parse("one")
    before = written(tmp_path)
    assert parse("other") == "select 1 as profile_id"
    (tmp_path / "project" / MODEL).touch()
    parse("one")
    assert written(tmp_path) == before


@pytest.mark.parametrize(
    "change", ["model", "new file", "target", "variable", "package", "cache"]
)
def test_a_change_is_parsed(
    parse: Callable[[str], str],
    tmp_path: Path,
    change: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parse("one")
    before = written(tmp_path)
    project = tmp_path / "project"
    text = "select 1 as profile_id"
    if change == "model":
        text = "select 2 as profile_id"
        (project / MODEL).write_text(text)
    elif change == "new file":
        (project / MODEL).with_name("aud_more.sql").write_text("select 1 as profile_id")
    elif change == "target":
        monkeypatch.setenv("DBT_TARGET", "dev")
    elif change == "variable":
        monkeypatch.setenv("SCHEMA_SUFFIX", "_test")
    elif change == "package":
        (project / "packages.yml").write_text("packages: []")
    else:
        (project / "target/partial_parse.msgpack").write_bytes(b"cut off")
    assert parse("one") == text
    assert written(tmp_path) != before


def test_the_manifest_follows_a_file_that_came_with_an_old_time(
    parse: Callable[[str], str], tmp_path: Path
) -> None:
    parse("one")
    model = tmp_path / "project" / MODEL
    model.write_text("select 3 as profile_id")
    os.utime(model, (0, 0))  # as a copy from a backup has
    models = Models(Project(tmp_path / "project", Home(tmp_path / "one")))
    manifest = json.loads(models.manifest_path().read_bytes())
    node = manifest["nodes"]["model.loomline.aud_all"]
    assert node["raw_code"] == "select 3 as profile_id"
