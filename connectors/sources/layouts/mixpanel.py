"""Mixpanel's raw event export: JSON lines of `{event, properties}`."""

from typing import Any

from connectors.sources.layouts import Untranslatable, compact, moment, number, text

__all__ = ["looks_like", "translate"]

_TYPES = {
    "$identify": "identify",
    "$create_alias": "alias",
    "$mp_web_page_view": "page",
}
_DEVICE = "$device:"
# Seconds reach this value in the year 5138; milliseconds passed it in 1973.
_FIRST_MS = 100_000_000_000


def looks_like(row: Any) -> bool:
    if not isinstance(row, dict) or not {"event", "properties"} <= row.keys():
        return False
    properties = row["properties"]
    return (
        isinstance(properties, dict)
        and isinstance(properties.get("time"), int | float)
        and "distinct_id" in properties
        and not properties.keys().isdisjoint({"$insert_id", "mp_processing_time_ms"})
    )


def translate(row: Any) -> dict[str, Any]:
    """Convert one event to a call.

    The export repeats lines. `$insert_id`, which repeats with the line, is enough of
    its key (event, distinct_id, time, `$insert_id`) to deduplicate.
    """
    if not isinstance(row, dict):
        raise Untranslatable("row is not an object")
    event, sent = row.get("event"), row.get("properties")
    if not isinstance(event, str):
        raise Untranslatable("event is not a name")
    if not isinstance(sent, dict):
        raise Untranslatable("properties is not an object")
    properties = dict(sent)
    time = properties.pop("time", None)
    if time is None:
        raise Untranslatable("properties.time is missing")
    is_ms = abs(number(time, "properties.time")) >= _FIRST_MS
    processed = properties.pop("mp_processing_time_ms", None)
    type_ = _TYPES.get(event, "track")
    call: dict[str, Any] = {
        "messageId": text(properties.pop("$insert_id", None)),
        "type": type_,
        "timestamp": moment(time, "properties.time", 1000 if is_ms else 1),
        "receivedAt": moment(processed, "properties.mp_processing_time_ms", 1000),
        **_people(event, properties),
    }
    if type_ == "track":
        call["event"] = event
    elif type_ == "page":
        title = properties.get("title") or properties.get("current_page_title")
        call["name"] = text(title)
    elif type_ == "alias":
        call["previousId"] = text(properties.pop("alias", None))
    own = {key: properties.pop(key) for key in [*properties] if _is_own(key)}
    call["properties"] = properties or None
    call["context"] = {
        "library": {
            "name": own.pop("mp_lib", None),
            "version": own.pop("$lib_version", None),
        },
        "mixpanel": own,
    }
    return compact(call)


def _people(event: str, properties: dict[str, Any]) -> dict[str, str | None]:
    distinct_id = text(properties.pop("distinct_id", None))
    user_id = text(properties.pop("$user_id", None))
    device_id = text(properties.pop("$device_id", None))
    if event == "$identify":
        user_id = user_id or text(properties.pop("$identified_id", None)) or distinct_id
        device_id = device_id or text(properties.pop("$anon_id", None))
    if distinct_id and distinct_id.startswith(_DEVICE):
        device_id = device_id or distinct_id.removeprefix(_DEVICE)
        distinct_id = None
    if device_id:
        device_id = device_id.removeprefix(_DEVICE)
    return {
        "userId": user_id,
        "anonymousId": device_id,
        "distinctId": None if distinct_id in (user_id, device_id) else distinct_id,
    }


def _is_own(key: str) -> bool:
    return key.startswith(("$", "mp_"))
