"""Stops an action at every step it takes on disk: killed there, or paused for another.

`python -m tests.support.steps HOME PROJECT ACTION [OTHER]` copies HOME to `HOME-001`,
`HOME-002`, … and runs the action on each in a process of its own: killed (SIGKILL) at
its first, second, … step until one ends by itself. With another action it is paused
there instead, while a second process does the other one on the same home, and goes on
when that has ended or waits. Prints how many homes were made.

A step is the start of a call that writes, renames, removes or syncs a file, and the
middle of each write. What is killed keeps nothing it has not written, as with kill -9;
nothing here tells of a power cut.
"""

import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from connectors.home import Home
from connectors.ingest.importing import import_units
from connectors.ingest.inbox import land_inbox
from connectors.landing.compaction import READER_GRACE_S, compact, sweep
from connectors.landing.prepare import prepare
from connectors.sources.files import units

WAIT_S = 0.3
"""After this time a second process is taken to wait for the first one."""


def _later() -> float:
    return time.time() + 2 * READER_GRACE_S


Action = Callable[[Home, Path], object]

ACTIONS: dict[str, Action] = {
    "prepare": lambda home, project: prepare(home),
    "import": lambda home, project: import_units(
        home, project, units([home.path / "given"]), "app", workers=1
    ),
    "inbox": lambda home, project: land_inbox(home, project),
    "compact": lambda home, project: compact(home, threads=1),
    "compact and sweep": lambda home, project: (
        compact(home, threads=1),
        sweep(home, clock=_later),
    ),
}


class _Half:
    """A file that takes a step in the middle of each write."""

    def __init__(self, file: IO[bytes], step: Callable[[], None]) -> None:
        self._file = file
        self._step = step

    def write(self, data: bytes) -> int:
        self._file.write(data[: len(data) // 2])
        self._file.flush()
        self._step()
        return self._file.write(data[len(data) // 2 :])

    def __enter__(self) -> "_Half":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _count_steps(stop: signal.Signals, at: int) -> None:
    """From now on this process counts its steps, and stops itself at one of them."""
    left = at

    def step() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), stop)

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def first_a_step(*args: Any, **kwargs: Any) -> Any:
            step()
            return call(*args, **kwargs)

        return first_a_step

    open_file = Path.open

    def open_in_steps(
        path: Path, mode: str = "r", *args: Any, **kwargs: Any
    ) -> AbstractContextManager[Any]:
        if "w" not in mode:
            return open_file(path, mode, *args, **kwargs)
        step()
        return _Half(open_file(path, mode, *args, **kwargs), step)

    for owner, name in (
        (os, "fsync"),
        (os, "utime"),
        (Path, "replace"),
        (Path, "unlink"),
    ):
        setattr(owner, name, counted(getattr(owner, name)))
    setattr(Path, "open", open_in_steps)  # noqa: B010 - not for the type checker


def _fork(
    action: Action, home: Home, project: Path, stop: signal.Signals, at: int
) -> int:
    process = os.fork()
    if process == 0:
        try:
            _count_steps(stop, at)
            action(home, project)
            os._exit(0)
        finally:  # never back into the parent's code
            traceback.print_exc()
            os._exit(1)
    return process


def main(origin: Path, project: Path, action: Action, other: Action | None) -> int:
    for number in range(1, 1000):
        home = Home(origin.with_name(f"{origin.name}-{number:03}"))
        shutil.copytree(origin, home.path)
        if other is None:
            process = _fork(action, home, project, signal.SIGKILL, number)
            _, status = os.waitpid(process, 0)
            is_done = os.WIFEXITED(status)
        else:
            process = _fork(action, home, project, signal.SIGSTOP, number)
            _, status = os.waitpid(process, os.WUNTRACED)
            is_done = os.WIFEXITED(status)
            if not is_done:
                second = _fork(other, home, project, signal.SIGSTOP, 0)
                deadline = time.monotonic() + WAIT_S
                ended = 0
                while not ended and time.monotonic() < deadline:
                    time.sleep(0.01)
                    ended, result = os.waitpid(second, os.WNOHANG)
                os.kill(process, signal.SIGCONT)
                _, status = os.waitpid(process, 0)
                if not ended:
                    _, result = os.waitpid(second, 0)
                if status or result:
                    raise SystemExit(f"step {number}: exit {status}, {result}")
        if is_done:
            if os.WEXITSTATUS(status):
                raise SystemExit(f"step {number}: exit {os.WEXITSTATUS(status)}")
            return number
    raise SystemExit("more than a thousand steps")


if __name__ == "__main__":
    home, project, first, *more = sys.argv[1:]
    second = ACTIONS[more[0]] if more else None
    print(main(Path(home), Path(project), ACTIONS[first], second))
