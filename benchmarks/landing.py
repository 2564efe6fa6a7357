"""Measures importing event files, with full admission, against dlt on the same lines.

dlt decodes and loads; Loomline decodes, normalizes, admits every event, writes received
counts and dispositions. Both in turn, three times; the median counts.
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
import venv
from datetime import timedelta
from pathlib import Path

from benchmarks.measure import Measured, machine, measure
from orchestration.demo.generator import AS_OF, generate

__all__ = ["main"]

DATA = Path(__file__).parent / "data"
DLT = "dlt[duckdb]==1.31.0"
ROUNDS = 3
PEER_EVENTS = 500_000
EVENTS = 1_000_000


def main() -> None:
    print(f"landing: {machine()}")
    python = _dlt_environment()
    peer_file, file = _events(PEER_EVENTS), _events(EVENTS)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        ours, theirs = [], []
        for _ in range(ROUNDS):
            ours.append(_import(peer_file, home / "loomline"))
            theirs.append(_dlt(python, peer_file, home / "dlt"))
        large = [_import(file, home / "loomline") for _ in range(ROUNDS)]
    ratio = statistics.median(
        their.wall_s / our.wall_s for our, their in zip(ours, theirs, strict=True)
    )
    _print(f"loomline import, {PEER_EVENTS:,} events", PEER_EVENTS, ours)
    _print(f"dlt 1.31, the same {PEER_EVENTS:,} lines", PEER_EVENTS, theirs)
    _print(f"loomline import, {EVENTS:,} events", EVENTS, large)
    print(f"  {ratio:.1f} x the rate of dlt (median of the pairs)")


def _events(count: int) -> Path:
    """Return a plain NDJSON file of generated events, created once."""
    path = DATA / f"events-{count}.ndjson"
    if not path.exists():
        folder = DATA / f"making-{count}"
        folder.mkdir(parents=True, exist_ok=True)
        # everything in slice 1: the second instant is a moment after the first
        as_of = (AS_OF[1], AS_OF[1] + timedelta(seconds=1))
        generate(folder, events=count, seed=7, as_of=as_of, compress=False)
        with path.with_suffix(".part").open("wb") as whole:
            for part in sorted(folder.glob("slice-*.ndjson")):
                with part.open("rb") as lines:
                    shutil.copyfileobj(lines, whole)
        path.with_suffix(".part").replace(path)
        shutil.rmtree(folder)
    return path


def _import(file: Path, home: Path) -> Measured:
    shutil.rmtree(home, ignore_errors=True)
    loomline = str(Path(sys.executable).with_name("loomline"))
    command = [loomline, "import", str(file), "--source", "bench", "--json"]
    return measure(command, {"LOOMLINE_HOME": str(home)})


def _dlt(python: Path, file: Path, folder: Path) -> Measured:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    script = Path(__file__).with_name("dlt_load.py")
    env = {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR"}
    return measure([str(python), str(script), str(file), str(folder)], env)


def _dlt_environment() -> Path:
    """Return a separate environment: the product does not depend on dlt."""
    folder = DATA / "dlt-1.31.0"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        venv.create(folder, with_pip=True, clear=True)
        command = [str(python), "-m", "pip", "install", "-q", DLT, "duckdb==1.5.5"]
        subprocess.run(command, check=True)
        (folder / "ready").touch()
    return python


def _print(what: str, events: int, runs: list[Measured]) -> None:
    wall_s = statistics.median(run.wall_s for run in runs)
    peak_mb = max(run.peak_mb for run in runs)
    print(
        f"  {what}: {events / wall_s:,.0f} events/s "
        f"({wall_s:.1f} s whole process, peak {peak_mb:,.0f} MB)"
    )


if __name__ == "__main__":
    main()
