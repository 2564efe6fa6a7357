"""Landing that stays, and workers that tell each other how they are."""

import shutil
import threading
from pathlib import Path

import msgspec

from connectors.home import Home
from connectors.ingest.watching import watch
from connectors.landing.manifest import Manifest
from connectors.landing.prepare import prepare
from connectors.landing.segment_writer import SegmentWriter
from connectors.landing.segments import Record, segments_folder
from connectors.sources.http_api.metrics import Metrics
from tests.support import PROJECT
from tests.support.collecting import wait_until

CALL = {"type": "track", "event": "e", "userId": "u", "messageId": "m"}


def test_landing_that_stays_survives_a_file_being_edited(tmp_path: Path) -> None:
    project, home = tmp_path / "project", Home(tmp_path / "home")
    prepare(home)
    writer = SegmentWriter(segments_folder(home), lambda tokens, error: None)
    writer.start()
    record = Record(
        source="web", scope="web", channel="http", received_at=1, items=[CALL]
    )
    writer.append(msgspec.json.encode(record), 1, None)
    writer.close()

    stop, told = threading.Event(), list[str]()
    landing = threading.Thread(
        target=watch, args=(home, project, stop), kwargs={"on_problem": told.append}
    )
    landing.start()
    try:
        wait_until(lambda: told)
        assert "identifier_types.csv" in told[0]
        shutil.copytree(PROJECT / "seeds", project / "seeds")
        wait_until(lambda: Manifest(home).files())
    finally:
        stop.set()
        landing.join(20)
    assert not landing.is_alive() and len(told) == 1


def test_every_worker_says_when_one_cannot_store(tmp_path: Path) -> None:
    one = Metrics(tmp_path)
    assert one.fault() is None
    (tmp_path / "4711.red").write_text("No space left on device")
    assert one.fault() == "No space left on device"
    Metrics.forget(tmp_path, 4711)
    one.tell_fault("Input/output error")
    assert one.fault() == "Input/output error"
    one.tell_fault(None)
    assert one.fault() is None
