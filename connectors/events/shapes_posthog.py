"""Converts PostHog's event shape to a call.

Live requests (`/batch/`, `/e/`) and PostHog's batch exports use the same shape. Its `$`
properties become fields of the call or of its context, or are kept under
`context.posthog`; the caller's own properties stay as they were sent.
"""

from typing import Any

from connectors.events.naming import as_text
from connectors.events.system_fields import PERSON_UPDATES, merged_update

__all__ = ["POSTHOG_FIELDS", "from_posthog"]

_TYPES = {
    "$identify": "identify",
    "$set": "identify",
    "$groupidentify": "group",
    "$create_alias": "alias",
    "$merge_dangerously": "alias",
    "$pageview": "page",
    "$screen": "screen",
}

# `$` names that are Loomline's, not PostHog's; they stay in the properties.
_OURS = frozenset(("$email", "$phone", "$group", "$plan"))

_IDS = ("uuid", "messageId", "message_id", "id")

POSTHOG_FIELDS = frozenset(
    {
        *(*_IDS, "event", "distinct_id", "timestamp", "sentAt", "sent_at"),
        *("properties", "context", "integrations", "options", *PERSON_UPDATES),
        *("token", "api_key"),  # the project's write key
    }
)
"""Fields of an event that `from_posthog` reads; the rest are the caller's."""

# Options of the newer protocol (`/i/v1/analytics/events`) → the same property in the
# older one; posthog-python 7.91, posthog-node 5.70.
_OPTIONS: dict[str, str] = {
    "process_person_profile": "$process_person_profile",
    "disable_skew_correction": "$ignore_sent_at",
    "cookieless_mode": "$cookieless_mode",
}

# `$` property → its place in Segment's context; None: the top level.
_CONTEXT: dict[str, tuple[str | None, str]] = {
    "$current_url": ("page", "url"),
    "$pathname": ("page", "path"),
    "$referrer": ("page", "referrer"),
    "$lib": ("library", "name"),
    "$lib_version": ("library", "version"),
    "$os": ("os", "name"),
    "$os_version": ("os", "version"),
    "$ip": (None, "ip"),
    "$raw_user_agent": (None, "userAgent"),
    "$browser_language": (None, "locale"),
    "$timezone": (None, "timezone"),
    "$groups": (None, "groups"),
}


