"""Values that stand for no identifier, as the models and admission read them."""

from pathlib import Path

import pytest

from connectors.errors import ConfigError
from connectors.events.canonical import Identifier
from connectors.events.placeholders import Placeholders
from tests.oracles.identity import read_blocked

PROJECT = Path(__file__).parents[2]


def test_placeholders_are_those_the_models_leave_out() -> None:
    placeholders, blocked = Placeholders.load(PROJECT), read_blocked()
    values = [rule.value for rule in blocked if rule.match != "regex"]
    values += ["000", "0-0", "-", "", "u1", "jane@acme.com", "no one", "nullable"]
    values += [value.upper() for value in values] + [value.title() for value in values]
    for value in values:
        for identifier_type in ("user_id", "email", "anonymous_id"):
            is_blocked = any(rule.blocks((identifier_type, value)) for rule in blocked)
            identifier = Identifier(identifier_type, value, 1)
            assert (identifier in placeholders) is is_blocked, value


def test_a_placeholder_may_be_one_kinds_alone() -> None:
    rows = [
        {"identifier_type": "user_id", "value": "Demo", "match": "casefold"},
        {"identifier_type": "email", "value": "@example\\.com$", "match": "regex"},
    ]
    placeholders = Placeholders(rows)
    assert Identifier("user_id", "DEMO", 1) in placeholders
    assert Identifier("email", "jane@example.com", 1) in placeholders
    assert Identifier("email", "demo", 1) not in placeholders
    assert Identifier("user_id", "jane@example.com", 1) not in placeholders


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "restore the file"),
        ("identifier_type,value\n*,null\n", "'match' is missing"),
        (
            "identifier_type,value,match\n*,null,like\n",
            "'like' is missing or unknown",
        ),
        ("identifier_type,value,match\n*,(,regex\n", "'(' is not a valid pattern"),
    ],
)
def test_a_table_that_cannot_be_read_stops_the_start(
    tmp_path: Path, text: str | None, told: str
) -> None:
    (tmp_path / "seeds").mkdir()
    if text is not None:
        (tmp_path / "seeds" / "blocked_identifiers.csv").write_text(text)
    with pytest.raises(ConfigError) as caught:
        Placeholders.load(tmp_path)
    assert told in str(caught.value) and "blocked_identifiers.csv" in str(caught.value)
