"""Runs several commands together until one ends or all are stopped."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

__all__ = ["run_together"]

LOOK_S = 0.5


def run_together(
    commands: Sequence[Sequence[str]],
    folder: Path,
    stop: threading.Event,
    *,
    limit_s: float,
) -> list[int]:
    """Run the commands until `stop` is set or one ends; return their exit codes.

    Each command ends its own children. After `limit_s`, the rest is killed.
    """
    children: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands:
            child = subprocess.Popen(command, cwd=folder, start_new_session=True)
            children.append(child)
        while not stop.wait(LOOK_S) and all(c.poll() is None for c in children):
            pass
    finally:
        _end(children, limit_s)
    return [child.returncode for child in children]


def _end(children: Sequence["subprocess.Popen[bytes]"], limit_s: float) -> None:
    # Not the group: Dagster's parent process stops its own children.
    for child in children:
        child.terminate()
    deadline = time.monotonic() + limit_s
    for child in children:
        with suppress(subprocess.TimeoutExpired):
            child.wait(max(0, deadline - time.monotonic()))
    for child in children:
        # The group can outlive its leader.
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
