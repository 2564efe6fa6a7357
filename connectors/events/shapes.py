"""Converts every input shape to one call in Segment's shape.

A *call* is a plain dict with the keys `messageId, type, event, name, category, channel,
userId, anonymousId, distinctId, previousId, groupId, groupType, timestamp,
originalTimestamp, sentAt, receivedAt, properties, traits, context, integrations`;
absent keys are missing or null. Any other field stays in the call under its own name:
admission puts it in the context.
"""

from typing import Any

from connectors.events.canonical import TYPES
from connectors.events.naming import as_text
from connectors.events.shapes_posthog import POSTHOG_FIELDS, from_posthog
from connectors.events.system_fields import (
    PERSON_UPDATES,
    is_one_call,
    merged_update,
    person_of,
)

__all__ = ["Unusable", "items", "to_call"]

# Other spelling → name in a call; the first one with a value counts.
_SPELLINGS = {
    "message_id": "messageId",
    "id": "messageId",
    "user_id": "userId",
    "anonymous_id": "anonymousId",
    "distinct_id": "distinctId",
    "previous_id": "previousId",
    "group_id": "groupId",
    "group_type": "groupType",
    "original_timestamp": "originalTimestamp",
    "sent_at": "sentAt",
    "received_at": "receivedAt",
}

_LONGEST_TIME = 64
_IDS = ("userId", "anonymousId")
_OTHER_TYPES = tuple(type_ for type_ in TYPES if type_ != "identify")


class Unusable(ValueError):
    """The item cannot become an event. `reason` is a code without user data."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def items(value: Any) -> list[Any]:
    """Return the events of a decoded value: itself, a list's members, or a batch's.

    A batch's `sentAt`, `context` and `integrations` apply to every event in it that
    does not have its own (Segment HTTP API).
    """
    if type(value) is list:
        return value
    if type(value) is not dict or "event" in value or "type" in value:
        return [value]
    batch = value.get("batch")
    if type(batch) is not list:
        return [value]
    sent_at = _sent_at(value)
    if type(sent_at) not in (str, int, float) or len(str(sent_at)) > _LONGEST_TIME:
        sent_at = None  # not a time, and it would be copied into every event
    shared = {key: value.get(key) for key in ("context", "integrations")}
    shared = {key: object_ for key, object_ in shared.items() if object_}
    if sent_at is None and not shared:
        return batch
    return [
        _with_shared(item, sent_at, shared) if type(item) is dict else item
        for item in batch
    ]


def _with_shared(item: dict[str, Any], sent_at: Any, shared: Any) -> dict[str, Any]:
    merged = {**shared, **item}
    own, common = item.get("context"), shared.get("context")
    if type(own) is dict and type(common) is dict:
        merged["context"] = {**common, **own}
    elif own is None and common is not None:
        merged["context"] = common
    if sent_at is not None and _sent_at(item) is None:
        merged["sentAt"] = sent_at
    return merged


def to_call(item: Any) -> dict[str, Any]:
    """Return one item as a call. It may be the item itself: neither is ever mutated.

    Raises:
        Unusable: not an object, or a one-call `$identify` whose group has no id.
    """
    if type(item) is not dict:
        raise Unusable("not_an_object")
    event = item.get("event")
    # In a call of another type, `event` is just the event's name.
    if event == "$identify" and item.get("type") not in _OTHER_TYPES:
        person_properties = _person_properties(item)
        if is_one_call(person_properties):
            return _from_one_call(item, person_properties)
    is_call = item.get("type") in TYPES
    if is_call and ("messageId" in item or "userId" in item or "anonymousId" in item):
        return item if item.keys().isdisjoint(_SPELLINGS) else _respelled(item)
    if type(event) is not str:
        return _respelled(item)
    # Some PostHog libraries also send a type: capture, identify, alias, screen.
    has_id = "uuid" in item or "distinct_id" in item
    if not has_id:
        properties = item.get("properties")
        has_id = type(properties) is dict and "distinct_id" in properties
    if event[:1] == "$" or (has_id and not is_call):
        return _from_posthog(item)
    return _respelled(item)


def _from_posthog(item: dict[str, Any]) -> dict[str, Any]:
    """Convert PostHog's event, or one with its names and other ids."""
    call = from_posthog(item)
    unread = {name: item[name] for name in item.keys() - POSTHOG_FIELDS}
    if not unread:
        return call
    rest = _respelled(unread)
    ids = {name: rest[name] for name in _IDS if rest.get(name) is not None}
    traits = merged_update(rest.get("traits"), call.get("traits"))
    for name, spelling in zip(_IDS, ("distinct_id", "$device_id"), strict=True):
        if name in ids and call.get(name) not in (None, ids[name]):
            rest[spelling] = call[name]  # kept in the context: two ids, one field
    return {**rest, **call, **ids, "traits": traits}


