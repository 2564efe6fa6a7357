"""A fresh clone of the project for each test."""

import json
from pathlib import Path

import pytest

from tests.support.checkouts import (
    Checkout,
    Sending,
    clone,
)

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return clone(tmp_path / "loomline")


@pytest.fixture
def sending(checkout: Checkout) -> Sending:
    events = checkout.path / "events.ndjson"
    lines = [
        {
            "type": "track",
            "event": "Cart Updated",
            "messageId": f"m{number}",
            "userId": f"u{number}",
            "timestamp": "2026-05-01T12:00:00Z",
            "receivedAt": "2026-05-01T12:00:00Z",
        }
        for number in range(3)
    ]
    events.write_text("\n".join(map(json.dumps, lines)))
    checkout.loomline("import", str(events), "--source", "web")
    return Sending(checkout.path)
