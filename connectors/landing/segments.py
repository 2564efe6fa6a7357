"""Segments: the events a collector has accepted, on disk before it answers.

A segment is one file of one worker process in `inbox/_collector/`, with one JSON line
per request. While it is written it ends in `.part` and is locked; closed, it ends in
`.ndjson` and waits for landing. Landing has open segments closed (`close_open`), so
frequent landing makes small segments.
"""

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from connectors.events.decisions import AdmissionDecision
from connectors.home import Home
from connectors.landing.manifest import sync_folder

__all__ = [
    "CLOSED",
    "FOLDER",
    "NEW",
    "PART",
    "Record",
    "asked_at",
    "close_open",
    "closed_segments",
    "may_be_forgotten",
    "pending_segments",
    "records",
    "recover",
    "segments_folder",
]

FOLDER = "_collector"
"""Below the inbox; not a valid name of a source."""

NEW = ".new"  # not locked yet
PART = ".part"
CLOSED = ".ndjson"
_ABANDONED_S = 60.0
_ASK_S = 2.0  # how long landing waits for writers to close
_NAME = re.compile(r"\d{8}T\d{6}-[0-9a-f]{16}")  # not a valid name of a source
_ASKED = ".land"  # its modification time is the time of the request


class Record(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    """One line: a request's items and their decisions."""

    source: str
    scope: str
    channel: str
    received_at: int  # microseconds since 1970, UTC
    items: list[Any] = []  # None: withheld
    decisions: dict[int, AdmissionDecision] = {}  # by the item's index
    gpc: bool = False
    first_received_at: int | None = None
    refused: str | None = None  # why the body could not be decoded
    body: str | None = None  # the undecoded body


def segments_folder(home: Home) -> Path:
    return home.inbox / FOLDER


def close_open(
    folder: Path,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Have every non-empty segment closed, by its writer or, if that is dead, here.

    A writer that does not answer within two seconds keeps its segment for next time.
    """
    recover(folder)
    waited_for = {path for path in folder.glob(f"*{PART}") if _size(path)}
    if not waited_for:
        return
    question = folder / _ASKED
    question.touch()
    now = time.time_ns()
    os.utime(question, ns=(now, now))
    until = clock() + _ASK_S
    while clock() < until and any(path.exists() for path in waited_for):
        sleep(0.01)
    recover(folder)  # a writer may have died meanwhile


def pending_segments(home: Home) -> Iterator[Path]:
    """Yield the non-empty segments that wait for landing, closed and open ones."""
    folder = segments_folder(home)
    for end in (CLOSED, PART):
        yield from (path for path in folder.glob(f"*{end}") if _size(path))


def closed_segments(folder: Path) -> list[Path]:
    """Return the segments that can be landed, oldest first."""
    return sorted(folder.glob(f"*{CLOSED}"))


def may_be_forgotten(home: Home, name: str) -> bool:
    """Return whether a load's name is that of a segment which can never land again."""
    segment = segments_folder(home) / f"{name}{CLOSED}"
    return _NAME.fullmatch(name) is not None and not segment.exists()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # closed or landed meanwhile
        return 0


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0


def asked_at(folder: Path) -> int:
    """Return when landing last requested closing, in nanoseconds; 0 means never."""
    try:
        return (folder / _ASKED).stat().st_mtime_ns
    except OSError:
        return 0


def recover(folder: Path) -> int:
    """Close segments of dead writers, cut back to whole lines; return how many."""
    count = 0
    for path in folder.glob(f"*{NEW}"):  # empty; its writer died at that moment
        if _age_s(path) > _ABANDONED_S:
            path.unlink(missing_ok=True)
    for path in sorted(folder.glob(f"*{PART}")):
        try:
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # closed meanwhile
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue  # being written
        else:
            if not path.exists():
                continue  # closed, or recovered, between opening and locking it
            whole = _whole_bytes(file)
            os.ftruncate(file, whole)
            os.fsync(file)
            if whole:
                path.rename(path.with_suffix(CLOSED))
            else:
                path.unlink()
            sync_folder(folder)
            count += 1
        finally:
            os.close(file)
    return count


def _whole_bytes(file: int) -> int:
    """Return where the last valid record ends, reading only the end of the file."""
    end = os.fstat(file).st_size
    tail = b""
    while True:
        # `tail` begins at `end`; find the last whole line before it.
        start = max(end - (1 << 20), 0)
        tail = os.pread(file, end - start, start) + tail
        end = start
        stop = tail.rfind(b"\n") + 1
        while stop:
            begin = tail.rfind(b"\n", 0, stop - 1) + 1
            if begin == 0 and end > 0:
                break  # the line begins before the bytes read so far
            if _is_record(tail[begin : stop - 1]):
                return end + stop
            stop = begin
        if end == 0:
            return 0
        if not stop:
            tail = b""


def _is_record(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=Record)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


_decode = msgspec.json.Decoder(Record).decode


def records(path: Path) -> Iterator[Record | bytes]:
    """Yield a closed segment's records; a damaged line as its bytes."""
    with path.open("rb") as file:
        for line in file:
            try:
                yield _decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                yield line.rstrip(b"\n")
