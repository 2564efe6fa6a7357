"""Which identifiers an event carries, and in what form."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from connectors.errors import ConfigError
from connectors.events.canonical import Event
from connectors.events.identifiers import LONGEST_VALUE, IdentifierRules

RULES = IdentifierRules.load(Path(__file__).parents[2])


def found(type_: str = "track", **fields: Any) -> set[tuple[str, str]]:
    event = Event(
        message_id="m",
        scope="s",
        type=type_,
        timestamp=0,
        received_at=0,
        source="s",
        channel="http",
        content_hash="",
        row_hash="",
        **fields,
    )
    return {(identifier.type, identifier.value) for identifier in RULES.of(event)}


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
        ({"traits": {"$set_once": {"email": "a@b.c"}}}, {("email", "a@b.c")}),
        # What may be set already counts only where nothing is set.
        (
            {"traits": {"email": "a@b.c", "$set_once": {"$email": "o@b.c"}}},
            {("email", "a@b.c")},
        ),
        # The first place that has one counts.
        ({"traits": {"email": "a@b.c", "$email": "s@b.c"}}, {("email", "s@b.c")}),
        ({"traits": {"email": "a@b.c", "$email": "?"}}, {("email", "a@b.c")}),
        (
            {
                "traits": {"email": "a@b.c"},
                "context": {"traits": {"email": "c@b.c", "phone": "+4930901820"}},
            },
            {("email", "a@b.c"), ("phone", "+4930901820")},
        ),
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


def test_system_names_in_properties_are_a_persons_in_an_identify_alone() -> None:
    properties = {"$email": "a@b.c", "$phone": "+4930901820"}
    assert found(properties=properties, user_id="u") == {("user_id", "u")}
    assert found("identify", properties=properties) == {
        ("email", "a@b.c"),
        ("phone", "+4930901820"),
    }


def test_an_event_without_person_keeps_its_ids_apart() -> None:
    context: dict[str, Any] = {"posthog": {"$process_person_profile": False}}
    ids = {"distinct_id": "d", "anonymous_id": "d", "user_id": "u"}
    assert found(context=context, **ids) == {
        ("personless_id", "d"),
        ("personless_id", "u"),
    }
    context = {"posthog": {"$process_person_profile": "false", "$distinct_id": "x"}}
    assert found("group", context=context) == {("personless_id", "x")}


def test_the_id_that_came_with_a_groups_description_makes_no_person() -> None:
    context = {"posthog": {"$distinct_id": "3776ab7b-e608-43d9-b2a4-26df1fd4c34a"}}
    assert found("group", context=context) == {
        ("mentioned_id", "3776ab7b-e608-43d9-b2a4-26df1fd4c34a")
    }
    id_ = context["posthog"]["$distinct_id"]
    assert found("group", context=context, distinct_id=id_) == {("mentioned_id", id_)}
    assert found("group", context=context, user_id="u") == {("user_id", "u")}
    assert found("track", context=context) == set()


def test_a_very_long_id_identifies_by_its_digest() -> None:
    long = "u" * (LONGEST_VALUE + 1)
    digest = f"sha256:{hashlib.sha256(long.encode()).hexdigest()}"
    assert found(user_id=long) == {("user_id", digest)}
    assert found(user_id=long[:-1]) == {("user_id", long[:-1])}
    assert found(distinct_id=long) == {("distinct_id", digest)}
    assert found(traits={"email": f"{'e' * 320}@acme.com"}) == set()


def test_a_groups_own_address_is_no_persons() -> None:
    assert found("group", traits={"email": "info@acme.com"}) == set()
    assert found("group", traits={"$email": "info@acme.com"}) == set()
    person = {"traits": {"email": "jane@acme.com"}}
    assert found("group", context=person) == {("email", "jane@acme.com")}


def test_the_same_identifier_counts_once() -> None:
    traits = {"email": "a@b.c", "$email": "A@B.C"}
    assert found(traits=traits, user_id="u") == {("email", "a@b.c"), ("user_id", "u")}


def test_members_of_a_list_come_after_all_other_identifiers() -> None:
    context = {
        "externalIds": [{"id": n, "type": "crm"} for n in range(500)],
        "device": {"id": "phone"},
        "traits": {"email": "a@b.c"},
    }
    event = Event(
        message_id="m",
        scope="s",
        type="track",
        timestamp=0,
        received_at=0,
        source="s",
        channel="http",
        content_hash="",
        row_hash="",
        user_id="u",
        context=context,
    )
    types = [identifier.type for identifier in RULES.of(event)]
    assert types == ["user_id", "email", "device_id", *["external_id"] * 500]


@pytest.mark.parametrize("path", ["no_such_field", "properties.a.b"])
def test_a_rule_that_cannot_be_followed_stops_the_start(
    tmp_path: Path, path: str
) -> None:
    (tmp_path / "seeds").mkdir()
    table = tmp_path / "seeds" / "identifier_types.csv"
    table.write_text(f"identifier_type,read_from,normalisation\nx,{path},trim\n")
    with pytest.raises(ConfigError):
        IdentifierRules.load(tmp_path)
    table.write_text("identifier_type,read_from,normalisation\nx,user_id,none\n")
    with pytest.raises(ConfigError):
        IdentifierRules.load(tmp_path)
    with pytest.raises(ConfigError):
        IdentifierRules.load(tmp_path / "nowhere")
