"""Counters of all workers, in Prometheus format.

Each worker counts in memory and periodically writes its counts to a file beside the
others'; a scrape sums the files. The counts of replaced workers stay. They are for
operators: the disposition of each event is in `raw.dispositions`.
"""

import os
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

__all__ = ["Metrics"]

_RED = ".red"

Labels = tuple[tuple[str, str], ...]

_HELP = {
    "loomline_events_total": "Items by source and disposition.",
    "loomline_requests_total": "Requests by route and status.",
    "loomline_unauthorized_total": "Requests without a live write key.",
    "loomline_received_bytes_total": "Bytes of accepted bodies, decompressed.",
    "loomline_commits_total": "Groups of requests written with one sync.",
    "loomline_commit_failures_total": "Writes and syncs that failed.",
}


class Metrics:
    """One worker's counters, and the sum of all workers'."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / f"{os.getpid()}.metrics"
        self._counts: Counter[tuple[str, Labels]] = Counter()

    def add(self, name: str, n: float = 1, **labels: str) -> None:
        self._counts[name, tuple(labels.items())] += n  # type: ignore[assignment]

    def put(self, name: str, value: float) -> None:
        self._counts[name, ()] = value  # type: ignore[assignment]

    def save(self) -> None:
        """Write this worker's counts to its file."""
        rows = [(name, labels, n) for (name, labels), n in self._counts.items()]
        temporary = self._path.with_suffix(".new")
        temporary.write_bytes(msgspec.json.encode(rows))
        temporary.replace(self._path)

    def tell_fault(self, reason: str | None) -> None:
        """Tell the other workers that this one cannot store; None clears it."""
        path = self._path.with_suffix(_RED)
        if reason is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(reason)

    def fault(self) -> str | None:
        """Return why a worker cannot store, or None if all can."""
        for path in self._folder.glob(f"*{_RED}"):
            with suppress(FileNotFoundError):  # recovered or replaced
                return path.read_text() or "a worker cannot store"
        return None

    @staticmethod
    def forget(folder: Path, process: int) -> None:
        """Remove the fault of a worker that has ended."""
        (folder / f"{process}{_RED}").unlink(missing_ok=True)

    def text(self, gauges: Iterable[tuple[str, str, float]]) -> bytes:
        """Return all workers' counts in Prometheus' text format 0.0.4.

        `gauges` are (name, help, value) of the answering worker.
        """
        self.save()
        total: Counter[tuple[str, Labels]] = Counter()
        for path in self._folder.glob("*.metrics"):
            rows = msgspec.json.decode(
                path.read_bytes(),
                type=list[tuple[str, tuple[tuple[str, str], ...], float]],
            )
            for name, labels, n in rows:
                total[name, labels] += n  # type: ignore[assignment]
        lines = []
        for name, help_ in _HELP.items():
            lines += [f"# HELP {name} {help_}", f"# TYPE {name} counter"]
            lines += [
                f"{name}{_braced(labels)} {n:.10g}"
                for (counter, labels), n in sorted(total.items())
                if counter == name
            ]
        for name, help_, value in gauges:
            lines += [
                f"# HELP {name} {help_}",
                f"# TYPE {name} gauge",
                f"{name} {value:.10g}",
            ]
        return ("\n".join(lines) + "\n").encode()


def _braced(labels: Labels) -> str:
    if not labels:
        return ""
    inner = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels)
    return f"{{{inner}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
