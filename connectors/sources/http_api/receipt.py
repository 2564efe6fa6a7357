"""Receipts: the answer to each event of a request, for senders that request them."""

from collections.abc import Sequence
from typing import NamedTuple

from connectors.sources.http_api.answers import Answer, json_answer

__all__ = ["Receipt", "posthog_v1", "with_receipts"]


class Receipt(NamedTuple):
    """The result of one item, as its sender gets it."""

    id: str | None
    status: str
    reason: str | None


def with_receipts(receipts: Sequence[Receipt]) -> Answer:
    events = [receipt._asdict() for receipt in receipts]
    return json_answer({"success": True, "events": events})


_POSTHOG_RESULTS = {"admitted": "ok", "rate_limited": "retry"}


def posthog_v1(receipts: Sequence[Receipt]) -> Answer:
    """Answer in PostHog's newer protocol, with a result per event id."""
    results = {
        receipt.id: {
            "result": _POSTHOG_RESULTS.get(receipt.status, "drop"),
            "details": receipt.reason,
        }
        for receipt in receipts
        if receipt.id is not None
    }
    return json_answer({"results": results})
