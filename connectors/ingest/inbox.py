"""The inbox: segments of collectors, and files dropped into `inbox/<source>/`.

Both are landed and then deleted.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from connectors.errors import SourceError
from connectors.home import Home
from connectors.ingest.collected import land_segments
from connectors.ingest.importing import Imported, import_units, source_name
from connectors.landing.segments import pending_segments
from connectors.locks import exclusive
from connectors.sources.files import Unit, units

__all__ = ["SETTLE_S", "has_waiting", "land_inbox", "waiting_files"]

SETTLE_S = 1.0
"""Seconds a file must be unchanged before it is read."""


def land_inbox(
    home: Home,
    project: Path,
    *,
    on_progress: Callable[[Unit, int], None] | None = None,
    on_problem: Callable[[str], None] = lambda message: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Imported:
    """Land every segment, and every file in every source's folder.

    The folder's name is the source.
    Files still being written should end in `.part`: these are skipped. Others are
    landed once they have been unchanged for SETTLE_S. A file is deleted only if the
    manifest lists all of it and it has not changed since it was read; one that grew
    meanwhile stays for the next time, when its known rows become duplicates. Stopping
    at any point neither loses nor repeats anything.
    A file of unknown format stays; `on_problem` is called with a message.
    """
    total = Imported()
    with exclusive(home.inbox / ".lock"):
        total.add(land_segments(home, project))
        for folder in sorted(home.inbox.iterdir()):
            if not folder.is_dir() or folder.name[0] in "._":
                continue
            files = sorted(
                path
                for path in folder.rglob("*")
                if path.is_file() and path.suffix != ".part" and path.name[0] != "."
            )
            for group in _groups(files):
                states = _settled(group, sleep)
                try:
                    group_units = units(group)
                except SourceError as error:
                    on_problem(f"left in the inbox: {error}")
                    continue
                source = source_name(folder.name)
                total.add(
                    import_units(
                        home, project, group_units, source, on_progress=on_progress
                    )
                )
                # New segments need not wait for the next file.
                total.add(land_segments(home, project))
                for path, seen in zip(group, states, strict=True):
                    if _state(path) == seen:
                        path.unlink()
    return total


def has_waiting(home: Home) -> bool:
    """Return whether there is anything to land."""
    return any(True for _ in waiting_files(home))


def waiting_files(home: Home) -> Iterator[Path]:
    """Yield segments of collectors, and files dropped into the inbox."""
    yield from pending_segments(home)
    for path in home.inbox.glob("*/**/*"):
        if (
            path.is_file()
            and path.suffix != ".part"
            and path.name[0] != "."
            and path.relative_to(home.inbox).parts[0][0] not in "._"
        ):
            yield path


def _settled(group: list[Path], sleep: Callable[[float], None]) -> list[object]:
    """Return the files' states once they have been unchanged for a moment."""
    while True:
        states = [_state(path) for path in group]
        newest = max(path.stat().st_mtime for path in group)
        wait_s = newest + SETTLE_S - time.time()
        if not 0 < wait_s <= SETTLE_S:
            return states
        sleep(wait_s)


def _state(path: Path) -> object:
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _groups(files: list[Path]) -> list[list[Path]]:
    """Group the CSV tables of one folder; every other file is its own group."""
    tables: dict[Path, list[Path]] = {}
    groups = []
    for path in files:
        if path.name.endswith((".csv", ".csv.gz")):
            tables.setdefault(path.parent, []).append(path)
        else:
            groups.append([path])
    return groups + list(tables.values())
