"""Landing without end: what is accepted is in the raw streams within a second or so."""

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
"""Between two landings; each makes a file a stream, later part of one a minute."""

COMPACT_EVERY_S = 60.0

GRACE_S = 86_400.0
"""How long replaced files stay where nothing but landing runs: the warehouse's views
name them until the next run makes the views anew."""


def watch(
    home: Home,
    project: Path,
    stop: threading.Event,
    *,
    on_landed: Callable[[Imported], None] = lambda landed: None,
    on_problem: Callable[[str], None] = lambda message: None,
) -> None:
    """Land whatever arrives until `stop` is set, and keep the files few.

    Whatever fails (a disk, a file somebody is editing) is reported and tried again;
    nothing is lost meanwhile.
    """
    compacting: Future[None] | None = None
    compacted_at = 0.0
    told: set[str] = set()

    def tell_once(message: str) -> None:
        if message not in told:
            told.add(message)
            on_problem(message)

    with ThreadPoolExecutor(1) as beside:
        while True:
            is_last = stop.is_set()
            try:
                if has_waiting(home):
                    on_landed(land_inbox(home, project, on_problem=tell_once))
                if compacting is not None and compacting.done():
                    compacting.result()
                    compacting = None
                told.clear()
            except Exception as error:  # noqa: BLE001 - it stays, whatever fails
                compacting = None
                # Others' messages may quote what somebody sent.
                is_safe = isinstance(error, OSError | LoomlineError)
                what = str(error) if is_safe else type(error).__name__
                tell_once(f"Landing did not succeed and is tried again: {what}")
            now = time.monotonic()
            if compacting is None and now - compacted_at >= COMPACT_EVERY_S:
                compacted_at = now
                compacting = beside.submit(_tidy, home)
            if is_last:
                return
            stop.wait(PAUSE_S)


def _tidy(home: Home) -> None:
    compact(home, threads=1)
    sweep(home, grace_s=GRACE_S)
