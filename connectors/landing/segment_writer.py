"""Writes segments: a line counts once it is synced and the file has its size.

One sync serves every waiting request (group commit). A write or sync that fails, or
that reports more than it did, acknowledges nothing, and its file is never written to
again: Linux forgets a failed write-back, so a second sync of the same file would report
success (wiki.postgresql.org, "Fsync Errors").
"""

import errno
import fcntl
import os
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from connectors.landing.manifest import sync_folder
from connectors.landing.segments import CLOSED, NEW, PART, asked_at

__all__ = ["MAX_AGE_S", "MAX_BYTES", "SegmentWriter"]

MAX_AGE_S = 60.0
"""A segment is closed when its first line is this old, even if landing did not ask."""

MAX_BYTES = 16 << 20
_LOOK_S = 0.05  # how often a writer checks whether it should close
_STUCK_S = 10.0  # a sync that takes longer counts as failed
_PROBE_S = 0.5  # how often a failed disk is tested
_SLOW_SYNC_S = 0.05
_TRIAL_BYTES = 64 << 10  # what a failed disk must store to count as recovered

Token = Any
"""Identifies a line to the caller."""


class SegmentWriter:
    """Appends lines to segments in a separate thread; one writer per worker process.

    `on_commit` is called there with the tokens of the lines of one sync and None, or
    with the error: then the lines do not count. `error` is the disk's current error,
    or None.
    """

    def __init__(
        self,
        folder: Path,
        on_commit: Callable[[list[Token], OSError | None], None],
        *,
        max_age_s: float = MAX_AGE_S,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._error: str | None = "no segment is open yet"
        self._busy_since: float | None = None  # monotonic, of the current commit
        self.count_syncs = 0
        self.count_failures = 0
        self._folder = folder
        self._on_commit = on_commit
        self._max_age_s = max_age_s
        self._max_bytes = max_bytes
        self._queue: SimpleQueue[tuple[bytes, int, Token] | None] = SimpleQueue()
        self._segment: _Open | None = None
        self._latest = 0  # received_at of the last line
        self._answered = 0  # the last request to close that was answered
        self._looked_at = 0.0  # monotonic
        self._sync_s = 0.0  # how long the last write and sync took
        self._thread = threading.Thread(target=self._run, name="commit", daemon=True)

    @property
    def error(self) -> str | None:
        busy_since = self._busy_since
        if busy_since is not None and time.monotonic() - busy_since > _STUCK_S:
            return "the disk does not answer"
        return self._error

    def start(self) -> None:
        self._try(self._opened)
        self._thread.start()

    def append(self, line: bytes, received_at: int, token: Token) -> None:
        """Queue one line, without its line break."""
        self._queue.put((line, received_at, token))

    def close(self) -> None:
        """Write what is queued, close the segment, end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            waiting = self._next()
            if waiting is None:
                break
            if waiting:
                self._commit(waiting)
            elif self._error is not None:
                self._try(self._opened)  # has the disk recovered?
            if self._segment is not None and self._is_due(self._segment):
                self._try(self._rotate)
        if self._segment is not None:
            self._try(self._segment.close)

    def _next(self) -> list[tuple[bytes, int, Token]] | None:
        """Return everything queued, at least one line; empty after a pause."""
        waiting = []
        try:
            entry = self._queue.get(timeout=self._pause_s())
            if self._sync_s > _SLOW_SYNC_S:
                # The senders of the last sync are about to send again: waiting for
                # them doubles the lines of this one, which halves the average wait.
                time.sleep(min(self._sync_s / 4, 0.1))
            while entry is not None:
                waiting.append(entry)
                entry = self._queue.get_nowait()
        except Empty:
            return waiting
        if waiting:
            self._queue.put(None)  # return these first, then end
            return waiting
        return None

    def _pause_s(self) -> float:
        if self._segment is None:
            return _PROBE_S
        return 60.0 if self._segment.began_at is None else _LOOK_S

    def _is_due(self, segment: "_Open") -> bool:
        now = time.monotonic()
        if segment.began_at is None or now - self._looked_at < _LOOK_S:
            return False
        self._looked_at = now
        asked, self._answered = self._answered, asked_at(self._folder)
        return (
            asked != self._answered
            or segment.size >= self._max_bytes
            or now - segment.began_at >= self._max_age_s
        )

    def _commit(self, waiting: list[tuple[bytes, int, Token]]) -> None:
        # Within a segment time only moves forward; a clock set back begins a new one.
        earliest = min(received_at for _, received_at, _ in waiting)
        error = None
        self._busy_since = time.monotonic()
        try:
            if earliest < self._latest - 1_000_000:
                self._rotate()
            segment = self._opened()
            began_at = time.monotonic()
            segment.append(b"\n".join([*(line for line, _, _ in waiting), b""]))
            self._sync_s = time.monotonic() - began_at
            self._error = None
        except Exception as problem:  # noqa: BLE001 - the requests must get an answer
            error = problem if isinstance(problem, OSError) else OSError(str(problem))
            self._abandon(error)
        self._busy_since = None
        self._latest = max(received_at for _, received_at, _ in waiting)
        self.count_syncs += 1
        self._on_commit([token for _, _, token in waiting], error)

    def _opened(self) -> "_Open":
        if self._segment is None:
            self._segment = _Open(self._folder)
            if self._error is not None:
                self._segment.prove()
            self._error = None
        return self._segment

    def _rotate(self) -> None:
        segment, self._segment = self._segment, None
        if segment is not None:
            segment.close()
        self._opened()

    def _try(self, action: Callable[[], object]) -> None:
        try:
            action()
        except OSError as problem:
            self._abandon(problem)

    def _abandon(self, problem: OSError) -> None:
        self._error = os.strerror(problem.errno) if problem.errno else str(problem)
        self.count_failures += 1
        segment, self._segment = self._segment, None
        if segment is not None:
            segment.withdraw()


class _Open:
    """A segment being written."""

    def __init__(self, folder: Path) -> None:
        if not folder.exists():
            folder.mkdir()  # without parents: a deleted home stays deleted
            sync_folder(folder.parent)
        name = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(8)}"
        self.path = folder / f"{name}{PART}"
        self.size = 0  # of the synced part
        self.began_at: float | None = None  # monotonic, of the first line
        # Under another name until it is locked: `recover` takes unlocked segments.
        unlocked = self.path.with_suffix(NEW)
        self._file = os.open(
            unlocked, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            unlocked.rename(self.path)
            sync_folder(folder)
        except OSError:
            os.close(self._file)
            raise

    def append(self, data: bytes) -> None:
        """Write and sync.

        Raises:
            OSError: it is unknown how much is on disk; `withdraw` must follow.
        """
        if self.began_at is None:
            self.began_at = time.monotonic()
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._file, rest) :]
        os.fdatasync(self._file)
        self._check(self.size + len(data))
        self.size += len(data)

    def prove(self) -> None:
        """Write and sync temporary data: an empty file proves nothing.

        Raises:
            OSError: the disk is still full, or failing.
        """
        if os.write(self._file, bytes(_TRIAL_BYTES)) < _TRIAL_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fdatasync(self._file)
        self._check(_TRIAL_BYTES)
        os.ftruncate(self._file, 0)
        os.lseek(self._file, 0, os.SEEK_SET)

    def _check(self, size: int) -> None:
        """Compare the file with what was written: successful calls prove little.

        Raises:
            OSError: the file was deleted, or does not have this size.
        """
        status = os.fstat(self._file)
        if status.st_nlink == 0:
            raise OSError("the segment was deleted")
        if status.st_size != size:
            raise OSError("the disk reported more bytes than it wrote")

    def close(self) -> None:
        """Hand the segment over to landing; delete it if it has no line."""
        try:
            if self.size == 0:
                self.path.unlink(missing_ok=True)
            else:
                self.path.rename(self.path.with_suffix(CLOSED))
                sync_folder(self.path.parent)
        finally:
            os.close(self._file)

    def withdraw(self) -> None:
        """Give up after a failure: keep the synced part and nothing else."""
        try:
            os.ftruncate(self._file, self.size)
        except OSError:
            os.close(self._file)  # `recover` truncates the torn part later
            return
        with suppress(OSError):
            self.close()
