"""Deliveries that the sandbox has applied, and the resulting members."""

from datetime import datetime

import msgspec

from connectors.destinations.protocol import Identifier
from connectors.destinations.webhook import AudienceChanged

__all__ = ["Delivery", "Members"]

Members = dict[str, set[Identifier]]
"""Profile id → its identifiers."""


class Delivery(msgspec.Struct):
    """One applied request."""

    webhook_id: str
    received_at: datetime
    refused: tuple[str, ...]
    content: AudienceChanged

    def count(self, operation: str) -> int:
        return sum(
            change.operation == operation and change.profile_id not in self.refused
            for change in self.content.changes
        )
