"""The one-call `$identify`: user, group, membership and anonymous link in one event."""

import copy
from typing import Any

import pytest

from connectors.events.shapes import Unusable, items, to_call

# As it stands in the product's documentation.
LITERAL: dict[str, Any] = {
    "batch": [
        {
            "id": "evt_001",
            "event": "$identify",
            "distinct_id": "anonymous_session_abc",
            "timestamp": "2024-12-31T10:00:00Z",
            "properties": {
                "traits": {
                    "$user_id": "user_123",
                    "$email": "jane@acme.com",
                    "$name": "Jane Smith",
                    "$created_at": "2024-12-31T10:00:00Z",
                    "$group": {
                        "$group_id": "acme_inc",
                        "$group_type": "company",
                        "$name": "Acme Inc",
                        "$created_at": "2024-01-01T00:00:00Z",
                        "$plan": "enterprise",
                    },
                }
            },
        }
    ],
    "sent_at": "2024-12-31T10:00:01Z",
}
GROUP: dict[str, Any] = LITERAL["batch"][0]["properties"]["traits"]["$group"]


def one_call(nested: Any = None, **flat: Any) -> dict[str, Any]:
    """A `$identify` with these members of `traits`, and these beside it."""
    properties = {**flat, **({} if nested is None else {"traits": nested})}
    return {"event": "$identify", "distinct_id": "anon_abc", "properties": properties}


def said(item: dict[str, Any]) -> dict[str, Any]:
    before = copy.deepcopy(item)
    call = to_call(item)
    assert item == before
    return {key: value for key, value in call.items() if value is not None}


def test_the_documented_example_is_user_traits_group_and_anonymous_side() -> None:
    (item,) = items(LITERAL)
    assert said(item) == {
        "messageId": "evt_001",
        "type": "identify",
        "event": "$identify",
        "userId": "user_123",
        "anonymousId": "anonymous_session_abc",
        "groupId": "acme_inc",
        "groupType": "company",
        "timestamp": "2024-12-31T10:00:00Z",
        "sentAt": "2024-12-31T10:00:01Z",
        "traits": {
            "$email": "jane@acme.com",
            "$name": "Jane Smith",
            "$created_at": "2024-12-31T10:00:00Z",
        },
        "properties": {"$group": GROUP},
    }


def test_the_flattened_form_says_the_same() -> None:
    (item,) = items(LITERAL)
    flat = {**item, "properties": item["properties"]["traits"]}
    assert said(flat) == said(item)


def test_without_a_user_id_the_distinct_id_may_be_either() -> None:
    call = said(one_call({"$email": "jane@acme.com"}))
    assert call["distinctId"] == "anon_abc"
    assert "userId" not in call and "anonymousId" not in call


def test_traits_alone_are_a_one_call() -> None:
    call = said(one_call({"plan": "free"}))
    assert (call["distinctId"], call["traits"]) == ("anon_abc", {"plan": "free"})


def test_several_groups_are_a_list() -> None:
    groups = [
        {"$group_id": 7, "plan": "big"},
        {"$group_id": "t", "$group_type": "team"},
    ]
    call = said(one_call({"$user_id": "u", "$group": groups}))
    assert (call["groupId"], call["groupType"]) == ("7", "company")
    assert call["properties"]["$group"] == [
        {"$group_id": "7", "$group_type": "company", "plan": "big"},
        {"$group_id": "t", "$group_type": "team"},
    ]


def test_a_group_named_twice_is_one_group() -> None:
    groups = [{"$group_id": "a", "n": 1, "m": 1}, {"$group_id": "a", "n": 2}]
    call = said(one_call({"$user_id": "u", "$group": groups}))
    assert call["properties"]["$group"] == [
        {"$group_id": "a", "$group_type": "company", "n": 2, "m": 1}
    ]


def test_unknown_system_fields_are_traits() -> None:
    call = said(one_call({"$user_id": "u", "$favourite": {"a": 1}}))
    assert call["traits"] == {"$favourite": {"a": 1}}


def test_traits_beside_system_fields_are_traits_too() -> None:
    nested = one_call({"$user_id": "u", "plan": "pro", "seats": 2})
    mixed = one_call({"plan": "pro"}, **{"$user_id": "u", "seats": 2})
    for call in (said(nested), said(mixed)):
        assert call["userId"] == "u"
        assert call["traits"] == {"plan": "pro", "seats": 2}


def test_what_stands_beside_the_traits_describes_the_event() -> None:
    call = said(one_call({"$user_id": "u"}, button="signup"))
    assert call["properties"] == {"button": "signup"}
    assert call["traits"] == {}


@pytest.mark.parametrize("group", [None, []])
def test_no_group_is_no_membership(group: Any) -> None:
    call = said(one_call({"$user_id": "u", "$group": group}))
    assert call["userId"] == "u"
    assert "groupId" not in call and "properties" not in call


@pytest.mark.parametrize(
    "group",
    [
        {"$group_type": "company"},
        {"$group_id": None},
        {"$group_id": ""},
        {"$group_id": "  "},
        {"$group_id": []},
        {},
        "acme_inc",
        7,
        [{"$group_id": "acme"}, {"$group_type": "team"}],
        [None],
    ],
)
def test_a_group_without_id_refuses_the_whole_event(group: Any) -> None:
    for item in (
        one_call({"$user_id": "u", "$group": group}),
        one_call(**{"$user_id": "u", "$group": group}),
    ):
        with pytest.raises(Unusable, match="group_id_missing"):
            to_call(item)


