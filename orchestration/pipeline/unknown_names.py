"""Events and traits that audiences ask for and that no profile has ever had.

A condition with a misspelled name is valid SQL; it just matches no profile.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from connectors.config_files import ConfigFile, nearest
from connectors.events.naming import snake_case
from orchestration.pipeline.dbt_runner import Models, open_when_free

__all__ = ["UnknownName", "unknown_names"]

OBSERVED = {
    "event": "select distinct event from profiles.profile_events",
    "trait": "select distinct trait from profiles.profile_traits",
}
"""By kind, as the macro `note_name` writes it to an audience's `config.meta`."""

CALLS = {
    "event": r"\b(?:event_count|did_not)\s*\((?:[^()]*\bevent\s*=)?",
    "trait": r"\btrait\s*\((?:[^()]*\bname\s*=)?",
}
"""The conditions that take such a name, up to it."""

WHY = {
    "event": "no profile has an event `{}` yet, and no contract names it.",
    "trait": "no profile has had a trait `{}` yet.",
}


@dataclass(frozen=True, slots=True)
class UnknownName:
    """A name in an audience that no event or profile has."""

    audience: str
    message: str  # with file, line and the nearest name


def unknown_names(models: Models) -> list[UnknownName]:
    """Return the names in audiences that no profile or contract has; after a build."""
    used = [
        (node, kind, name) for node in models.audiences() for kind, name in _names(node)
    ]
    with open_when_free(
        models.project.home.warehouse, models.say, read_only=True
    ) as warehouse:
        unknown = []
        for kind in OBSERVED:
            names = {name for _, one, name in used if one == kind}
            missing = names - _observed(warehouse, kind, names)
            if not missing:
                continue
            contracts = _contracts(models.project.path) if kind == "event" else set()
            known = _observed(warehouse, kind) | contracts
            unknown += [
                UnknownName(node.name, _message(node, kind, name, known))
                for node, one, name in used
                if one == kind and name in missing - contracts
            ]
    return sorted(unknown, key=lambda one: one.message)


def _names(node: Any) -> Iterator[tuple[str, str]]:
    for key in node.config.meta:
        kind, _, name = key.partition(" ")
        if kind in OBSERVED and name:
            yield kind, name


def _observed(
    warehouse: duckdb.DuckDBPyConnection,
    kind: str,
    among: Collection[str] | None = None,
) -> set[str]:
    """Return the names of events or traits in the warehouse; of `among`, if set.

    The condition `trait` also matches the system field: `$plan` for `plan`.
    """
    query, values = OBSERVED[kind], []
    if among is not None:
        query += f" where {kind} in (select unnest(?))"
        values = [[*among, *(f"${name}" for name in among)]]
    rows = warehouse.execute(query, values).fetchall()
    names = {str(name) for (name,) in rows}
    return names | {name.removeprefix("$") for name in names if kind == "trait"}


def _contracts(project: Path) -> set[str]:
    """Return the events that have a contract."""
    files = sorted((project / "connectors/events/contracts").glob("*.yml"))
    contents = [ConfigFile(path).content for path in files]
    return {
        name
        for content in contents
        if isinstance(content, dict) and (name := snake_case(str(content.get("event"))))
    }


def _message(node: Any, kind: str, name: str, known: Collection[str]) -> str:
    place, code = node.original_file_path, node.raw_code
    quoted = rf"\s*(['\"]){re.escape(name)}\1"
    # In a call; else by itself, as in a list that conditions are made from.
    found = re.search(CALLS[kind] + quoted, code) or re.search(quoted, code)
    if found:
        place += f", line {code.count(chr(10), 0, found.start(1)) + 1}"
    return f"{place}: {WHY[kind].format(name)}{nearest(name, known)}"
