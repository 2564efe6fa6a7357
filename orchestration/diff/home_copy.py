"""A copy of a home folder for as long as one command needs it."""

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
"""Share the blocks of a file until one side changes them; see ioctl_ficlone(2)."""


@contextmanager
def copied(home: Home, *, say: Say = lambda message: None) -> Iterator[Home]:
    """A home folder that holds what `home` holds now, and can be built in.

    `run.lock` is held while copying, not longer. Raw files are read where they are;
    the copy's manifest names those of this moment, whatever lands meanwhile. The copy
    is deleted at the end; what a killed process left is deleted by the next one.

    Raises:
        ConfigError: there is no warehouse yet.
        LoomlineError: there is no room, or no permission to write.
    """
    if not home.warehouse.exists():
        raise ConfigError(
            f"Nothing has been built in {home.path} yet: begin with `loomline run`."
        )
    waiting = "Waiting for another run to end: {}".format
    with ExitStack() as stack:
        with exclusive(home.run_lock, on_wait=lambda who: say(waiting(who))):
            _remove_leftovers(home)
            try:
                copy = Home(Path(mkdtemp(prefix=PREFIX, dir=home.path)))
                # Held for as long as we live: so others tell ours from a leftover.
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
        # The warehouse last: who closes a descriptor of a file gives up the process's
        # lock on it, and with it what keeps writers away.
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
    """A copy that takes no room nor time where the file system can share blocks."""
    with source.open("rb") as given, target.open("xb") as made:
        try:
            fcntl.ioctl(made.fileno(), FICLONE, given.fileno())
        except OSError:
            shutil.copyfile(source, target)


def _remove_leftovers(home: Home) -> None:
    """To be called under `run.lock`: a copy that is being made looks like one."""
    for folder in home.path.glob(f"{PREFIX}*"):
        if not is_held(folder / "run.lock"):
            shutil.rmtree(folder, ignore_errors=True)
