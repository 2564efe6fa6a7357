"""Real SDKs for tests: unmodified packages in processes of their own.

How each is pointed at a collector is read from the guide, so that the guide is right.
"""

import json
import os
import re
import shutil
import subprocess
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from connectors.home import Home
from tests.support import PROJECT
from tests.support.collecting import Collecting, landed, wait_until

__all__ = [
    "Program",
    "browser_page",
    "constructor",
    "count_of",
    "count_stored",
    "node_program",
    "python_program",
    "stored",
    "wait_for_events",
]

SDKS = PROJECT / ".ci/sdks"
GUIDE = PROJECT / "docs/instrument.md"
LONGEST_S = 90
"""After this a program that hangs is killed, and its test fails."""


class Program:
    """A process that runs the code it is given, and says how that went."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        assert process.stdin is not None and process.stdout is not None
        self._in, self._out = process.stdin, process.stdout

    def do(self, code: str) -> Any:
        """Run the code to its end; what it returned."""
        self.begin(code)
        return self.result()

    def begin(self, code: str) -> None:
        """Run the code without waiting for it; `result` waits."""
        self._in.write(json.dumps(code) + "\n")
        self._in.flush()

    def result(self) -> Any:
        line = self._out.readline()
        assert line, "the SDK's process has ended"
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer["value"]

    def end(self) -> None:
        """Let the program end by itself, as one that has nothing more to do."""
        self._in.close()
        assert self._process.wait() == 0


@contextmanager
def _running(command: Sequence[str], **env: str) -> Iterator[Program]:
    assert Path(command[0]).exists(), f"{command[0]} is not there; run {SDKS}/install"
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **env},
    )
    watchdog = threading.Timer(LONGEST_S, process.kill)
    watchdog.start()
    program = Program(process)
    try:
        yield program
        program.end()
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@contextmanager
def python_program() -> Iterator[Program]:
    command = [str(SDKS / ".venv/bin/python"), str(SDKS / "program.py")]
    with _running(command) as program:
        yield program


@contextmanager
def node_program(**env: str) -> Iterator[Program]:
    with _running([_found("node"), str(SDKS / "program.mjs")], **env) as program:
        yield program


@contextmanager
def browser_page() -> Iterator[Program]:
    """A page in a headless Chromium, on a port that is not the collector's."""
    command = [_found("node"), str(SDKS / "page.mjs")]
    with _running(command, CHROMIUM=_found("chromium")) as program:
        yield program


def _found(name: str) -> str:
    path = shutil.which(name)
    assert path, f"{name} is not installed; run {SDKS}/install"
    assert (SDKS / "node_modules").exists(), f"run {SDKS}/install"
    return path


def constructor(sdk: str, collector: Collecting, key: str) -> str:
    """The guide's lines that make a client of this SDK, with this key and address."""
    text = GUIDE.read_text().partition(f"### {sdk}\n")[2]
    found = re.search(r"```\w+\n(.*?)```", text, re.DOTALL)
    assert found, f"{GUIDE} does not show how to point {sdk} here"
    return (
        found[1]
        .replace("https://events.shop.example", collector.url)
        .replace("events.shop.example", collector.url.removeprefix("http://"))
        .replace('protocol: "https"', 'protocol: "http"')
        .replace("WRITE_KEY", key)
    )


def stored(home: Home) -> dict[str, dict[str, Any]]:
    """The events by message id; what came again came with the same content."""
    contents = defaultdict(set)
    events: dict[str, dict[str, Any]] = {}
    for event in landed(home, "events"):
        contents[event["message_id"]].add(event["content_hash"])
        for name in ("properties", "traits", "context"):
            event[name] = json.loads(event[name] or "{}")
        events.setdefault(event["message_id"], event)
    assert {len(hashes) for hashes in contents.values()} <= {1}
    return events


def count_stored(home: Home) -> int:
    """How many rows there are, repeats among them."""
    return len(landed(home, "events"))


def count_of(collector: Collecting, disposition: str) -> float:
    """How many events the collector says became this."""
    text = httpx.get(collector.admin_url + "/metrics").text
    numbers = re.findall(
        rf'^loomline_events_total\{{.*disposition="{disposition}".*\}} (\S+)$',
        text,
        re.MULTILINE,
    )
    return sum(map(float, numbers))


def wait_for_events(collector: Collecting, count: int) -> None:
    wait_until(lambda: count_of(collector, "admitted") >= count, timeout_s=60)
