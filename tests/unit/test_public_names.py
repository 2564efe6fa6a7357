"""Public names: one word for one thing, and none of the words given up for it."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from connectors.landing.streams import SCHEMAS
from orchestration.cli.app import app

PROJECT = Path(__file__).parents[2]

RETIRED = {
    "allowance": "token lease",
    "beside": "side table",
    "door": "admission",
    "fate": "disposition",
    "judge": "decide",
    "judged": "decided",
    "receipts": "received counts",
    "refreshed": "resent",
    "scratch": "temp table",
    "verdict": "decision",
    "verdicts": "decisions",
}
"""Parts of names, and what is said instead."""

RETIRED_COLUMNS = {
    "identifier_kind": "identifier_type",
    "kind": "identifier_type",
    "path": "channel",
    "since": "aliased_at",
}

OTHER_MEANING = {
    ("event_columns", "path"),  # a place in an event's JSON
    ("event_columns", "since"),  # when a column was first seen
    ("int_event_properties", "kind"),  # of a JSON value
    ("int_event_properties", "path"),
    ("raw_loads", "path"),  # of a file
}


ARCHAIC = re.compile(r"\b(anew|nobody|somebody|whoever|of\s+itself)\b", re.IGNORECASE)
"""Words that stand in for a name; the thing's own name reads better."""

PLAIN = (
    *("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"),
    *("docs/*.md", "docs/decisions/*", "docs/deploy/**/*"),
    *("connectors/**/*", "orchestration/**/*", "benchmarks/*"),
    *("macros/**/*", "models/**/*", "seeds/*.yml"),
    *("tests/journeys/*.py", "tests/warehouse/*.py"),
    *(".ci/run", ".ci/*.py", ".ci/*/install", ".ci/sdks/program.*", ".ci/sdks/*.mjs"),
)
"""Files whose prose and names are free of them."""


def described() -> Iterator[tuple[str, str]]:
    """Every model or seed with each of its columns, and with none."""
    for folder in ("models", "seeds"):
        for file in sorted((PROJECT / folder).rglob("*.yml")):
            content = yaml.safe_load(file.read_text()) or {}
            for entry in (*content.get("models", ()), *content.get("seeds", ())):
                yield entry["name"], ""
                for column in entry.get("columns", ()):
                    yield entry["name"], column["name"]
    for stream, schema in SCHEMAS.items():
        for name in schema.names:
            yield f"raw_{stream}", name


def commands(command: Any, name: str = "loomline") -> Iterator[str]:
    yield name
    for option in command.params:
        yield from (f"{name} {text}" for text in option.opts)
    for below, one in getattr(command, "commands", {}).items():
        yield from commands(one, f"{name} {below}")


def modules() -> Iterator[str]:
    for folder in ("connectors", "orchestration", "macros"):
        for file in sorted((PROJECT / folder).rglob("*")):
            if file.suffix in (".py", ".sql"):
                yield str(file.relative_to(PROJECT).with_suffix(""))


def retired(name: str) -> list[str]:
    parts = re.split(r"[^a-z]+", name.lower())
    return [f"{name}: say {RETIRED[part]}" for part in parts if part in RETIRED]


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(lambda: {f"{table} {column}" for table, column in described()}),
        pytest.param(lambda: set(commands(typer.main.get_command(app)))),
        pytest.param(lambda: set(modules())),
    ],
    ids=["tables", "commands", "modules"],
)
def test_a_retired_word_is_in_no_public_name(names: Callable[[], set[str]]) -> None:
    found = names()
    assert len(found) > 40
    assert [fault for name in sorted(found) for fault in retired(name)] == []


def test_a_retired_column_is_in_no_table() -> None:
    found = {
        f"{table}.{column}: say {RETIRED_COLUMNS[column]}"
        for table, column in described()
        if column in RETIRED_COLUMNS and (table, column) not in OTHER_MEANING
    }
    assert found == set()


def test_a_retired_word_is_found_in_a_name() -> None:
    assert retired("connectors/events/door") == [
        "connectors/events/door: say admission"
    ]
    assert retired("judge_all") == ["judge_all: say decide"]
    assert retired("indoor") == []


def plain_files() -> Iterator[Path]:
    for pattern in PLAIN:
        files = [path for path in sorted(PROJECT.glob(pattern)) if path.is_file()]
        assert files, f"{pattern} matches no file"
        for file in files:
            if "__pycache__" not in file.parts:
                yield file


def archaic(text: str) -> list[str]:
    return [found[0] for found in ARCHAIC.finditer(text)]


def test_an_archaic_word_is_in_no_plain_file() -> None:
    faults = {
        f"{file.relative_to(PROJECT)}: {word}"
        for file in plain_files()
        for word in archaic(file.read_text(encoding="utf-8"))
    }
    assert faults == set()


def test_an_archaic_word_is_found_in_prose() -> None:
    assert archaic("Whoever landed it starts\nanew, of\nitself.") == [
        "Whoever",
        "anew",
        "of\nitself",
    ]
    assert archaic("renewed by itself, for everybody") == []
