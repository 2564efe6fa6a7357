"""What a contributor meets: hooks, checks of a change, templates, the docs' index."""

import re
import tomllib
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).parents[2]

PAGES = sorted(
    page.relative_to(PROJECT).as_posix()
    for page in (
        *PROJECT.glob("*.md"),
        *PROJECT.glob("docs/**/*.md"),
        *PROJECT.glob("connectors/**/*.md"),
    )
)


def read(name: str) -> Any:
    return yaml.safe_load((PROJECT / name).read_text())


def links(page: str) -> set[Path]:
    """The files of the project that a page leads to."""
    text = (PROJECT / page).read_text()
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text)
    here = (PROJECT / page).parent
    return {(here / target).resolve() for target in targets if ":" not in target}


def test_hooks_run_what_make_lint_runs_and_download_nothing() -> None:
    linting = (PROJECT / "Makefile").read_text().replace("$(BIN)", ".venv/bin")
    (repository,) = read(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        assert f"\t{hook['entry'].removesuffix(' --force-exclude')} " in linting


def test_a_change_is_checked_on_every_python_that_loomline_runs_on() -> None:
    job = read(".github/workflows/ci.yml")["jobs"]["checks"]
    needed = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    oldest, limit = re.findall(r"3\.(\d+)", needed["requires-python"])
    assert job["strategy"]["matrix"]["python"] == [
        f"3.{minor}" for minor in range(int(oldest), int(limit))
    ]
    assert job["steps"][-1] == {"run": ".ci/run"}
    assert job["timeout-minutes"] == 90


def test_a_warning_is_an_error() -> None:
    with pytest.raises(UserWarning, match="ours"):
        warnings.warn("ours", stacklevel=1)


def test_coverage_has_a_floor_and_is_measured_on_request() -> None:
    tools = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]
    assert "--cov" in (PROJECT / "Makefile").read_text()
    assert "--cov" not in tools["pytest"]["ini_options"]["addopts"]
    assert tools["coverage"]["run"]["branch"]
    assert tools["coverage"]["report"]["fail_under"] > 0


@pytest.mark.parametrize("kind", ["bug", "idea"])
def test_an_issue_asks_for_what_is_needed_to_answer_it(kind: str) -> None:
    form = read(f".github/ISSUE_TEMPLATE/{kind}.yml")
    questions = [part for part in form["body"] if part["type"] != "markdown"]
    assert len({part["id"] for part in questions}) == len(questions)
    assert all(part["attributes"]["label"] for part in questions)
    assert any(part.get("validations", {}).get("required") for part in questions)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_between_pages_leads_to_a_file(page: str) -> None:
    assert [str(target) for target in links(page) if not target.exists()] == []


def test_every_page_of_the_docs_is_in_their_index() -> None:
    pages = {*PROJECT.glob("docs/**/*.md")} - {PROJECT / "docs" / "README.md"}
    assert pages - links("docs/README.md") == set()
