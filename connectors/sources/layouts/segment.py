"""Segment's S3 and storage exports: full calls, one per line."""

import re
from typing import Any

from connectors.sources.layouts import Untranslatable

__all__ = ["CALL_FIELDS", "PATH", "TYPES", "looks_like", "translate"]

PATH = re.compile(r"(^|/)segment-logs/")

TYPES = frozenset({"track", "identify", "page", "screen", "group", "alias"})

CALL_FIELDS = (
    "messageId",
    "type",
    "event",
    "name",
    "userId",
    "anonymousId",
    "previousId",
    "groupId",
    "timestamp",
    "originalTimestamp",
    "sentAt",
    "receivedAt",
    "properties",
    "traits",
    "context",
    "integrations",
)


def looks_like(row: Any) -> bool:
    if not isinstance(row, dict) or "type" not in row or "receivedAt" not in row:
        return False
    metadata = row.get("_metadata")
    return "projectId" in row or (isinstance(metadata, dict) and "bundled" in metadata)


def translate(row: Any) -> dict[str, Any]:
    """The call as it was; `timestamp` has been corrected by Segment."""
    if not isinstance(row, dict):
        raise Untranslatable("row is not an object")
    type_ = row.get("type")
    if not isinstance(type_, str) or type_ not in TYPES:
        raise Untranslatable("type is not one of the six calls")
    call = {field: row[field] for field in CALL_FIELDS if row.get(field) is not None}
    channel = row.get("channel")
    if channel is not None and isinstance(call.get("context", {}), dict):
        call["context"] = {"channel": channel, **call.get("context", {})}
    return call
