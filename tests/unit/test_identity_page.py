"""docs/identity.md says what the rules give today: its limits and its example."""

import csv
import re
from collections import defaultdict
from datetime import UTC, datetime, time
from pathlib import Path

from tests.oracles.identity import (
    Identifier,
    Identities,
    OracleEvent,
    read_identifier_types,
    resolve,
)

PROJECT = Path(__file__).parents[2]
DAY = datetime(2026, 5, 1, tzinfo=UTC)

Rows = list[tuple[str, ...]]


def table(columns: str) -> Rows:
    """The rows of the page's table whose header begins so."""
    text = (PROJECT / "docs" / "identity.md").read_text(encoding="utf-8")
    header = rf"^\| {re.escape(columns)} \|.*\n\|(?:---\|)+\n((?:\|.*\n)*)"
    (found,) = re.findall(header, text, re.MULTILINE)
    return [
        tuple(cell.strip() for cell in line.strip("|").split("|"))
        for line in found.splitlines()
    ]


def events() -> list[OracleEvent]:
    return [
        OracleEvent(
            message_id,
            datetime.combine(DAY, time.fromisoformat(received), UTC),
            tuple(map(identifier, re.findall(r"`([^`]+)`", identifiers))),
        )
        for message_id, received, identifiers in table("message | received")
    ]


def identifier(text: str) -> Identifier:
    identifier_type, _, value = text.partition(":")
    return identifier_type, value


def span(*node: str) -> str:
    return f"`{':'.join(node)}`"


def profiles(answer: Identities) -> Rows:
    """In the order in which they were first seen; strong identifiers first."""
    types = read_identifier_types()
    members: defaultdict[str, list[Identifier]] = defaultdict(list)
    for node, seen in sorted(
        answer.nodes.items(), key=lambda one: (one[1].first_received_at, one[0])
    ):
        members[seen.profile_id].append(node)
    return [
        (
            span(profile_id),
            ", ".join(
                span(*node)
                for node in sorted(nodes, key=lambda n: (types[n[0]].priority, n))
            ),
        )
        for profile_id, nodes in members.items()
    ]


def conflicts(answer: Identities) -> Rows:
    return [
        (
            conflict.message_id,
            f"{span(conflict.left_type, conflict.left_value)} to "
            f"{span(conflict.right_type, conflict.right_value)}",
            span(conflict.rule),
        )
        for conflict in sorted(answer.conflicts, key=lambda c: (c.message_id, c))
    ]


def markdown(rows: Rows) -> str:
    """The rows as the page should show them, to copy from a failed test."""
    return "\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows)


def test_the_profiles_of_the_example_are_those_of_the_oracle() -> None:
    expected = profiles(resolve(events()))
    assert table("profile_id") == expected, markdown(expected)


def test_the_conflicts_of_the_example_are_those_of_the_oracle() -> None:
    expected = conflicts(resolve(events()))
    assert table("message | link") == expected, markdown(expected)


def test_the_limits_are_those_of_the_seed() -> None:
    columns = ["class", "priority", "max_per_profile"]
    columns += ["max_stronger_links", "max_weaker_links"]
    path = PROJECT / "seeds" / "identifier_types.csv"
    with path.open(newline="", encoding="utf-8") as file:
        expected = [
            (span(row["identifier_type"]), *(row[column] for column in columns))
            for row in csv.DictReader(file)
        ]
    assert table("type") == expected, markdown(expected)