def test_numbers_are_ids() -> None:
    call = said(one_call({"$user_id": 12345, "$group": {"$group_id": 12345.5}}))
    assert (call["userId"], call["groupId"]) == ("12345", "12345.5")
    assert said({**one_call({"$user_id": 1}), "distinct_id": 2})["anonymousId"] == "2"


def test_set_beside_traits_sets_traits() -> None:
    updates = {"$set": {"plan": "pro", "b": 2}, "$set_once": {"first": 1}}
    item = one_call({"$user_id": "u", "plan": "free", "a": 1}, **updates)
    traits = {"plan": "pro", "a": 1, "b": 2, "$set_once": {"first": 1}}
    assert said(item)["traits"] == traits
    # PostHog's libraries may write them at the event's own level.
    item = {**one_call({"$user_id": "u", "plan": "free", "a": 1}), **updates}
    assert said(item)["traits"] == traits


def test_of_a_name_said_twice_the_outer_value_counts_and_the_inner_one_is_kept() -> (
    None
):
    call = said(one_call({"$email": "in@acme.com"}, **{"$email": "out@acme.com"}))
    assert call["traits"] == {
        "$email": "out@acme.com",
        "traits": {"$email": "in@acme.com"},
    }


def test_traits_that_are_no_object_are_kept() -> None:
    call = said(one_call("x", **{"$user_id": "u"}))
    assert call["traits"] == {"traits": "x"}


def test_an_anonymous_id_of_its_own_stays() -> None:
    call = said({**one_call({"$user_id": "u"}), "anonymousId": "cookie"})
    assert (call["anonymousId"], call["userId"]) == ("cookie", "u")
    call = said(one_call({"$user_id": "u"}, **{"$anon_distinct_id": "cookie"}))
    assert (call["anonymousId"], call["userId"]) == ("cookie", "u")


def test_the_same_id_twice_is_no_anonymous_link() -> None:
    assert "anonymousId" not in said(one_call({"$user_id": "anon_abc"}))


def test_the_distinct_id_may_stand_in_the_properties() -> None:
    properties = {"distinct_id": "a", "traits": {"$user_id": "u"}}
    item = {"event": "$identify", "uuid": "m", "properties": properties}
    call = said(item)
    assert (call["anonymousId"], call["messageId"]) == ("a", "m")
    assert "properties" not in call


@pytest.mark.parametrize(
    "properties",
    [
        {"$anon_distinct_id": "a", "$set": {"plan": "free"}},
        {"$set": {"plan": "free"}, "$user_id": "anon_abc"},
        {"$anon_distinct_id": "a", "traits": {"plan": "free"}},
    ],
)
def test_posthogs_own_identify_names_the_user_by_its_distinct_id(
    properties: dict[str, Any],
) -> None:
    call = said(one_call(**properties))
    assert (call["userId"], call["traits"]) == ("anon_abc", {"plan": "free"})


def test_system_fields_beside_set_are_a_one_call_all_the_same() -> None:
    group = {"$group_id": "acme"}
    flat = {"$email": "a@b.c", "$group": group, "$set": {"plan": "pro"}}
    call = said(one_call(**flat))
    assert "userId" not in call
    assert call["distinctId"] == "anon_abc"
    assert call["groupId"] == "acme"
    assert call["traits"] == {"$email": "a@b.c", "plan": "pro"}
    with pytest.raises(Unusable, match="group_id_missing"):
        to_call(one_call(**{**flat, "$group": {"$plan": "x"}}))


def test_a_segment_identify_may_be_a_one_call_and_a_track_is_a_track() -> None:
    (item,) = items(LITERAL)
    segment = {
        "type": "identify",
        "event": "$identify",
        "messageId": "m",
        "anonymousId": "cookie",
        "properties": item["properties"],
    }
    call = said(segment)
    assert (call["userId"], call["groupId"]) == ("user_123", "acme_inc")
    assert call["anonymousId"] == "cookie"
    track = {**segment, "type": "track"}
    assert said(track) == track


def test_every_id_of_a_one_call_is_kept() -> None:
    item = one_call({"$user_id": "u2"}, **{"$anon_distinct_id": "B"})
    call = said({**item, "anonymousId": "A", "userId": "u1", "id": "i", "uuid": "x"})
    assert (call["userId"], call["anonymousId"]) == ("u2", "A")
    assert call["distinctId"] == "anon_abc"
    assert call["user_id"] == "u1"  # admission keeps what it does not know
    assert (call["messageId"], call["uuid"]) == ("i", "x")
    assert call["properties"] == {"$anon_distinct_id": "B"}


def test_updates_at_two_places_count_together() -> None:
    item = one_call({"$user_id": "u", "$set": {"c": 3}}, **{"$set": {"b": 2}})
    assert said({**item, "$set": {"a": 1}})["traits"] == {"a": 1, "b": 2, "c": 3}
    assert said({**item, "$set": None})["traits"] == {"b": 2, "c": 3}


def test_what_an_sdk_adds_to_each_event_is_no_trait() -> None:
    added = {"$lib": "posthog-python", "$ip": "192.0.2.1", "$geoip_disable": True}
    call = said(one_call({"$user_id": "u", "$plan": "x"}, **added))
    assert call["traits"] == {"$plan": "x"}
    assert call["properties"] == added
    call = said(one_call(**{"$user_id": "u", "$plan": "x", **added}))
    assert call["traits"] == {"$plan": "x"}


def test_a_one_call_may_be_without_person_profile() -> None:
    item = one_call({"$email": "a@b.c"}, **{"$process_person_profile": False})
    call = said(item)
    assert call["context"] == {"posthog": {"$process_person_profile": False}}
    assert call["traits"] == {"$email": "a@b.c"}
