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
    """Return the call as sent, with an identify's traits where Segment has them."""
    call = segment.translate(row)
    context = call.get("context", {})
    if not isinstance(context, dict):
        return call
    context = dict(context)
    if call["type"] == "identify" and "traits" not in call and context.get("traits"):
        call["traits"] = context["traits"]
    if "request_ip" in call:
        context.setdefault("ip", call.pop("request_ip"))
    if "rudderId" in call:
        context["rudderId"] = call.pop("rudderId")
    if context:
        call["context"] = context
    return call
