"""Lands closed segments: builds the rows of what the collector has decided."""

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import msgspec

from connectors.errors import LandingError
from connectors.events.admission import Admission
from connectors.events.event_builder import Origin
from connectors.events.identifiers import IdentifierRules
from connectors.events.rows import Admitted
from connectors.home import Home
from connectors.ingest.importing import Imported, without_collecting
from connectors.landing.manifest import LoadedFile, Manifest, sync_folder
from connectors.landing.segments import (
    Record,
    close_open,
    closed_segments,
    records,
    segments_folder,
)
from connectors.landing.streams import tables
from connectors.landing.writer import write_files

__all__ = ["land_segments"]

GROUP_BYTES = 16 << 20
"""Segments of this size together become one load: some 20,000 events of 1 KB."""


class _Job(NamedTuple):
    home: Path
    project: Path
    segments: tuple[Path, ...]


class _Done(NamedTuple):
    files: list[LoadedFile]
    received: int
    dispositions: Counter[str]


def land_segments(home: Home, project: Path) -> Imported:
    """Land what collectors have accepted so far; safe to stop and to repeat.

    The caller holds the inbox lock. A segment is deleted once the manifest lists it.

    Raises:
        LandingError: a worker process was killed; landing again resumes.
    """
    folder = segments_folder(home)
    total = Imported()
    if not folder.exists():
        return total
    close_open(folder)
    manifest = Manifest(home)
    waiting = closed_segments(folder)
    known = manifest.names() if waiting else set()
    for path in waiting:
        if path.stem in known:  # landed, but the process died before deleting it
            path.unlink()
    jobs = [
        _Job(home.path, project, group)
        for group in _groups([path for path in waiting if path.stem not in known])
    ]
    for job, done in zip(jobs, _done(jobs), strict=True):
        manifest.extend([done.files])
        for path in job.segments:
            path.unlink()
        sync_folder(folder)  # make deletions durable before compaction drops the names
        total.received += done.received
        total.dispositions += done.dispositions
        total.files += len(job.segments)
    return total


def _groups(paths: list[Path]) -> Iterator[tuple[Path, ...]]:
    group: list[Path] = []
    size = 0
    for path in paths:
        group.append(path)
        size += path.stat().st_size
        if size >= GROUP_BYTES:
            yield tuple(group)
            group, size = [], 0
    if group:
        yield tuple(group)


def _done(jobs: list[_Job]) -> Iterator[_Done]:
    if len(jobs) < 2:  # starting processes takes longer
        yield from map(_rows_of, jobs)
        return
    context = get_context("forkserver")
    try:
        with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as pool:
            yield from pool.map(_rows_of, jobs)
    except BrokenProcessPool as error:
        raise LandingError(
            "A worker process was killed, most likely because memory ran out. Landed "
            "data is safe; run landing again to resume."
        ) from error


@without_collecting
def _rows_of(job: _Job) -> _Done:
    admission = Admission(IdentifierRules.load(job.project))
    out = Admitted()
    for path in job.segments:
        for record in records(path):
            if isinstance(record, bytes):
                admission.refuse(record, "segment_damaged", _damaged(path), out)
                continue
            own = Admitted()
            try:
                _keep(admission, record, path.stem, own)
            except Exception:  # noqa: BLE001 - one bad line must not block the others
                line = msgspec.json.encode(record)
                admission.refuse(line, "segment_damaged", _damaged(path), out)
            else:
                out.add(own)
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    names = tuple(path.stem for path in job.segments)
    files = write_files(Home(job.home), names[0], tables(out), day=day, names=names)
    dispositions: Counter[str] = Counter(row.disposition for row in out.dispositions)
    return _Done(files, out.received.total(), dispositions)


def _damaged(path: Path) -> Origin:
    """Return the origin of a line too damaged to name its own."""
    arrived = int(path.stat().st_mtime * 1e6)
    return Origin(
        "collector", "collector", "http", path.stem, arrived, keeps_received_at=False
    )


def _keep(admission: Admission, record: Record, segment: str, out: Admitted) -> None:
    origin = Origin(
        record.source,
        record.scope,
        record.channel,
        segment,
        record.received_at,
        keeps_received_at=False,
        gpc=record.gpc,
        first_received_at=record.first_received_at,
    )
    if record.refused is not None:
        body = (record.body or "").encode()
        admission.refuse(body, record.refused, origin, out)
    decisions = record.decisions
    for index, item in enumerate(record.items):
        admission.build_rows(item, decisions.get(index), origin, out)
