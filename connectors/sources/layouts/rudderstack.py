"""RudderStack's object storage exports: full calls, one per line."""

import re
from typing import Any

from connectors.sources.layouts import segment

__all__ = ["PATH", "looks_like", "translate"]

PATH = re.compile(r"(^|/)rudder-logs/")


def looks_like(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and "type" in row
        and "receivedAt" in row
        and ("rudderId" in row or "request_ip" in row)
    )


def translate(row: Any) -> dict[str, Any]:
    """The call as it was, with the traits of an identify where Segment has them."""
    call = segment.translate(row)
    context = call.get("context", {})
    if not isinstance(context, dict):
        return call
    context = dict(context)
    if call["type"] == "identify" and "traits" not in call and context.get("traits"):
        call["traits"] = context["traits"]
    if row.get("request_ip") is not None:
        context.setdefault("ip", row["request_ip"])
    if row.get("rudderId") is not None:
        context["rudderId"] = row["rudderId"]
    if context:
        call["context"] = context
    return call
