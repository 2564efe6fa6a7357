"""A collector for tests: the real command, in a process of its own, on a free port."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from connectors.events.policy import Policy
from connectors.home import Home
from connectors.ingest.inbox import land_inbox
from connectors.landing.manifest import Manifest
from connectors.landing.prepare import prepare
from connectors.sources.key_text import Kind
from connectors.sources.write_keys import KeyStore
from tests.support import PROJECT

__all__ = ["Collecting", "collecting", "landed", "make_key", "wait_until"]

COMMAND = [str(Path(sys.executable).parent / "loomline")]


@dataclass(frozen=True)
class Collecting:
    """A running collector."""

    url: str
    admin_url: str
    home: Home
    process: "subprocess.Popen[str]"

    def post(self, path: str, body: Any, **more: Any) -> httpx.Response:
        """POST JSON, or bytes as they are; headers and so on as httpx takes them."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return httpx.post(self.url + path, content=content, timeout=30, **more)

    def stop(self, number: int = signal.SIGTERM, *, timeout_s: float = 20) -> int:
        """Send the signal and wait for the end; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        """kill -9, to the parent and all its workers at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(text) for text in children.read_text().split()]


@contextmanager
def collecting(
    home: Home,
    *arguments: str,
    port: int = 0,
    admin_port: int | None = 0,
    project: Path = PROJECT,
    env: dict[str, str] | None = None,
    prefix: Sequence[str] = (),
) -> Iterator[Collecting]:
    """Start `loomline collect`, wait for its address, and stop it at the end.

    `prefix` runs it below another command (faketime, strace).
    """
    process = subprocess.Popen(
        [
            *(*prefix, *COMMAND, "collect", "--port", str(port)),
            *(() if admin_port is None else ("--admin-port", str(admin_port))),
            *arguments,
        ],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={
            **os.environ,
            "LOOMLINE_HOME": str(home.path),
            "LOOMLINE_PROJECT": str(project),
            **(env or {}),
        },
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("Collecting at "), line
        url = line.split()[-1]
        admin_url = process.stdout.readline().split()[-1]
        yield Collecting(url, admin_url, home, process)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)
        process.stdout.close()


def make_key(
    home: Home,
    value: str = "WK_TEST_1",
    *,
    name: str = "web",
    kind: Kind = "server",
    rate: float = 1e9,
    burst: int = 10**9,
    policy: Policy | None = None,
    **more: Any,
) -> str:
    """A write key that lets in as much as a test can send."""
    prepare(home)
    store = KeyStore(home)
    if kind != "admin":
        more |= {"rate": rate, "burst": burst}
    try:
        _, text = store.create(name, kind, value=value, policy=policy, **more)
    finally:
        store.close()
    return text


def landed(home: Home, stream: str) -> list[dict[str, Any]]:
    """Land what is accepted, and every row of a raw stream."""
    import pyarrow.parquet as pq

    land_inbox(home, PROJECT)
    return [
        row
        for file in Manifest(home).files()
        if file.stream == stream
        for row in pq.read_table(home.raw / file.path).to_pylist()
    ]


def wait_until(is_so: Any, timeout_s: float = 10) -> None:
    """Look again and again until it is so."""
    until = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < until, "it did not come to be so in time"
        time.sleep(0.02)
