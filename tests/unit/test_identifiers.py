"""Which identifiers an event carries, and in what form."""

from pathlib import Path
from typing import Any

import pytest

from connectors.errors import ConfigError
from connectors.events.canonical import Event
from connectors.events.identifiers import IdentifierRules

RULES = IdentifierRules.load(Path(__file__).parents[2])


def found(type_: str = "track", **fields: Any) -> set[tuple[str, str]]:
    event = Event(
        message_id="m",
        scope="s",
        type=type_,
        timestamp=0,
        received_at=0,
        source="s",
        path="http",
        content_hash="",
        row_hash="",
        **fields,
    )
    return {(identifier.kind, identifier.value) for identifier in RULES.of(event)}


@pytest.mark.parametrize(
    ("fields", "identifiers"),
    [
        ({"user_id": " u1 "}, {("user_id", "u1")}),
        (
            {"anonymous_id": "a", "distinct_id": "d", "previous_id": "p"},
            {("anonymous_id", "a"), ("distinct_id", "d"), ("previous_id", "p")},
        ),
        ({"traits": {"email": " Jane@Acme.COM "}}, {("email", "jane@acme.com")}),
        ({"traits": {"email": "not an address"}}, set()),
        ({"traits": {"$email": "a@b.c"}}, {("email", "a@b.c")}),
        ({"properties": {"$email": "a@b.c"}}, {("email", "a@b.c")}),
        ({"properties": {"email": "a@b.c"}}, set()),
        ({"context": {"traits": {"email": "a@b.c"}}}, {("email", "a@b.c")}),
        ({"traits": {"phone": "+49 30 901820"}}, {("phone", "+4930901820")}),
        ({"traits": {"phone": "030 901820"}}, set()),
        ({"traits": {"phone": "+4930901820" + " " * 100}}, set()),
        ({"traits": {"phone": 4930901820}}, set()),
        ({"traits": {"email": ["a@b.c"], "phone": {"x": 1}}}, set()),
        ({"traits": {"email": True}}, set()),
        (
            {"context": {"device": {"id": 7}, "fingerprint": "f"}},
            {("device_id", "7"), ("fingerprint", "f")},
        ),
        ({"context": {"device": "phone"}}, set()),
        (
            {
                "context": {
                    "externalIds": [
                        {"id": "1", "type": "crm"},
                        {"id": 2},
                        {"type": "crm"},
                        "x",
                    ]
                }
            },
            {("external_id", "crm:1"), ("external_id", "2")},
        ),
        ({"traits": "x", "properties": [1], "context": 3}, set()),
    ],
)
def test_an_identifier_is_read_and_normalised(
    fields: dict[str, Any], identifiers: set[tuple[str, str]]
) -> None:
    assert found(**fields) == identifiers


def test_a_groups_own_address_is_nobodys() -> None:
    assert found("group", traits={"email": "info@acme.com"}) == set()
    person = {"traits": {"email": "jane@acme.com"}}
    assert found("group", context=person) == {("email", "jane@acme.com")}


def test_the_same_identifier_counts_once() -> None:
    traits = {"email": "a@b.c", "$email": "A@B.C"}
    assert found(traits=traits, user_id="u") == {("email", "a@b.c"), ("user_id", "u")}


@pytest.mark.parametrize("path", ["no_such_field", "properties.a.b"])
def test_a_rule_that_cannot_be_followed_stops_the_start(
    tmp_path: Path, path: str
) -> None:
    (tmp_path / "seeds").mkdir()
    table = tmp_path / "seeds" / "identifier_types.csv"
    table.write_text(f"kind,read_from,normalisation\nx,{path},trim\n")
    with pytest.raises(ConfigError):
        IdentifierRules.load(tmp_path)
    table.write_text("kind,read_from,normalisation\nx,user_id,none\n")
    with pytest.raises(ConfigError):
        IdentifierRules.load(tmp_path)
    with pytest.raises(ConfigError):
        IdentifierRules.load(tmp_path / "nowhere")
