"""`make docs`: one site of the pages and of dbt's, which fetches nothing."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.slow


class Fetched(HTMLParser):
    """What a browser would load from elsewhere to show a page."""

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
    """Its address and its folder, built as in a fresh clone."""
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
