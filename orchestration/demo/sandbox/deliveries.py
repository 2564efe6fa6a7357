"""Deliveries that the sandbox has applied, and whom it holds by them."""

from datetime import datetime

import msgspec

from connectors.destinations.protocol import Identifier
from connectors.destinations.webhook import AudienceChanged

__all__ = ["Delivery", "Members"]

Members = dict[str, set[Identifier]]
"""Profile id → the identifiers known of it."""


class Delivery(msgspec.Struct):
    """One request that was applied."""

    webhook_id: str
    received_at: datetime
    refused: tuple[str, ...]
    content: AudienceChanged

    def count(self, operation: str) -> int:
        return sum(
            change.operation == operation and change.profile_id not in self.refused
            for change in self.content.changes
        )
