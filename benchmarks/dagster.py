"""Measures the overhead of Dagster and dbt.

Compares loading the definitions with importing only dagster and dagster_dbt. Compares
one model built by the command `dbt run` with the same model in a process that keeps
dbt's manifest: the step alone, and a whole run of that step with its lock and records.
In turn, three times; the median counts.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import msgspec

from benchmarks.measure import machine
from connectors.home import Home
from connectors.landing.prepare import prepare
from orchestration.demo.generator import AS_OF
from orchestration.pipeline.runner import Pipeline
from orchestration.project import Project

__all__ = ["main"]

ROUNDS = 3
MODEL = "int_sync_counts"
TOOLS = "import dagster, dagster_dbt"
DEFINITIONS = "import orchestration.definitions"


def main() -> None:
    print(f"dagster: {machine()}")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LOOMLINE_HOME"] = folder
        os.environ["DAGSTER_HOME"] = f"{folder}/dagster"
        os.environ["LOOMLINE_NOW"] = AS_OF[1].isoformat()
        os.environ["CRM_WEBHOOK_SECRET"] = "whsec_" + "MDEy" * 8
        project = Project.find()
        prepare(Home(Path(folder)))
        pipeline = Pipeline(project)
        pipeline.run(at=AS_OF[1], push=False)  # everything is built and imported
        _compare(
            "loading the definitions",
            lambda: _python(DEFINITIONS),
            "importing dagster and dagster_dbt",
            lambda: _python(TOOLS),
        )
        variables = msgspec.json.encode(project.dbt_vars()).decode()
        dbt = str(Path(sys.executable).with_name("dbt"))
        key = dg.AssetKey(["destinations", MODEL])
        command = [dbt, "--quiet", "run", "--select", MODEL, "--vars", variables]
        by_command = f"dbt run --select {MODEL}"

        def run_command() -> None:
            subprocess.run(command, cwd=project.path, check=True)

        _compare(
            by_command,
            run_command,
            "the resident step",
            lambda: pipeline._models.run("run", at=AS_OF[1], select=MODEL),
        )
        _compare(
            by_command,
            run_command,
            "a resident run of that step, with lock and records",
            lambda: pipeline._execute([key], at=AS_OF[1]),
        )


def _compare(
    name: str, slow: Callable[[], object], other: str, fast: Callable[[], object]
) -> None:
    pairs = [(_seconds(slow), _seconds(fast)) for _ in range(ROUNDS)]
    print(f"  {name}: {statistics.median(pair[0] for pair in pairs):.2f} s")
    print(f"  {other}: {statistics.median(pair[1] for pair in pairs):.2f} s")
    ratio = statistics.median(one / two for one, two in pairs)
    print(f"  {ratio:.1f} x")


def _seconds(action: Callable[[], object]) -> float:
    started = time.monotonic()
    action()
    return time.monotonic() - started


def _python(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True)
