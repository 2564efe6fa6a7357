"""When imported things happened: the same by every way in, and after a replay."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors.events.policy import Policy
from connectors.home import Home
from connectors.ingest.importing import import_units
from connectors.ingest.inbox import land_inbox
from connectors.ingest.quarantine import replay
from connectors.landing.prepare import prepare
from connectors.sources.files import units
from tests.support.collecting import landed

OLD = datetime(2024, 12, 31, 10)
CONTRACT = """
event: plan_changed
on_violation: quarantine
schema: {type: object, properties: {plan: {enum: [%s]}}}
"""


@pytest.fixture
def project(tmp_path: Path, project_path: Path) -> Path:
    """A project that has the seeds and one contract."""
    project = tmp_path / "project"
    shutil.copytree(project_path / "seeds", project / "seeds")
    (project / "connectors/events/contracts").mkdir(parents=True)
    (project / "connectors/events/transformations").mkdir()
    allow(project, "free")
    return project


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    prepare(home)
    return home


def allow(project: Path, plans: str) -> None:
    file = project / "connectors/events/contracts/plan_changed.yml"
    file.write_text(CONTRACT % plans)


def call(plan: str, **fields: Any) -> dict[str, Any]:
    return {
        "type": "track",
        "event": "Plan Changed",
        "userId": "u",
        "messageId": "m",
        "properties": {"plan": plan},
        "timestamp": f"{OLD.isoformat()}Z",
        "sentAt": f"{OLD.isoformat()}Z",
    } | fields


def imported(home: Home, project: Path, data: bytes) -> None:
    file = home.path / "calls.ndjson"
    file.write_bytes(data)
    import_units(home, project, units([file]), "app", workers=1)


def dropped(home: Home, project: Path, data: bytes) -> None:
    (home.inbox / "app").mkdir()
    (home.inbox / "app" / "calls.ndjson").write_bytes(data)
    land_inbox(home, project)


def replayed(home: Home, project: Path, clock: Callable[[], float]) -> dict[str, int]:
    _, dispositions = replay(
        home, project, lambda held: held, lambda source: (source, Policy()), clock=clock
    )
    return dict(dispositions)


@pytest.mark.parametrize("way", [imported, dropped])
@pytest.mark.parametrize("is_batch", [False, True])
def test_old_sdk_calls_happened_when_they_say_by_every_way_in(
    home: Home,
    project: Path,
    way: Callable[[Home, Path, bytes], None],
    is_batch: bool,
) -> None:
    given = call("free")
    if is_batch:
        given = {"batch": [given], "sentAt": given.pop("sentAt")}
    before = datetime.now(UTC).replace(tzinfo=None)
    way(home, project, json.dumps(given).encode())
    (event,) = landed(home, "events")
    assert (event["timestamp"], event["sent_at"]) == (OLD, OLD)
    assert event["skew_ms"] is None
    assert before <= event["received_at"] <= before + timedelta(minutes=5)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        # Corrected by the arrival it carries, to the microsecond.
        {"timestamp": None, "originalTimestamp": "2024-12-31T08:00:00Z"}
        | {"sentAt": "2024-12-31T08:00:00Z", "receivedAt": "2024-12-31T10:00:00Z"},
        {"timestamp": "2024-12-31T10:00:00Z", "receivedAt": "2024-12-31T10:00:00.1Z"},
        {"receivedAt": "2124-12-31T10:00:00.000001Z"},
    ],
)
def test_an_imported_event_that_is_replayed_happened_when_the_file_says(
    home: Home, project: Path, fields: dict[str, Any]
) -> None:
    imported(home, project, json.dumps(call("gold", **fields)).encode())
    (held,) = landed(home, "dispositions")
    assert held["disposition"] == "quarantined"
    later = datetime.now(UTC) + timedelta(days=40)
    # Refused once more, and then a replay of a replay.
    assert replayed(home, project, lambda: later.timestamp()) == {"quarantined": 1}
    allow(project, "free, gold")
    much_later = later + timedelta(days=40)
    assert replayed(home, project, lambda: much_later.timestamp()) == {"admitted": 1}
    (event,) = landed(home, "events")
    assert event["timestamp"] == OLD
    assert event["received_at"] == much_later.replace(tzinfo=None)
    is_ahead = "2124" in fields.get("receivedAt", "")
    assert (event["violations"] == '["received_at_in_future"]') == is_ahead
