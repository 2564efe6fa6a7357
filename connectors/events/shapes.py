"""Whatever shape an event arrives in becomes one call in Segment's shape.

A *call* is a plain dict with the keys `messageId, type, event, name, category, channel,
userId, anonymousId, distinctId, previousId, groupId, groupType, timestamp,
originalTimestamp, sentAt, receivedAt, properties, traits, context, integrations`;
absent keys are absent or null.
"""

from typing import Any

from connectors.events.canonical import TYPES
from connectors.events.naming import as_text
from connectors.events.shapes_posthog import from_posthog

__all__ = ["Unusable", "items", "to_call"]

# Other spelling → name in a call; the first that holds something counts.
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
_ALSO_TAKEN = (
    *_IDS,
    "previousId",
    "groupId",
    "groupType",
    "name",
    "traits",
    "originalTimestamp",
)
_NOT_POSTHOGS = frozenset(_ALSO_TAKEN).union(
    spelling for spelling, name in _SPELLINGS.items() if name in _ALSO_TAKEN
)


class Unusable(ValueError):
    """The item cannot become an event. `reason` is a code that holds no user data."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def items(value: Any) -> list[Any]:
    """The events of one decoded value: itself, a list's members, or a batch's.

    A batch's `sentAt`, `context` and `integrations` hold for each of its events that
    does not say otherwise (Segment HTTP API).
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
        sent_at = None  # no time, and it would be copied into every event
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
    """One item as a call. It may be the item itself: neither is ever changed.

    Raises:
        Unusable: not an object, or a one-call `$identify` whose group has no id.
    """
    if type(item) is not dict:
        raise Unusable("not_an_object")
    is_call = item.get("type") in TYPES
    if is_call and ("messageId" in item or "userId" in item or "anonymousId" in item):
        return item if item.keys().isdisjoint(_SPELLINGS) else _respelled(item)
    event = item.get("event")
    if type(event) is not str:
        return _respelled(item)
    given = item.get("properties")
    properties = given if type(given) is dict else {}
    if event == "$identify" and _is_one_call(properties):
        return _from_one_call(item, properties)
    # Some of PostHog's libraries send a type too: capture, identify, alias, screen.
    has_id = "uuid" in item or "distinct_id" in item or "distinct_id" in properties
    if event[:1] == "$" or (has_id and not is_call):
        return _from_posthog(item)
    return _respelled(item)


def _from_posthog(item: dict[str, Any]) -> dict[str, Any]:
    """PostHog's event, or somebody's who uses its names with ids of another shape."""
    call = from_posthog(item)
    if _NOT_POSTHOGS.isdisjoint(item):
        return call
    given = _respelled(item)
    kept = {name: given[name] for name in _ALSO_TAKEN if given.get(name) is not None}
    return {**kept, **call} | {name: kept[name] for name in _IDS if name in kept}


def _respelled(item: dict[str, Any]) -> dict[str, Any]:
    call = dict(item)
    for spelling, name in _SPELLINGS.items():
        if spelling in call:
            value = call.pop(spelling)
            if call.get(name) is None:
                call[name] = value
    # An event of ours that comes back has both; `event` is the name made from it.
    if "event_text" in call and call["event_text"] is not None:
        call["event"] = call["event_text"]
    return call


def _is_one_call(properties: dict[str, Any]) -> bool:
    # PostHog's own $identify names the anonymous side, or carries the traits in $set.
    return (
        "$anon_distinct_id" not in properties
        and "$set" not in properties
        and not properties.keys().isdisjoint(("$user_id", "$email", "$group"))
    )


def _from_one_call(item: dict[str, Any], properties: dict[str, Any]) -> dict[str, Any]:
    """User, group, membership and anonymous link in one event, or nothing of it."""
    call = _respelled(item)
    own = dict(properties)
    user_id, group = own.pop("$user_id", None), own.pop("$group", None)
    call |= {"type": "identify", "traits": _with_nested(own), "properties": None}
    distinct_id, named = as_text(call.get("distinctId")), as_text(user_id)
    if named is not None:
        call["userId"] = named
        call["distinctId"] = None
        if call.get("anonymousId") is None and distinct_id != named:
            call["anonymousId"] = distinct_id
    if group is not None:
        group_id = as_text(group.get("$group_id")) if type(group) is dict else None
        if group_id is None:
            raise Unusable("group_id_missing")
        call |= {"groupId": group_id, "groupType": group.get("$group_type")}
        call["properties"] = {"$group": group}
    return call


def _with_nested(traits: dict[str, Any]) -> dict[str, Any]:
    """Traits with those of a member `traits`, which cannot set `$` names."""
    nested = traits.get("traits")
    if type(nested) is not dict:
        return traits
    del traits["traits"]
    system = {name: value for name, value in nested.items() if name[:1] == "$"}
    plain = {name: value for name, value in nested.items() if name[:1] != "$"}
    return {**plain, **traits, **({"traits": system} if system else {})}


def _sent_at(values: dict[str, Any]) -> Any:
    given = values.get("sentAt")
    return values.get("sent_at") if given is None else given
