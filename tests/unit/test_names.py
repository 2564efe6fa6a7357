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
