"""Every shape an event arrives in becomes the same call."""

import copy
from typing import Any

import pytest

from connectors.events.shapes import Unusable, items, to_call


def given(call: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in call.items() if value is not None}


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"type": "track"}, [{"type": "track"}]),
        ([1, {"a": 1}], [1, {"a": 1}]),
        ({"batch": [{"a": 1}, 2]}, [{"a": 1}, 2]),
        ({"batch": []}, []),
        ([], []),
        ({"batch": {"a": 1}}, [{"batch": {"a": 1}}]),
        # A property of this name does not make an event a batch.
        ({"event": "x", "batch": [1]}, [{"event": "x", "batch": [1]}]),
        (
            {"batch": [{}, {"sentAt": "b"}, {"sent_at": "c"}], "sent_at": "a"},
            [{"sentAt": "a"}, {"sentAt": "b"}, {"sent_at": "c"}],
        ),
        (
            {
                "batch": [
                    {"context": {"a": 1}},
                    {"context": None},
                    {"context": "x"},
                    7,
                ],
                "context": {"a": 0, "b": 0},
            },
            [
                {"context": {"a": 1, "b": 0}},
                {"context": {"a": 0, "b": 0}},
                {"context": "x"},
                7,
            ],
        ),
        ({"batch": [{"context": {"a": 1}}], "context": "x"}, [{"context": {"a": 1}}]),
        ({"batch": [{"context": {"a": 1}}], "context": None}, [{"context": {"a": 1}}]),
        (
            {"batch": [{}], "integrations": {"All": True}},
            [{"integrations": {"All": True}}],
        ),
        ("text", ["text"]),
        (None, [None]),
    ],
)
def test_the_events_of_a_body(value: Any, found: list[Any]) -> None:
    before = copy.deepcopy(value)
    assert items(value) == found
    assert value == before


@pytest.mark.parametrize(
    ("item", "call"),
    [
        (
            {"type": "track", "event": "a", "userId": "u", "channel": "web"},
            {"type": "track", "event": "a", "userId": "u", "channel": "web"},
        ),
        (
            {"user_id": "u", "event": "a", "properties": {"b": 1}, "timestamp": "t"},
            {"userId": "u", "event": "a", "properties": {"b": 1}, "timestamp": "t"},
        ),
        (
            {"type": "alias", "previous_id": "p", "user_id": "u", "message_id": "m"},
            {"type": "alias", "previousId": "p", "userId": "u", "messageId": "m"},
        ),
        # Both spellings in one event.
        (
            {"type": "track", "messageId": "m", "user_id": "u", "sent_at": "s"},
            {"type": "track", "messageId": "m", "userId": "u", "sentAt": "s"},
        ),
        ({"userId": None, "user_id": "u"}, {"userId": "u"}),
        # What has no place of its own stays, for the context.
        ({"userId": "a", "user_id": "b"}, {"userId": "a", "user_id": "b"}),
        ({"id": "i", "message_id": "m"}, {"messageId": "m", "id": "i"}),
        ({"id": "i", "message_id": None}, {"messageId": "i"}),
        ({"event": "a_b", "event_text": "A B"}, {"event": "A B", "event_text": "A B"}),
        ({"type": ["track"], "user_id": "u"}, {"type": ["track"], "userId": "u"}),
        ({"event": ["x"], "user_id": "u"}, {"event": ["x"], "userId": "u"}),
    ],
)
def test_spellings_meet_in_one_call(item: dict[str, Any], call: dict[str, Any]) -> None:
    before = copy.deepcopy(item)
    assert given(to_call(item)) == call
    assert item == before


@pytest.mark.parametrize("item", [None, 1, "x", [], [{}], True])
def test_what_is_no_object_is_unusable(item: Any) -> None:
    with pytest.raises(Unusable, match="not_an_object"):
        to_call(item)