def _respelled(item: dict[str, Any]) -> dict[str, Any]:
    call = dict(item)
    for spelling, name in _SPELLINGS.items():
        if call.get(spelling) is None:
            call.pop(spelling, None)
        elif call.get(name) is None:
            call[name] = call.pop(spelling)
    # An exported event of Loomline has both; `event` is derived from the text.
    if "event_text" in call and call["event_text"] is not None:
        call["event"] = call["event_text"]
    return call


def _from_one_call(item: dict[str, Any], properties: dict[str, Any]) -> dict[str, Any]:
    """Convert one event that carries user, group, membership and anonymous link."""
    call = _respelled(item)
    for name in PERSON_UPDATES:
        call.pop(name, None)
    traits, rest = person_of(properties)
    if call.get("messageId") is None:
        call["messageId"] = call.pop("uuid", None)
    user_id, group = as_text(traits.pop("$user_id", None)), traits.pop("$group", None)
    distinct_id = as_text(call.get("distinctId")) or as_text(rest.get("distinct_id"))
    rest.pop("distinct_id", None)
    if call.get("anonymousId") is None:
        call["anonymousId"] = rest.pop("$anon_distinct_id", None)
    if user_id is not None:
        if call.get("userId") not in (None, user_id):
            call["user_id"] = call["userId"]  # kept in the context
        call["userId"] = user_id
        if call["anonymousId"] is None and distinct_id != user_id:
            call["anonymousId"] = distinct_id
    if distinct_id in (call.get("userId"), call["anonymousId"]):
        distinct_id = None
    if "$process_person_profile" in rest:
        posthog = {"$process_person_profile": rest.pop("$process_person_profile")}
        context = call.get("context")
        context = context if type(context) is dict else {}
        call["context"] = {**context, "posthog": posthog}
    groups = _groups(group)
    if groups:
        call["groupId"] = groups[0]["$group_id"]
        call["groupType"] = groups[0]["$group_type"]
        rest["$group"] = groups if type(group) is list else groups[0]
    return call | {
        "type": "identify",
        "distinctId": distinct_id,
        "traits": traits,
        "properties": rest or None,
    }


def _person_properties(item: dict[str, Any]) -> dict[str, Any]:
    """Return the properties, with the person updates at the event's own level."""
    sent = item.get("properties")
    properties = sent if type(sent) is dict else {}
    if item.keys().isdisjoint(PERSON_UPDATES):
        return properties
    both = {
        name: merged_update(properties.get(name), item.get(name))
        for name in PERSON_UPDATES
    }
    return {**properties, **{k: v for k, v in both.items() if v is not None}}


def _groups(value: Any) -> list[dict[str, Any]]:
    """Return the groups in a `$group`, each once, ids and types as text.

    Raises:
        Unusable: one of them has no id.
    """
    if value is None:
        return []
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for group in value if type(value) is list else [value]:
        group_id = as_text(group.get("$group_id")) if type(group) is dict else None
        if group_id is None:
            raise Unusable("group_id_missing")
        group_type = as_text(group.get("$group_type")) or "company"
        named = {**group, "$group_id": group_id, "$group_type": group_type}
        key = group_type, group_id
        groups[key] = {**groups.get(key, {}), **named}
    return list(groups.values())


def _sent_at(values: dict[str, Any]) -> Any:
    sent_at = values.get("sentAt")
    return values.get("sent_at") if sent_at is None else sent_at
