"""What may stand beside an audience's SQL, and what is told of a typo there."""

from dataclasses import fields
from pathlib import Path

import dbt.adapters.factory  # noqa: F401  # dbt's modules want to be imported in order
import pytest
from dbt.contracts.graph.unparsed import UnparsedModelUpdate

from connectors.errors import ConfigError
from connectors.home import Home
from orchestration.audiences import ENTRY, Audience, read_audiences
from orchestration.project import Project


def read(folder: Path, text: str) -> tuple[Audience, list[str]]:
    (folder / "aud_a.sql").write_text("select profile_id from profiles")
    (folder / "aud_a.yml").write_text(f"models:\n  - name: aud_a\n{text}")
    audiences, faults = read_audiences(folder, {"crm": object()})
    return audiences["aud_a"], [fault.removeprefix(f"{folder}/") for fault in faults]


def test_what_dbt_and_loomline_read_of_an_audience_is_accepted(tmp_path: Path) -> None:
    text = """
    description: One row per profile.
    access: public
    columns: [{name: profile_id, data_tests: [unique]}]
    config:
      tags: [growth]
      meta: {sync_to: [crm], refresh: hourly, owner: growth}
"""
    assert read(tmp_path, text) == (Audience("aud_a", ("crm",), "hourly", "growth"), [])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "    config:\n      meta:\n        synk_to: [crm]\n",
            "aud_a.yml, line 5: `synk_to` is not a key here; allowed are: owner, "
            "refresh, sync_to. Did you mean `sync_to`?",
        ),
        (
            "    config:\n      meta: {refresh: daily, team: growth}\n",
            "aud_a.yml, line 4: `team` is not a key here; allowed are: owner, refresh, "
            "sync_to.",
        ),
        (
            "    config:\n      meta:\n        on_enter: [crm]\n",
            "aud_a.yml, line 5: `on_enter` is not supported yet; remove it.",
        ),
        (
            "    config:\n      meta:\n        cooldown_days: 7\n",
            "aud_a.yml, line 5: `cooldown_days` is not supported yet; remove it.",
        ),
        (
            "    sync_to: [crm]\n",
            "aud_a.yml, line 3: `sync_to` has no effect here; move it to "
            "`config.meta`.",
        ),
        (
            "    config: {sync_to: [crm]}\n",
            "aud_a.yml, line 3: `sync_to` has no effect here; move it to "
            "`config.meta`.",
        ),
        (
            "    meta: {sync_to: [crm]}\n",
            "aud_a.yml, line 3: `meta` has no effect here; move it to `config`.",
        ),
        (
            "    config: {meta: {sync_to: [cmr]}}\n",
            "aud_a.yml, line 3: `sync_to` names cmr, but there is no "
            "orchestration/defs/destinations/cmr/defs.yaml; configured: crm. "
            "Did you mean `crm`?",
        ),
        (
            "    config: [meta]\n",
            "aud_a.yml, line 3: `config` must be a mapping.",
        ),
    ],
)
def test_a_key_that_nothing_reads_is_told_with_line_and_nearest_name(
    tmp_path: Path, text: str, told: str
) -> None:
    assert read(tmp_path, text) == (Audience("aud_a"), [told])


def test_a_misspelled_description_is_told(tmp_path: Path) -> None:
    _, (fault,) = read(tmp_path, "    descripton: One row per profile.\n")
    assert fault.startswith("aud_a.yml, line 3: `descripton` is not a key here;")
    assert fault.endswith("Did you mean `description`?")


def test_the_keys_of_an_entry_are_those_that_dbt_reads() -> None:
    own = {"original_file_path", "yaml_key", "package_name", "_extra"}
    not_of_models = {"data_type", "quote_columns"}
    read_by_dbt = {field.name for field in fields(UnparsedModelUpdate)}
    assert {*ENTRY, "meta"} == read_by_dbt - own - not_of_models


def test_a_typo_beside_an_audience_stops_every_start(
    tmp_path: Path,
) -> None:
    audiences = tmp_path / "models" / "audiences"
    audiences.mkdir(parents=True)
    (audiences / "aud_a.sql").touch()
    (audiences / "aud_a.yml").write_text(
        "models:\n  - name: aud_a\n    config: {meta: {onwer: growth}}\n"
    )
    project = Project(tmp_path, Home(tmp_path / "home"))
    for start in (project.check, project.audiences):
        with pytest.raises(ConfigError, match=r"aud_a\.yml, line 3: .*`owner`\?"):
            start()
