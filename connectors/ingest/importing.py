"""Imports files: reads chunks, admits them on every core, lands each by name."""

import gc
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import wraps
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import ParamSpec, TypeVar

from connectors.errors import LandingError
from connectors.events.admission import Admission
from connectors.events.event_builder import Origin
from connectors.events.identifiers import IdentifierRules
from connectors.events.rows import Admitted
from connectors.events.rulebook import Rulebook
from connectors.home import Home
from connectors.landing.manifest import LoadedFile, Manifest
from connectors.landing.streams import tables
from connectors.landing.writer import write_files
from connectors.sources.files import Broken, Chunk, Unit, chunks, rows
from connectors.sources.layouts import layouts

__all__ = [
    "IMPORTED",
    "Imported",
    "import_units",
    "load_name",
    "source_name",
    "without_collecting",
]

IMPORTED = "file"
"""The channel of items from files."""

COMMIT_INTERVAL_S = 0.5
"""Finished chunks wait this long for others before the manifest is rewritten."""


@dataclass(slots=True)
class Imported:
    """What an import added; items and files that landed before are not counted."""

    received: int = 0
    dispositions: Counter[str] = field(default_factory=Counter)
    files: int = 0  # units with at least one new chunk
    files_known: int = 0  # units that had landed completely before
    files_empty: int = 0  # units without rows

    def add(self, other: "Imported") -> None:
        self.received += other.received
        self.dispositions += other.dispositions
        self.files += other.files
        self.files_known += other.files_known
        self.files_empty += other.files_empty


@dataclass(frozen=True, slots=True)
class _Job:
    chunk: Chunk
    name: str
    origin: Origin
    home: Path
    # The part of the file the worker reads itself. Sending it costs both sides as much
    # as reading the file (3 µs of 40 an event).
    span: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class _Done:
    files: list[LoadedFile]
    received: int
    dispositions: Counter[str]


def source_name(text: str) -> str:
    """Derive a source's name from a file or folder name: `My Export.zip` → `my_export`.

    Source names become folders and load names, so only letters, digits, `_`, `-`.
    """
    stem = text.split(".", 1)[0] if not text.startswith(".") else text
    return re.sub(r"[^a-z0-9_-]+", "_", stem.lower()).strip("_") or "import"


def load_name(source: str, unit: Unit, index: int) -> str:
    """Return the name a unit's chunk lands under: same content, same name."""
    digest = sha256(f"{source}\0{unit.sha256}".encode()).hexdigest()[:32]
    return f"{source}-{digest}-{index:06d}"


def import_units(
    home: Home,
    project: Path,
    units: Iterable[Unit],
    source: str,
    *,
    workers: int | None = None,
    on_progress: Callable[[Unit, int], None] | None = None,
) -> Imported:
    """Land every unit that has not landed before; safe to stop and to repeat.

    `on_progress` is called with the unit and how many of its bytes were read so far.
    Memory is bounded by the chunks in flight, two per worker, whatever the files' size.

    Raises:
        LandingError: a worker process was killed; importing again resumes.
    """
    units = list(units)
    workers = workers or os.cpu_count() or 1
    known = Manifest(home).names()
    total = Imported()
    jobs = _jobs(home, units, source, known, total, on_progress)
    if workers == 1 or sum(unit.size_bytes for unit in units) < 1 << 20:
        _start_worker(project)
        done: Iterator[_Done] = map(_admit_chunk, jobs)
    else:
        done = _in_processes(jobs, project, workers)
    manifest = Manifest(home)
    ready: list[list[LoadedFile]] = []
    committed_at = time.monotonic()
    for result in done:
        ready.append(result.files)
        total.received += result.received
        total.dispositions += result.dispositions
        if time.monotonic() - committed_at > COMMIT_INTERVAL_S:
            manifest.extend(ready)
            ready, committed_at = [], time.monotonic()
    if ready:
        manifest.extend(ready)
    return total


