"""GA4's BigQuery export: rows of `events_YYYYMMDD` as JSON lines."""

import hashlib
from typing import Any

from connectors.sources.layouts import Untranslatable, compact, moment, number, text

__all__ = ["looks_like", "translate"]

_TYPES = {"page_view": "page", "screen_view": "screen"}
_NAMES = {
    "page": ("page_title",),
    "screen": ("firebase_screen", "screen_name", "firebase_screen_class"),
}
# The export has no event id; these fields together identify an event in it.
_KEY = (
    "user_pseudo_id",
    "event_timestamp",
    "event_name",
    "event_bundle_sequence_id",
    "batch_page_id",
    "batch_ordering_id",
    "batch_event_index",
)
_KEPT = ("privacy_info", "stream_id", "platform", "traffic_source", "device", "geo")


def looks_like(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and {"event_name", "event_timestamp"} <= row.keys()
        and not row.keys().isdisjoint({"event_params", "user_pseudo_id"})
    )


def translate(row: Any) -> dict[str, Any]:
    """Convert one event to a call; times are microseconds, integers may be text."""
    if not isinstance(row, dict):
        raise Untranslatable("row is not an object")
    event = row.get("event_name")
    if not isinstance(event, str):
        raise Untranslatable("event_name is not a name")
    micros = int(number(row.get("event_timestamp"), "event_timestamp"))
    offset = row.get("event_server_timestamp_offset") or 0
    server_micros = micros + int(number(offset, "event_server_timestamp_offset"))
    type_ = _TYPES.get(event, "track")
    properties = _values(row, "event_params")
    for field in ("items", "ecommerce"):
        if row.get(field):
            properties.setdefault(field, row[field])
    source = row.get("collected_traffic_source")
    source = source if isinstance(source, dict) else {}
    key = "\x1f".join(str(row.get(field) or "") for field in _KEY)
    names = (text(properties.get(key)) for key in _NAMES.get(type_, ()))
    return compact(
        {
            "messageId": hashlib.md5(
                key.encode(errors="surrogatepass"), usedforsecurity=False
            ).hexdigest(),
            "type": type_,
            "event": event if type_ == "track" else None,
            "name": next(filter(None, names), None),
            "userId": text(row.get("user_id")),
            "anonymousId": text(row.get("user_pseudo_id")),
            "timestamp": moment(micros, "event_timestamp", 1_000_000),
            # The offset is the time from collection to upload.
            "receivedAt": moment(
                server_micros, "event_server_timestamp_offset", 1_000_000
            ),
            "properties": properties or None,
            "traits": _values(row, "user_properties") or None,
            "context": {
                "campaign": {
                    "source": source.get("manual_source"),
                    "medium": source.get("manual_medium"),
                    "name": source.get("manual_campaign_name"),
                },
                "gclid": source.get("gclid"),
                "ga4": {field: row.get(field) for field in _KEPT},
            },
        }
    )


def _values(row: dict[str, Any], field: str) -> dict[str, Any]:
    """Convert GA4's list of keys with typed values to an object."""
    pairs = row.get(field) or []
    if not isinstance(pairs, list):
        raise Untranslatable(f"{field} is not a list")
    values: dict[str, Any] = {}
    for pair in pairs:
        key = pair.get("key") if isinstance(pair, dict) else None
        typed = pair.get("value") if isinstance(pair, dict) else None
        if not isinstance(key, str) or not isinstance(typed, dict | None):
            raise Untranslatable(f"{field} has an entry that is not a key and value")
        values[key] = _value(typed or {}, field)
    return values


def _value(typed: dict[str, Any], field: str) -> Any:
    if typed.get("string_value") is not None:
        return typed["string_value"]
    for kind in ("int_value", "double_value", "float_value"):
        if typed.get(kind) is not None:
            return number(typed[kind], f"{field}.{kind}")
    return None
