"""Lands continuously: accepted events reach the raw streams within about a second."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from connectors.errors import LoomlineError
from connectors.home import Home
from connectors.ingest.importing import Imported
from connectors.ingest.inbox import has_waiting, land_inbox
from connectors.landing.compaction import compact, sweep

__all__ = ["watch"]

PAUSE_S = 0.4
"""Pause between two landings; each adds one file per stream, merged every minute."""

COMPACT_EVERY_S = 60.0

GRACE_S = 86_400.0
"""How long replaced files are kept while only landing runs: the warehouse's views name
them until the next run recreates the views."""


def watch(
    home: Home,
    project: Path,
    stop: threading.Event,
    *,
    on_landed: Callable[[Imported], None] = lambda landed: None,
    on_problem: Callable[[str], None] = lambda message: None,
) -> None:
    """Land incoming data until `stop` is set, and compact the files.

    Failures (a full disk, a file being edited) are reported and retried; nothing is
    lost meanwhile.
    """
    compacting: Future[None] | None = None
    compacted_at = 0.0
    reported: set[str] = set()

    def report_once(message: str) -> None:
        if message not in reported:
            reported.add(message)
            on_problem(message)

    with ThreadPoolExecutor(1) as pool:
        while True:
            is_last = stop.is_set()
            try:
                if has_waiting(home):
                    on_landed(land_inbox(home, project, on_problem=report_once))
                if compacting is not None and compacting.done():
                    compacting.result()
                    compacting = None
                reported.clear()
            except Exception as error:  # noqa: BLE001 - keep running
                compacting = None
                # Messages of other libraries may quote payloads.
                is_safe = isinstance(error, OSError | LoomlineError)
                what = str(error) if is_safe else type(error).__name__
                report_once(f"Landing failed and will be retried: {what}")
            now = time.monotonic()
            if compacting is None and now - compacted_at >= COMPACT_EVERY_S:
                compacted_at = now
                compacting = pool.submit(_tidy, home)
            if is_last:
                return
            stop.wait(PAUSE_S)


def _tidy(home: Home) -> None:
    compact(home, threads=1)
    sweep(home, grace_s=GRACE_S)
