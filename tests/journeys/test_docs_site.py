"""`make docs`: one offline site with the pages and dbt's documentation."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.slow


class Fetched(HTMLParser):
    """Collects the URLs that a browser would load from other hosts."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            is_loaded = name in ("href", "src", "srcset", "data") and tag != "a"
            if is_loaded and re.match(r"(https?:)?//", value or ""):
                self.found.append(f"<{tag} {name}={value}>")


def fetched(html: str) -> list[str]:
    parser = Fetched()
    parser.feed(html)
    return parser.found


@pytest.fixture(scope="module")
def site(
    project_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """Build the site in a fresh clone; yield its address and folder."""
    folder = tmp_path_factory.mktemp("docs")
    process = subprocess.Popen(
        [
            *(sys.executable, "docs/site/build.py", "--serve", "--port", "0"),
            *("--output", str(folder)),
        ],
        cwd=project_path,
        env={**os.environ, "LOOMLINE_HOME": str(folder / "home")},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        with process.stdout:
            built, serving = process.stdout.readline(), process.stdout.readline()
            assert built == f"Built {folder}/site/index.html\n"
            yield serving.split()[1], folder / "site"
    finally:
        process.terminate()
        process.wait(30)


def test_the_pages_of_the_project_and_of_dbt_are_served(
    site: tuple[str, Path],
) -> None:
    address, folder = site
    start = httpx.get(address)
    assert "<h1" in start.text and "mermaid" not in start.text
    for page in (
        "docs/keys.html",
        "docs/decisions/0001-versions.html",
        "dbt/index.html",
    ):
        assert f'href="{page}"' in start.text
        assert httpx.get(address + page).status_code == 200
    models = (folder / "dbt" / "index.html").read_text(encoding="utf-8")
    assert "32 hexadecimal digits" in models


def test_no_page_fetches_anything_from_elsewhere(site: tuple[str, Path]) -> None:
    pages = [*site[1].rglob("*.html")]
    assert len(pages) > 30
    for page in pages:
        assert fetched(page.read_text(encoding="utf-8")) == [], page
    for style in site[1].rglob("*.css"):
        assert not re.search(r"url\(\W?(https?:)?//", style.read_text()), style
    # dbt's page would fetch its tracker.
    models = (site[1] / "dbt" / "index.html").read_text(encoding="utf-8")
    assert '"send_anonymous_usage_stats": false' in models


def test_what_a_page_would_fetch_is_seen() -> None:
    assert fetched(
        '<link href="https://fonts.gstatic.com"><script src="//cdn/a.js"></script>'
        '<a href="https://example.com"><img src="images/a.png">'
    ) == ["<link href=https://fonts.gstatic.com>", "<script src=//cdn/a.js>"]


def test_the_search_finds_every_page(site: tuple[str, Path]) -> None:
    index = json.loads((site[1] / "search" / "search_index.json").read_text())
    found = {entry["location"].partition("#")[0] for entry in index["docs"]}
    pages = {
        page.relative_to(site[1]).as_posix() for page in site[1].rglob("*.html")
    } - {"404.html", "dbt/index.html"}
    assert {name or "index.html" for name in found} == pages


@pytest.fixture
def build(project_path: Path, tmp_path: Path) -> Callable[[str], str]:
    """Build a small project with a page of this text; return the faults."""
    shutil.copytree(project_path / "docs" / "site", tmp_path / "docs" / "site")
    (tmp_path / "seeds").mkdir()
    (tmp_path / "seeds" / "types.csv").write_text("name\n")
    (tmp_path / "seeds" / "README.md").write_text("# Seeds\n")
    (tmp_path / "README.md").write_text("# Start\n")
    (tmp_path / "models.html").write_text("<title>Models</title>")
    index = "# Index\n[start](../README.md), [page](page.md)\n\n## Decisions\n"
    (tmp_path / "docs" / "README.md").write_text(index)
    code = """
import sys
from pathlib import Path
sys.path.insert(0, "docs/site")
from build import build_site
build_site(Path("out").absolute(), Path("models.html").absolute())
"""

    def build(text: str) -> str:
        (tmp_path / "docs" / "page.md").write_text(f"# Page\n{text}\n")
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
        )
        assert (done.returncode == 0) == (done.stderr == "")
        return done.stderr

    return build


def test_links_out_of_the_docs_lead_to_the_files_of_the_project(
    build: Callable[[str], str], tmp_path: Path
) -> None:
    text = "[types](../seeds/types.csv) [seeds](../seeds/README.md)"
    assert build(text) == ""
    page = (tmp_path / "out" / "site" / "docs" / "page.html").read_text()
    for target in ("../seeds/types.csv", "../seeds/index.html"):
        assert f'href="{target}"' in page
        assert (tmp_path / "out" / "site" / "docs" / target).exists()


@pytest.mark.parametrize("link", ["(gone.md)", "(../README.md#gone)", "(../gone.py)"])
def test_a_link_that_leads_nowhere_stops_the_build(
    build: Callable[[str], str], link: str
) -> None:
    assert re.search(r"WARNING: Doc file 'docs/page.md' .*gone", build(f"[x]{link}"))


DBT = """#!/bin/sh
if [ "$2" = build ]; then mkdir "$LOOMLINE_HOME" || exit 1; fi
"""


def test_the_models_are_built_without_tables_of_an_earlier_build(
    project_path: Path, tmp_path: Path
) -> None:
    shutil.copytree(project_path / "docs" / "site", tmp_path / "docs" / "site")
    (tmp_path / "dbt_project.yml").touch()
    (tmp_path / "dbt").write_text(DBT)
    (tmp_path / "dbt").chmod(0o755)
    (tmp_path / "out" / "empty").mkdir(parents=True)
    code = """
import sys
from pathlib import Path
sys.path.insert(0, "docs/site")
from build import build_models
sys.executable = str(Path("python").absolute())  # dbt is the one beside it
build_models(Path("out").absolute())
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
