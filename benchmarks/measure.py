"""Measures whole processes, including their children."""

import os
import platform
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Measured", "machine", "measure"]


@dataclass(frozen=True, slots=True)
class Measured:
    """One run: wall time, and the peak memory of all its processes together."""

    wall_s: float
    peak_mb: float  # private and shared pages, each counted once (PSS)
    output: str


def measure(command: Sequence[str], env: Mapping[str, str] | None = None) -> Measured:
    """Run a command to completion.

    Raises:
        subprocess.CalledProcessError: the command failed.
    """
    started = time.monotonic()
    process = subprocess.Popen(
        command, env={**os.environ, **(env or {})}, stdout=subprocess.PIPE, text=True
    )
    peak_kb = 0
    ended = threading.Event()

    def watch() -> None:
        nonlocal peak_kb
        while not ended.wait(0.05):
            peak_kb = max(peak_kb, sum(map(_pss_kb, _family(process.pid))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, _ = process.communicate()
    wall_s = time.monotonic() - started
    ended.set()
    watcher.join()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, output)
    return Measured(wall_s, peak_kb / 1024, output)


def machine() -> str:
    """Return the machine and the date, as the documentation quotes them."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return (
        f"{os.cpu_count()} cores ({cpu}), Python {platform.python_version()}, "
        f"{time.strftime('%Y-%m-%d')}"
    )


def _family(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text()
        except OSError:
            continue  # it has ended
        parent = int(stat.rpartition(")")[2].split()[1])
        children.setdefault(parent, []).append(int(folder.name))
    family = [pid]
    for member in family:
        family += children.get(member, [])
    return family


def _pss_kb(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0  # it has ended
    return sum(
        int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")
    )
