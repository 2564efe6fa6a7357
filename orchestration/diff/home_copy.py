"""A temporary copy of a home folder, for one command."""

import fcntl
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import mkdtemp

from connectors.errors import ConfigError, LoomlineError
from connectors.home import Home
from connectors.landing.prepare import prepare
from connectors.locks import exclusive, is_held
from orchestration.pipeline.build_state import built_from
from orchestration.pipeline.dbt_runner import open_when_free

__all__ = ["copied"]

Say = Callable[[str], None]

PREFIX = ".diff-"

FICLONE = 0x40049409
"""Share a file's blocks until one side changes them; see ioctl_ficlone(2)."""


@contextmanager
def copied(home: Home, *, say: Say = lambda message: None) -> Iterator[Home]:
    """Yield a copy of `home` as it is now, for building in it.

    `run.lock` is held only while copying. Raw files are read in place; the copy's
    manifest lists those of this moment, whatever lands meanwhile. The copy is deleted
    at the end; the next call deletes the copies of killed processes.

    Raises:
        ConfigError: there is no warehouse yet.
        LoomlineError: there is no room, or no permission to write.
    """
    if not home.warehouse.exists():
        raise ConfigError(
            f"Nothing has been built in {home.path} yet. Run `loomline run` first."
        )
    waiting = "Waiting for another run to end: {}".format
    with ExitStack() as stack:
        with exclusive(home.run_lock, on_wait=lambda who: say(waiting(who))):
            _remove_leftovers(home)
            try:
                copy = Home(Path(mkdtemp(prefix=PREFIX, dir=home.path)))
                # Held until the end, which distinguishes it from a leftover.
                stack.enter_context(exclusive(copy.run_lock))
                stack.callback(shutil.rmtree, copy.path, ignore_errors=True)
                _copy(home, copy, say)
            except OSError as error:
                raise LoomlineError(
                    f"{home.path} cannot be copied beside itself: {error.strerror}."
                ) from error
        yield copy


def _copy(home: Home, copy: Home, say: Say) -> None:
    with open_when_free(home.warehouse, say, read_only=True):
        # The warehouse last: closing a descriptor of a file releases the process's
        # lock on it, which keeps writers out.
        for name in (f"{home.warehouse.name}.wal", home.warehouse.name):
            if (home.path / name).exists():
                _clone(home.path / name, copy.path / name)
    copy.control.touch(mode=0o600)
    if home.control.exists():
        with (
            closing(sqlite3.connect(home.control, timeout=30)) as source,
            closing(sqlite3.connect(copy.control)) as target,
        ):
            source.backup(target)
    if built_from(home).exists():
        built_from(copy).parent.mkdir()
        shutil.copyfile(built_from(home), built_from(copy))
    copy.raw.mkdir()
    for folder in home.raw.iterdir():
        if folder.is_dir() and folder.name != "schema":
            (copy.raw / folder.name).symlink_to(folder)
    if home.loads.exists():
        shutil.copyfile(home.loads, copy.loads)
    prepare(copy)


def _clone(source: Path, target: Path) -> None:
    """Clone a file at no cost if the file system can share blocks, else copy it."""
    with source.open("rb") as original, target.open("xb") as clone:
        try:
            fcntl.ioctl(clone.fileno(), FICLONE, original.fileno())
        except OSError:
            shutil.copyfile(source, target)


def _remove_leftovers(home: Home) -> None:
    """Delete copies of dead processes; call it under `run.lock` only."""
    for folder in home.path.glob(f"{PREFIX}*"):
        if not is_held(folder / "run.lock"):
            shutil.rmtree(folder, ignore_errors=True)
