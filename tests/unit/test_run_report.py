"""What `loomline run` says when it is done."""

import os
import pty
import re
import select
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from connectors.home import Home
from connectors.ingest.importing import Imported
from orchestration.cli.report import print_imported, print_run, run_summary
from orchestration.pipeline.delivery import Push, Sync
from orchestration.pipeline.memberships import AudienceChange
from orchestration.pipeline.run import RunResult

AT = datetime(2026, 5, 2, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "data_docs").mkdir()
    (tmp_path / "data_docs" / "index.html").touch()
    return Home(tmp_path)


@pytest.fixture
def result() -> RunResult:
    name = "aud_a_name_of_more_than_eighty_characters_in_all_" + "x" * 40
    result = RunResult(AT, recorded_as="run-1")
    result.audiences = [AudienceChange(name, members=1200, entered=10, left=3)]
    result.pushes = [
        Push(Sync("crm_webhook", name, 1200, 1190, 1180), 1180, added=10, removed=3),
        Push(Sync("warehouse_drop", "aud_quiet", 5, 5, 5), 5),
    ]
    result.note_check([])
    result.note_check(["a sentence about a name"])
    result.seconds = {"start": 1.04, "models": 20.0, "publish": 0.01}
    return result


def test_a_pipe_gets_plain_lines_with_every_name_whole(
    result: RunResult, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    print_run(result, home)
    output = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in output.splitlines()]
    name = result.audiences[0].audience
    assert lines[:-1] == [
        "No new files.",
        "Audiences",
        "audience members entered left",
        f"{name} 1,200 +10 -3",
        "Pushed",
        "destination audience added removed",
        f"crm_webhook {name} 10 3",
        "1 check passed, 1 warned.",
        "warning: a sentence about a name",
        f"data docs: {home.path}/data_docs/index.html",
        "Dagster run: run-1",
    ]
    assert lines[-1].startswith("start 1.0 s, models 20.0 s; ")
    assert not set(output) & set("┃│━\x1b")


def test_without_pushes_there_is_no_word_of_them(
    result: RunResult, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    print_run(result, home, has_pushed=False)
    assert "ushed" not in capsys.readouterr().out
    result.pushes.clear()
    print_run(result, home)
    assert "There was nothing to push." in capsys.readouterr().out


def test_json_says_the_same(result: RunResult, home: Home) -> None:
    summary = msgspec.json.decode(msgspec.json.encode(run_summary(result, home)))
    assert summary["audiences"][0] == {
        "audience": result.audiences[0].audience,
        "members": 1200,
        "entered": 10,
        "left": 3,
    }
    assert summary["checks"] == {"passed": 1, "warned": 1}
    assert summary["data_docs"] == f"{home.path}/data_docs/index.html"
    assert summary["dagster_run"] == "run-1"
    assert summary["seconds"]["models"] == 20.0 and summary["total_seconds"] > 0


WORKING = """
import os, sys, time
from orchestration.cli.output import say, stages
with stages() as begin:
    begin("models")
    if sys.stderr.isatty():  # as Dagster does while a step runs
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    time.sleep(0.7)
    say("Rebuilding all models.")
    begin("checks")
    time.sleep(0.7)
"""


def on_terminal(code: str) -> str:
    """What a terminal of 80 columns is sent."""
    here, there = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=there, stdout=there, stderr=there
    ) as process:
        os.close(there)
        sent = b""
        while process.poll() is None or select.select([here], [], [], 0)[0]:
            if select.select([here], [], [], 0.1)[0]:
                try:
                    sent += os.read(here, 65536)
                except OSError:  # as Linux says that the other side is closed
                    break
    os.close(here)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", sent.decode())


def test_a_terminal_shows_the_stage_under_way() -> None:
    lines = [line.strip() for line in re.split(r"[\r\n]+", on_terminal(WORKING))]
    assert any(re.fullmatch(r"models \d+ s", line) for line in lines)
    assert any(re.fullmatch(r"checks \d+ s", line) for line in lines)
    assert "Rebuilding all models." in lines
    piped = subprocess.run(
        [sys.executable, "-c", WORKING], capture_output=True, text=True, check=True
    )
    assert piped.stderr == "Rebuilding all models.\n" and piped.stdout == ""


def test_an_import_tells_refused_items_and_empty_files(
    capsys: pytest.CaptureFixture[str],
) -> None:
    done = Imported(received=5, files=1, files_empty=1)
    done.dispositions.update(admitted=2, rejected=2, quarantined=1)
    print_imported(done)
    output = capsys.readouterr().out
    assert "3 items rejected or quarantined: `loomline quarantine list`" in output
    assert "1 empty file" in output and "earlier" not in output