def _jobs(
    home: Home,
    units: list[Unit],
    source: str,
    known: set[str],
    total: Imported,
    on_progress: Callable[[Unit, int], None] | None,
) -> Iterator[_Job]:
    for unit in units:
        origin = Origin(
            source=source,
            scope=source,
            channel=IMPORTED,
            segment=unit.label,
            received_at=time.time_ns() // 1000,
            keeps_received_at=True,
            seed=unit.sha256,
        )
        is_new, is_empty = False, True
        start = _start_of_lines(unit)
        for chunk in chunks(unit):
            is_empty = False
            name = load_name(source, unit, chunk.index)
            if chunk.error is not None:
                start = None  # unknown from here: the chunk lacks the skipped bytes
            span = None if start is None else (start, len(chunk.data))
            if name not in known:
                known.add(name)
                is_new = True
                sent = chunk if span is None else replace(chunk, data=b"")
                yield _Job(sent, name, origin, home.path, span)
            if span is not None:
                start = sum(span)
            if on_progress is not None:
                on_progress(unit, chunk.consumed_bytes)
        total.files += is_new
        total.files_known += not is_new and not is_empty
        total.files_empty += is_empty


def _start_of_lines(unit: Unit) -> int | None:
    """Return where the lines of an uncompressed text file begin; None for others."""
    layout = layouts().get(unit.format)
    if unit.member is not None or (layout and layout.read):
        return None
    with open(unit.files[0], "rb") as file:
        head = file.read(3)
    if head.startswith((b"\x1f\x8b", b"PK")):
        return None
    return 3 if head == b"\xef\xbb\xbf" else 0


def _in_processes(jobs: Iterator[_Job], project: Path, workers: int) -> Iterator[_Done]:
    # Not forked: the caller may have threads (progress bar, DuckDB).
    pool = ProcessPoolExecutor(
        workers,
        mp_context=get_context("forkserver"),
        initializer=_start_worker,
        initargs=(project,),
    )
    with pool:
        under_way: set[Future[_Done]] = set()
        try:
            for job in jobs:
                under_way.add(pool.submit(_admit_chunk, job))
                if len(under_way) >= 2 * workers:
                    finished, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                    for future in finished:
                        yield future.result()
            while under_way:
                finished, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield future.result()
        except BrokenProcessPool as error:
            raise LandingError(
                "A worker process was killed, most likely because memory ran out. "
                "Landed data is safe; import the same files again to resume."
            ) from error
        finally:
            for future in under_way:
                future.cancel()


_admission: Admission


def _start_worker(project: Path) -> None:
    global _admission
    _admission = Admission(IdentifierRules.load(project), Rulebook.load(project))


_Args = ParamSpec("_Args")
_Result = TypeVar("_Result")


def without_collecting(work: Callable[_Args, _Result]) -> Callable[_Args, _Result]:
    """Disable garbage collection for work without cycles, where it costs a fifth."""

    @wraps(work)
    def worked(*args: _Args.args, **kwargs: _Args.kwargs) -> _Result:
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            return work(*args, **kwargs)
        finally:
            if was_enabled:
                gc.enable()

    return worked


@without_collecting
def _admit_chunk(job: _Job) -> _Done:
    chunk, origin = job.chunk, job.origin
    if job.span is not None:
        start, size = job.span
        with open(chunk.unit.files[0], "rb") as file:
            file.seek(start)
            chunk = replace(chunk, data=file.read(size))
    out = Admitted()
    for line, row in rows(chunk):
        if type(row) is bytes:
            _admission.admit_bytes(row, origin, out, line=line)
        elif isinstance(row, Broken):
            _admission.refuse(row.payload, row.reason, origin, out, line=line)
        else:
            _admission.admit(row, origin, out, line=line)
    streams = tables(out)
    day = datetime.fromtimestamp(origin.received_at / 1e6, UTC).strftime("%Y-%m-%d")
    return _Done(
        write_files(Home(job.home), job.name, streams, day=day),
        out.received.total(),
        Counter(row.disposition for row in out.dispositions),
    )