@pytest.mark.parametrize(
    ("item", "call"),
    [
        (
            {
                "event": "$identify",
                "distinct_id": "u",
                "properties": {"$anon_distinct_id": "a"},
                "$set": {"plan": "free"},
                "$set_once": {"first": 1, "plan": "x"},
            },
            {
                "type": "identify",
                "userId": "u",
                "anonymousId": "a",
                "traits": {"plan": "free", "$set_once": {"first": 1, "plan": "x"}},
            },
        ),
        (
            {"event": "$set", "distinct_id": "u", "properties": {"$set": {"a": 1}}},
            {"type": "identify", "distinctId": "u", "traits": {"a": 1}},
        ),
        (
            {
                "event": "$groupidentify",
                "distinct_id": "$company_acme",
                "properties": {
                    "$group_type": "company",
                    "$group_key": "acme",
                    "$group_set": {"plan": "big"},
                },
            },
            {
                "type": "group",
                "groupType": "company",
                "groupId": "acme",
                "traits": {"plan": "big"},
                # posthog-node invents it from type and key
                "distinctId": "$company_acme",
                "context": {"posthog": {"$distinct_id": "$company_acme"}},
            },
        ),
        (
            {
                "event": "$create_alias",
                "distinct_id": "a",
                "properties": {"alias": "u"},
            },
            {"type": "alias", "distinctId": "a", "previousId": "u"},
        ),
        (
            {
                "event": "$pageview",
                "distinct_id": "a",
                "properties": {"title": "T", "$current_url": "https://x"},
            },
            {
                "type": "page",
                "distinctId": "a",
                "name": "T",
                "properties": {"title": "T"},
                "context": {"page": {"url": "https://x"}},
            },
        ),
        (
            {"event": "$screen", "properties": {"distinct_id": 7, "$screen_name": "S"}},
            {"type": "screen", "distinctId": "7", "name": "S"},
        ),
        (
            {"event": "a", "properties": {"distinct_id": "d", "$time": 5, "x": 1}},
            {
                "type": "track",
                "event": "a",
                "distinctId": "d",
                "timestamp": 5,
                "properties": {"x": 1},
                "context": {"posthog": {"$time": 5}},
            },
        ),
        # What is not of the right type stays what it is.
        (
            {"event": "a", "distinct_id": "d", "properties": [1]},
            {"type": "track", "event": "a", "distinctId": "d", "properties": [1]},
        ),
        (
            {"event": "a", "distinct_id": "d", "properties": ""},
            {"type": "track", "event": "a", "distinctId": "d", "properties": ""},
        ),
        (
            {"event": "a", "distinct_id": "d", "$set": "x", "$unset": ["y"]},
            {
                "type": "track",
                "event": "a",
                "distinctId": "d",
                "traits": {"$unset": ["y"]},
                "context": {"posthog": {"$set": "x"}},
            },
        ),
        # `$` names of ours are not PostHog's.
        (
            {"event": "a", "distinct_id": "d", "properties": {"$email": "a@b.c"}},
            {
                "type": "track",
                "event": "a",
                "distinctId": "d",
                "properties": {"$email": "a@b.c"},
            },
        ),
        # Ids beside PostHog's names.
        (
            {
                "event": "$pageview",
                "user_id": "u",
                "anonymousId": "a",
                "traits": {"b": 1},
            },
            {"type": "page", "userId": "u", "anonymousId": "a", "traits": {"b": 1}},
        ),
        # PostHog's libraries once sent a type of their own.
        (
            {
                "type": "identify",
                "event": "$identify",
                "distinct_id": "u",
                "$set": {"a": 1},
            },
            {"type": "identify", "userId": "u", "traits": {"a": 1}},
        ),
        (
            {"type": "capture", "event": "a", "distinct_id": "d"},
            {"type": "track", "event": "a", "distinctId": "d"},
        ),
        (
            {
                "event": "a",
                "distinct_id": "d",
                "sent_at": "s",
                "properties": {"$ignore_sent_at": True},
            },
            {
                "type": "track",
                "event": "a",
                "distinctId": "d",
                "context": {"posthog": {"$ignore_sent_at": True}},
            },
        ),
    ],
)
def test_posthogs_events(item: dict[str, Any], call: dict[str, Any]) -> None:
    before = copy.deepcopy(item)
    found = given(to_call(item))
    if found.get("properties") == {}:
        del found["properties"]
    assert found == call
    assert item == before
