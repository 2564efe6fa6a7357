"""A signal ends what watches, at whatever instruction it arrives."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

INTERRUPTED = """
import os, signal
from orchestration.cli.app import _stopped
stop = _stopped()
with stop._cond:  # as `stop.wait` has it for a moment, before and after it sleeps
    os.kill(os.getpid(), signal.SIGTERM)
    for _ in range(1000):
        pass  # the handler runs between two instructions
print(stop.wait(10))
"""


def test_a_signal_that_interrupts_the_wait_for_it_ends_the_wait() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "True\n", done.stderr


TOGETHER = """
import sys
from pathlib import Path
from orchestration.cli.app import _stopped
from orchestration.cli.processes import run_together
stop = _stopped()
run_together([[sys.executable, "-c", sys.argv[1]]], Path("."), stop, limit_s=2)
"""
# SIGTERM as Dagster's processes take it: by whatever handles SIGINT.
LIKE_DAGSTER = """
import signal, time
signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
try:
    print("up", flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    print("ended", flush=True)
"""
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
below = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(os.getpid(), below.pid, flush=True)
time.sleep(600)
"""


def together(child: str) -> "subprocess.Popen[str]":
    """Started as a shell starts what is to run in the background."""
    return subprocess.Popen(
        [sys.executable, "-c", TOGETHER, child],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_dagster_ends_when_asked_though_started_in_the_background(
    number: signal.Signals,
) -> None:
    with together(LIKE_DAGSTER) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(number)
        assert process.wait(60) == 0
        assert process.stdout.readline() == "ended\n"


def test_what_does_not_end_is_killed_with_what_it_started() -> None:
    with together(STUBBORN) as process:
        assert process.stdout is not None
        children = [int(pid) for pid in process.stdout.readline().split()]
        process.terminate()
        assert process.wait(60) == 0
    assert all(map(is_dead, children))


DEV = """
import sys
from orchestration.cli.app import dev
sys.executable = sys.argv[1]  # the commands are those beside it
dev()
"""
COMMAND = "#!/bin/sh\necho up\nexec sleep 120\n"

Dev = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Dev]:
    """Starts `loomline dev` on an empty project, with commands that only wait."""
    (tmp_path / "dbt_project.yml").touch()
    for name in ("loomline", "dg"):
        (tmp_path / name).write_text(COMMAND)
        (tmp_path / name).chmod(0o755)

    processes = []

    def start(hangup: signal.Handlers = signal.SIG_DFL) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", DEV, str(tmp_path / "python")],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, hangup),
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.terminate()
        process.communicate(timeout=150)  # when the commands end by themselves


def wait_for_children(process: "subprocess.Popen[str]") -> None:
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(4)] == ["up\n"] * 4


# `communicate` returns when no child holds the other end of the pipe any more.


def test_what_dev_has_started_ends_with_the_terminal(dev: Dev) -> None:
    process = dev()
    wait_for_children(process)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_dev_outlives_the_terminal_under_nohup(dev: Dev) -> None:
    process = dev(hangup=signal.SIG_IGN)
    wait_for_children(process)
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(2)


def test_what_dev_has_started_ends_if_a_command_is_missing(
    dev: Dev, tmp_path: Path
) -> None:
    (tmp_path / "dg").unlink()
    process = dev()
    process.communicate(timeout=60)
    assert process.returncode == 1


def is_dead(pid: int) -> bool:
    """Return whether it has ended, reaped by its parent or not."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
