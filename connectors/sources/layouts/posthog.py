"""PostHog's batch exports: events as JSON lines."""

from typing import Any

from connectors.events.decode import Undecodable, decode_item
from connectors.events.shapes_posthog import POSTHOG_FIELDS, from_posthog
from connectors.sources.layouts import Untranslatable, instant

__all__ = ["looks_like", "translate"]


_READ = frozenset(("person_id", "elements_chain", "created_at", "_inserted_at"))


def looks_like(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and {"uuid", "event", "distinct_id"} <= row.keys()
        and not row.keys().isdisjoint({"_inserted_at", "created_at", "person_id"})
    )


def translate(row: Any) -> dict[str, Any]:
    """Return the call of the live event, with PostHog's own receipt time."""
    if not isinstance(row, dict):
        raise Untranslatable("row is not an object")
    if not isinstance(row.get("event"), str):
        raise Untranslatable("event is not a name")
    properties = row.get("properties")
    if isinstance(properties, str):  # rows that went through Parquet or SQL
        try:
            properties = decode_item(properties.encode(errors="surrogatepass"))
        except Undecodable:
            raise Untranslatable("properties is not JSON") from None
    if properties is not None and not isinstance(properties, dict):
        raise Untranslatable("properties is not an object")
    call = from_posthog({**row, "properties": properties})
    for field in ("person_id", "elements_chain"):
        if row.get(field):
            context = call.setdefault("context", {})
            context["posthog"] = {**context.get("posthog", {}), field: row[field]}
    call |= {name: row[name] for name in row.keys() - POSTHOG_FIELDS - _READ}
    timestamp = instant(row, "timestamp")
    if timestamp:
        call["timestamp"] = timestamp
    received_at = instant(row, "created_at") or instant(row, "_inserted_at")
    if received_at:
        call["receivedAt"] = received_at
    return call
