"""What README, CONTRIBUTING and docs/ name exists: links, commands, files, tables."""

import re
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from orchestration.cli.app import app

PROJECT = Path(__file__).parents[2]
PAGES = [
    PROJECT / "README.md",
    PROJECT / "CONTRIBUTING.md",
    *sorted((PROJECT / "docs").glob("*.md")),
]
DECISIONS = sorted((PROJECT / "docs" / "decisions").glob("*.md"))

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")


class Page(NamedTuple):
    """A page's prose, and its blocks of code by language."""

    text: str
    blocks: list[tuple[str, str]]

    @property
    def spans(self) -> set[str]:
        return set(SPAN.findall(self.text))


@cache
def page(path: Path) -> Page:
    text = path.read_text(encoding="utf-8")
    return Page(FENCE.sub("", text), FENCE.findall(text))


def named(path: Path) -> str:
    return path.name


each_page = pytest.mark.parametrize("path", PAGES, ids=named)


# Links


def anchors(path: Path) -> set[str]:
    """What GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page(path).text, re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in headings
    }


@pytest.mark.parametrize("path", [*PAGES, *DECISIONS], ids=named)
def test_every_link_leads_to_a_page_and_a_heading_that_are_there(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page(path).text):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        assert found.exists(), f"{path.name}: {target}"
        assert not anchor or anchor in anchors(found), f"{path.name}: {target}"


# Commands


def lines_of_code(path: Path) -> Iterator[str]:
    """Spans, and lines of blocks that a shell reads; continued lines are one."""
    found = page(path)
    yield from (span.replace("\\|", "|") for span in found.spans)
    for language, block in found.blocks:
        if language in ("console", "bash", "yaml"):
            text = re.sub(r"\\\n\s*", " ", block)
            yield from re.sub(r"\"[^\"]*\"|'[^']*'", "TEXT", text).splitlines()


def calls(path: Path) -> Iterator[list[str]]:
    """The words behind `loomline`, wherever a page shows a command."""
    for line in lines_of_code(path):
        typed = line.partition("  #")[0].replace("[", " ").replace("]", " ")
        for found in re.finditer(
            r"(?:^|[\s/(])loomline ([a-z][a-z-]*(?= |$)(?<!loomline)[^;)&]*)", typed
        ):
            yield found[1].split()


def command(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the first words name, and the words behind it."""
    found: Any = typer.main.get_command(app)
    left = list(words)
    while hasattr(found, "commands"):
        if not left:
            return found, left  # a group as a whole: `loomline keys`
        name = left.pop(0)
        assert name in found.commands, f"loomline {' '.join(words)}"
        found = found.commands[name]
    return found, left


@each_page
def test_every_command_and_option_exists(path: Path) -> None:
    for words in calls(path):
        several = words[1].split("|") if "|" in " ".join(words[1:2]) else words[1:2]
        for second in several or [""]:
            called = [words[0], *filter(None, [second]), *words[2:]]
            found, left = command(called)
            known = {name for option in found.params for name in option.opts}
            for word in left:
                option = word.partition("=")[0]
                if option.startswith("--"):
                    assert option in known, f"loomline {' '.join(called)}: {option}"


@each_page
def test_every_make_target_and_benchmark_exists(path: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text(), re.M))
    for line in lines_of_code(path):
        for target in re.findall(r"^make ([a-z]+)(?: |$)", line):
            assert target in targets, line
        for package, name in re.findall(
            r"-m (benchmarks|tests\.soak)[. ]([a-z_]+)", line
        ):
            path = PROJECT / package.replace(".", "/") / f"{name}.py"
            assert path.exists(), line


def options() -> set[str]:
    """All options of all commands."""
    left: list[Any] = [typer.main.get_command(app)]
    found: set[str] = set()
    while left:
        one = left.pop()
        left += getattr(one, "commands", {}).values()
        found |= {name for option in one.params for name in option.opts}
    return found


FOREIGN = {"--auto-apply", "--no-prompts", "--deselect", "--upgrade"}
FOREIGN |= {"--upgrade-package", "--ignore-cron"}
"""Options of SQLMesh, pytest and uv."""


@each_page
def test_every_option_named_alone_is_one_of_ours(path: Path) -> None:
    for span in page(path).spans:
        for option in re.findall(r"^(--[a-z-]+)", span):
            assert option in options() | FOREIGN, f"{path.name}: {span}"


# Files, tables and names


@cache
def code() -> str:
    """All of the project that is no documentation, as one text."""
    folders = ("connectors", "orchestration", "models", "macros", "seeds", "tests")
    paths = [
        *(PROJECT / "benchmarks").glob("*.py"),
        *(PROJECT / "docs" / "deploy").rglob("*.*"),
        *(
            path
            for folder in folders
            for path in (PROJECT / folder).rglob("*")
            if path.suffix in (".py", ".sql", ".yml", ".yaml", ".csv", ".ts")
        ),
    ]
    return "\n".join(
        path.read_text(encoding="utf-8") for path in paths if path != Path(__file__)
    )


HASHED = sha256(b"/Total").hexdigest()[:8]  # of the property's path
EXAMPLES = {"cart_total", f"total_{HASHED}_", "pg_dump"}
"""Names that a page makes up, or that are another program's."""


@each_page
def test_every_name_is_found_in_the_code(path: Path) -> None:
    for span in page(path).spans - EXAMPLES:
        if re.fullmatch(r"[a-z$]+(_[a-z0-9]+)+_?", span):
            assert span in code(), f"{path.name}: {span}"
        if re.fullmatch(r"[A-Z]+(_[A-Z0-9]+)+", span):
            assert span in code(), f"{path.name}: {span}"


FILLED = (
    "connectors/events/contracts",
    "connectors/events/transformations",
    "connectors/sources/forms",
    "connectors/sources/webhooks",
    ".github/workflows/diff.yml",
)
"""What a team adds files to; pages show some that are not shipped."""


@each_page
def test_every_file_of_the_project_is_there(path: Path) -> None:
    folders = {file.name for file in PROJECT.iterdir() if file.is_dir()}
    for span in page(path).spans:
        first, slash, _ = span.partition("/")
        if not slash or first not in folders - {"data", "target", "logs"}:
            continue
        if " " not in span and not span.startswith(FILLED):
            pattern = re.sub(r"<[^>]*>", "*", span)
            assert any(PROJECT.glob(pattern)), f"{path.name}: {span}"


def tables() -> set[str]:
    """The models by the names under which people query them."""
    found = set()
    for path in (PROJECT / "models").rglob("*.sql"):
        schema = path.parent.name.replace("landing", "raw")
        alias = re.search(r"alias='(\w+)'", path.read_text(encoding="utf-8"))
        found.add(f"{schema}.{alias[1] if alias else path.stem}")
    return found


@each_page
def test_every_table_exists(path: Path) -> None:
    known = tables()
    schemas = "|".join({name.partition(".")[0] for name in known})
    for span in page(path).spans:
        found = re.match(rf"({schemas})\.(\w+)(?!\w*\.yml)", span)
        if found and found[0] not in ("events.order_completed", "profiles.yml"):
            assert found[0] in known, f"{path.name}: {span}"