def from_posthog(event: dict[str, Any]) -> dict[str, Any]:
    """Convert one PostHog event to a call.

    Never raises: missing or mistyped fields stay so in the call, for admission to
    decide about. `event` is not mutated.
    """
    properties = event.get("properties")
    name = event.get("event")
    type_ = _TYPES.get(name, "track") if type(name) is str else "track"
    # The caller's own properties, PostHog's, and those with a place in the context.
    own: dict[str, Any] = {}
    system: dict[str, Any] = {}
    context = _copied(event.get("context"))
    if type(properties) is dict:
        for key, value in properties.items():
            if key[:1] != "$" or key in _OURS:
                own[key] = value
            elif key in _CONTEXT:
                _put(context, _CONTEXT[key], value)
            else:
                system[key] = value
    for key in PERSON_UPDATES:
        if event.get(key) is not None:
            system[key] = merged_update(system.get(key), event[key])
    options = event.get("options")
    if type(options) is dict:
        for option, value in options.items():
            key = _OPTIONS.get(option) or option
            system.setdefault(key, value)
    elif options is not None:
        system["options"] = options
    traits = {**_taken(system, "$set")}
    for key in ("$set_once", "$unset"):
        if system.get(key) is not None:
            value = system.pop(key)
            traits[key] = [value] if type(value) is str and key == "$unset" else value
    distinct_id = as_text(event.get("distinct_id"))
    if "distinct_id" in own:
        inner_id = own.pop("distinct_id")
        distinct_id = distinct_id or as_text(inner_id)
    own.pop("token", None)  # the project's write key, added by the browser SDK
    message_id, timestamp = _first(event, _IDS), event.get("timestamp")
    call: dict[str, Any] = {
        "messageId": system.get("$insert_id") if message_id is None else message_id,
        "type": type_,
        "event": name if type_ == "track" else None,
        "timestamp": system.get("$time") if timestamp is None else timestamp,
        "integrations": event.get("integrations"),
    }
    if not system.get("$ignore_sent_at"):
        call["sentAt"] = _first(event, ("sentAt", "sent_at"))
    match type_:
        case "group":
            call["groupType"] = as_text(system.pop("$group_type", None))
            call["groupId"] = as_text(system.pop("$group_key", None))
            if traits:
                context["traits"] = traits
            traits = _taken(system, "$group_set")
        case "identify":
            traits = {**_taken(own, "traits"), **traits}
        case "alias":
            call["previousId"] = as_text(own.pop("alias", None))
        case "page":
            call["name"] = as_text(system.get("$title")) or as_text(own.get("title"))
        case "screen":
            call["name"] = as_text(system.pop("$screen_name", None))
    call["traits"] = traits or None
    call |= _people(name, distinct_id, system)
    is_of_device = call["userId"] is not None or call["anonymousId"] is not None
    if type_ == "group" and not is_of_device and call["distinctId"] is not None:
        # A server describes a group; its SDK may have invented the id it sends.
        system["$distinct_id"] = call["distinctId"]
    device_id = as_text(system.pop("$device_id", None))
    if device_id not in (None, call["anonymousId"]):
        _put(context, ("device", "id"), device_id)
    if type(event.get("context")) not in (dict, type(None)):
        system["context"] = event["context"]
    if system:
        earlier = context.get("posthog")
        if earlier is not None and type(earlier) is not dict:
            earlier = {"posthog": earlier}
        context["posthog"] = {**(earlier or {}), **system}
    call["context"] = context or None
    call["properties"] = (
        own if properties is None or type(properties) is dict else properties
    )
    return {key: value for key, value in call.items() if value is not None}


def _people(
    name: Any, distinct_id: str | None, system: dict[str, Any]
) -> dict[str, str | None]:
    """Return the event's ids; takes those but the device from `system`."""
    anonymous_id = None
    device_id = as_text(system.get("$device_id"))
    identified = system.get("$is_identified")
    user_id = None
    if name == "$identify":
        anonymous_id = as_text(system.pop("$anon_distinct_id", None))
        user_id = as_text(system.pop("$user_id", None))
        if user_id is None:
            user_id = distinct_id
        elif anonymous_id is None and distinct_id != user_id:
            anonymous_id = distinct_id
        distinct_id = None
    elif distinct_id is not None and as_text(system.get("$user_id")) == distinct_id:
        user_id = as_text(system.pop("$user_id"))
    elif (
        distinct_id != device_id
        and identified is not False
        # A server's event does not say what its id is; a browser's id that is not the
        # device's came from `identify`.
        and (device_id or identified)
    ):
        user_id = distinct_id
    known = (user_id, device_id, anonymous_id)
    return {
        "userId": user_id,
        "anonymousId": anonymous_id or device_id,
        "distinctId": None if distinct_id in known else distinct_id,
    }


def _first(row: dict[str, Any], keys: tuple[str, ...]) -> Any:
    for key in keys:
        if row.get(key) is not None:
            return row[key]
    return None


def _object(value: Any) -> dict[str, Any]:
    return value if type(value) is dict else {}


def _copied(context: Any) -> dict[str, Any]:
    """Return a copy of the context whose objects can be modified."""
    return {
        key: dict(value) if type(value) is dict else value
        for key, value in _object(context).items()
    }


def _taken(values: dict[str, Any], key: str) -> dict[str, Any]:
    """Remove and return the object under a key; anything else stays where it is."""
    value = values.get(key)
    if type(value) is not dict:
        return {}
    del values[key]
    return value


def _put(context: dict[str, Any], place: tuple[str | None, str], value: Any) -> None:
    parent, name = place
    if parent is None:
        context[name] = value
    elif type(context.get(parent)) is dict:
        context[parent][name] = value
    else:
        context[parent] = {name: value}
