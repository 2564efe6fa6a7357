"""Segment's S3 and storage exports: full calls, one per line."""

import re
from typing import Any

from connectors.sources.layouts import Untranslatable

__all__ = ["PATH", "TYPES", "looks_like", "translate"]

PATH = re.compile(r"(^|/)segment-logs/")

TYPES = frozenset({"track", "identify", "page", "screen", "group", "alias"})


def looks_like(row: Any) -> bool:
    if not isinstance(row, dict) or "type" not in row or "receivedAt" not in row:
        return False
    metadata = row.get("_metadata")
    return "projectId" in row or (isinstance(metadata, dict) and "bundled" in metadata)


def translate(row: Any) -> dict[str, Any]:
    """Return the call as sent; Segment has already corrected `timestamp`."""
    if not isinstance(row, dict):
        raise Untranslatable("row is not an object")
    type_ = row.get("type")
    if not isinstance(type_, str) or type_ not in TYPES:
        raise Untranslatable("type is not one of the six calls")
    return {field: value for field, value in row.items() if value is not None}
