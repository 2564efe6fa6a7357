"""Runs SQLFluff (lint or fix) on the models and data tests, or on the named paths.

Its dbt templater compiles the models, so dbt needs a readable home and the variables
that `loomline` sets. SQLFluff's own format has no lists, so they go into a TOML file.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from connectors.landing.prepare import prepare
from orchestration.project import Project


def main(command: str = "lint", *paths: str) -> int:
    project_path = Path(__file__).resolve().parent.parent
    target = project_path / "target" / "lint"
    os.environ["LOOMLINE_PROJECT"] = str(project_path)
    os.environ["LOOMLINE_HOME"] = str(target / "home")
    os.environ["DBT_TARGET_PATH"] = str(target)
    os.environ["DBT_LOG_PATH"] = str(target)
    project = Project.find()
    prepare(project.home)
    config = target / "pyproject.toml"
    config.write_text(
        "\n".join(_toml("tool.sqlfluff.templater.dbt.context", project.dbt_vars()))
    )
    sqlfluff = [sys.executable, "-m", "sqlfluff", command, "--config", str(config)]
    options = ["--processes", "2", "--disable-progress-bar"]
    return subprocess.run(
        [*sqlfluff, *options, *(paths or ("models", "tests/data"))],
        # dbt does not release its locks in the processes that SQLFluff starts.
        env=os.environ | {"PYTHONWARNINGS": "ignore:resource_tracker:UserWarning"},
        cwd=project_path,
        check=False,
    ).returncode


def _toml(name: str, table: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a table and its subtables, without None values."""
    yield f"[{name}]"
    for key, value in table.items():
        if not isinstance(value, dict) and value is not None:
            yield f"{json.dumps(key)} = {json.dumps(value)}"
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _toml(f"{name}.{json.dumps(key)}", value)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
