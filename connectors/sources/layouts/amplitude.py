"""Amplitude's export API: JSON lines in a zip of hourly gzip files."""

import re
from typing import Any

from connectors.sources.layouts import Untranslatable, compact, instant, text

__all__ = ["PATH", "looks_like", "translate"]

PATH = re.compile(r"(\d+)/\1_\d{4}-\d{2}-\d{2}_\d{1,2}#\d+\.json(\.gz)?$")

_TYPES = {
    "$identify": "identify",
    "$groupidentify": "group",
    "[Amplitude] Page Viewed": "page",
    "[Amplitude] Screen Viewed": "screen",
}

_NAMES = {
    "page": ("title", "[Amplitude] Page Title"),
    "screen": ("name", "[Amplitude] Screen Name"),
}

_KEPT = ("amplitude_id", "app", "event_id", "platform", "session_id", "version_name")


def looks_like(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and {"event_type", "event_time"} <= row.keys()
        and not row.keys().isdisjoint({"amplitude_id", "server_upload_time", "app"})
    )


def translate(row: Any) -> dict[str, Any]:
    """Convert one event to a call. `event_time` is Amplitude's corrected time, UTC."""
    if not isinstance(row, dict):
        raise Untranslatable("row is not an object")
    event = row.get("event_type")
    if not isinstance(event, str):
        raise Untranslatable("event_type is not a name")
    type_ = _TYPES.get(event, "track")
    properties = _object(row, "event_properties")
    groups = _object(row, "groups")
    call: dict[str, Any] = {
        "messageId": text(row.get("$insert_id")) or text(row.get("uuid")),
        "type": type_,
        "userId": text(row.get("user_id")),
        "anonymousId": text(row.get("device_id")),
        "timestamp": instant(row, "event_time"),
        "originalTimestamp": instant(row, "client_event_time"),
        "sentAt": instant(row, "client_upload_time"),
        "receivedAt": instant(row, "server_received_time")
        or instant(row, "server_upload_time"),
        "properties": properties or None,
        "traits": _assigned(_object(row, "user_properties")) or None,
        "context": {
            "ip": row.get("ip_address"),
            "locale": row.get("language"),
            "library": {"name": row.get("library")},
            "os": {"name": row.get("os_name"), "version": row.get("os_version")},
            "device": {"type": row.get("device_type")},
            "location": {key: row.get(key) for key in ("country", "region", "city")},
            "groups": groups,
            "amplitude": {key: row.get(key) for key in _KEPT},
        },
    }
    if type_ == "group":
        call |= _group(groups)
        call["traits"] = _assigned(_object(row, "group_properties")) or None
    elif type_ == "track":
        call["event"] = event
    else:
        names = (text(properties.get(key)) for key in _NAMES.get(type_, ()))
        call["name"] = next(filter(None, names), None)
    return compact(call)


def _group(groups: dict[str, Any]) -> dict[str, Any]:
    """Return type and id of the group; Amplitude lists values per type."""
    for group_type, values in groups.items():
        value = values[0] if isinstance(values, list) and values else values
        if text(value):
            return {"groupType": group_type, "groupId": text(value)}
    raise Untranslatable("groups contains no group")


def _assigned(properties: dict[str, Any]) -> dict[str, Any]:
    """Return plain values if a row has the SDK's `$set` operations."""
    plain = {key: value for key, value in properties.items() if key[:1] != "$"}
    operations = (properties.get(key) for key in ("$setOnce", "$set"))
    for values in operations:
        plain |= values if isinstance(values, dict) else {}
    return plain


def _object(row: dict[str, Any], field: str) -> dict[str, Any]:
    value = row.get(field) or {}
    if not isinstance(value, dict):
        raise Untranslatable(f"{field} is not an object")
    return value
