"""The pages of the site and their order, from the project's own files.

Pages keep their paths of the project, so that a link that works on GitHub works here.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

PROJECT = Path(__file__).parents[2]
INDEX = "docs/README.md"
START = "README.md"
MODELS = "dbt/index.html"

LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
MERMAID = re.compile(r"^```mermaid\n.*?^```\n", re.MULTILINE | re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The navigation is the index of docs/, in its order."""
    documentation, _, decisions = _read(INDEX).partition("\n## Decisions\n")
    pages = _linked_pages(INDEX, documentation)
    config.nav = [
        {"Start": START},
        {"Documentation": [{"Index": INDEX}, *(page for page in pages if "/" in page)]},
        {"Tables and lineage": MODELS},
        {"Project": [page for page in pages if "/" not in page and page != START]},
        {"Decisions": _linked_pages(INDEX, decisions)},
    ]
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """What the navigation names and what its pages link to, and the theme's files."""
    found = [file for file in files if file.src_dir != config.docs_dir]
    pages = [page for page in _paths(config.nav) if page != MODELS]
    linked = {
        target
        for page in pages
        for target in _targets(page, _read(page))
        if (PROJECT / target).is_file()
    }
    for path in sorted({*pages, *linked}):
        file = File(path, str(PROJECT), config.site_dir, use_directory_urls=False)
        if path not in pages:  # a README beside code, or no page at all
            file.inclusion = InclusionLevel.NOT_IN_NAV
        found.append(file)
    models = Path(config.extra["models"])
    found.append(File.generated(config, MODELS, abs_src_path=str(models)))
    return Files(found)


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Without the diagram, for which the theme would fetch a script."""
    return MERMAID.sub("", markdown)


def _read(page: str) -> str:
    return (PROJECT / page).read_text(encoding="utf-8")


def _linked_pages(page: str, text: str) -> list[str]:
    return [target for target in _targets(page, text) if target.endswith(".md")]


def _targets(page: str, text: str) -> list[str]:
    """Files of the project that a text of this page links to, in its order."""
    return [
        (PROJECT / page)
        .parent.joinpath(target)
        .resolve()
        .relative_to(PROJECT)
        .as_posix()
        for target in LINK.findall(text)
        if ":" not in target
    ]


def _paths(nav: Any) -> list[str]:
    """The pages of a navigation, whatever its headings."""
    if isinstance(nav, dict):
        nav = list(nav.values())
    return (
        [nav]
        if isinstance(nav, str)
        else [path for item in nav for path in _paths(item)]
    )
