"""The manifest: which files make up the raw streams, in the order they landed.

`raw/loads.ndjson` holds one line per file. It is only replaced as a whole, by a rename,
so readers see all files of a load or none, and need no lock.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from connectors.home import Home
from connectors.locks import exclusive

__all__ = ["LoadedFile", "Manifest", "replace_file", "sync_folder"]


class LoadedFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of one stream. Files of one load share `load_seq` and appear together.

    A compacted file covers several loads: it has a `load_seq` column, the highest value
    here, and the names of all loads it covers.
    """

    load_seq: int
    stream: str
    path: str  # below `raw/`
    rows: int
    sha256: str
    names: tuple[str, ...]
    landed_at: float  # seconds since 1970
    tier: str = "load"  # load | minute | hour | day


class Manifest:
    """Reads and extends the manifest of one home folder."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._path = home.loads

    def files(self) -> list[LoadedFile]:
        """Return every file of every stream, ordered by `load_seq`."""
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        return [msgspec.json.decode(line, type=LoadedFile) for line in lines]

    def names(self) -> set[str]:
        """Return the names of everything that has landed."""
        return {name for file in self.files() for name in file.names}

    def newest(self) -> int:
        """Return the last load's `load_seq`; 0 if nothing has landed."""
        return max((file.load_seq for file in self.files()), default=0)

    def extend(self, loads: Iterable[list[LoadedFile]]) -> int:
        """Add loads, each with the next `load_seq`; known names are skipped.

        Returns how many loads were new. The files' own `load_seq` is ignored.
        """
        with self.rewriting() as (files, write):
            known = {name for file in files for name in file.names}
            load_seq = max((file.load_seq for file in files), default=0)
            new = 0
            for load in loads:
                if not load or load[0].names[0] in known:
                    continue
                load_seq += 1
                new += 1
                known.update(load[0].names)
                files += [
                    msgspec.structs.replace(file, load_seq=load_seq) for file in load
                ]
            if new:
                write(files)
        return new

    @contextmanager
    def rewriting(
        self,
    ) -> Iterator[tuple[list[LoadedFile], Callable[[list[LoadedFile]], None]]]:
        """Yield the files, and a function that replaces them, under the lock."""
        with exclusive(self._path.with_suffix(".lock")):
            yield self.files(), self._write

    def _write(self, files: list[LoadedFile]) -> None:
        ordered = sorted(files, key=lambda file: (file.load_seq, file.stream))
        replace_file(self._path, msgspec.json.Encoder().encode_lines(ordered))


def replace_file(path: Path, data: bytes) -> None:
    """Replace the file's content atomically; it is on disk on return."""
    new = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    for folder in new:
        sync_folder(folder.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and new names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
