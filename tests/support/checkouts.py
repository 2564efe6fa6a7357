"""A fresh clone of the project, and commands run in it."""

import atexit
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from connectors.home import Home
from orchestration.pipeline.dbt_runner import Models
from orchestration.project import Project
from tests.support import PROJECT

__all__ = ["AT", "SECRET", "Checkout", "Sending", "clone"]

SECRET = "whsec_" + "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
AT = "2026-05-02T00:00:00Z"
"""An instant half a day after what `sending` has landed."""


@dataclass(frozen=True)
class Checkout:
    """A copy of the project's files; commands run in it see no setting from outside."""

    path: Path

    def run(
        self, command: Sequence[str] | str, code: int | None = 0
    ) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            command,
            cwd=self.path,
            env=self.env(),
            shell=isinstance(command, str),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert code is None or done.returncode == code, done.stdout + done.stderr
        return done

    def loomline(self, *arguments: str, code: int | None = 0) -> str:
        return self.run([str(self.bin / "loomline"), *arguments], code).stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.loomline(*arguments, "--json"))

    @property
    def bin(self) -> Path:
        return Path(sys.executable).parent

    def env(self) -> dict[str, str]:
        kept = ("HOME", "LANG", "PATH", "TMPDIR", "VIRTUAL_ENV")
        return {name: os.environ[name] for name in kept if name in os.environ} | {
            "LOOMLINE_PROJECT": str(self.path)
        }


_MADE_IN = {
    "benchmarks": {"data"},
    "sdks": {".venv", "node_modules"},
    "tools": {".venv"},
}


def _made_again(folder: str, names: list[str]) -> set[str]:
    """What a fresh clone does not have."""
    made = {".git", ".venv", ".env", "data", "target", "logs"}
    is_top = Path(folder) == PROJECT
    return {
        name
        for name in names
        if name.endswith(("cache", "cache__")) or (is_top and name in made)
    } | _MADE_IN.get(Path(folder).name, set())


@functools.cache
def _parsed() -> Path:
    """dbt's target folder once it has parsed the project: five seconds, spent once."""
    folder = Path(tempfile.mkdtemp(prefix="loomline-tests-"))
    atexit.register(shutil.rmtree, folder)
    target = folder / "target"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DBT_TARGET_PATH", str(target))
        patch.setenv("LOOMLINE_HOME", str(folder / "home"))
        Models(Project(PROJECT, Home(folder / "home"))).parse()
    return target


def clone(path: Path) -> Checkout:
    """A checkout there."""
    shutil.copytree(PROJECT, path, ignore=_made_again)
    shutil.copytree(_parsed(), path / "target")
    # The environment is the one the tests run in: nothing is installed twice.
    (path / ".venv").symlink_to(Path(sys.prefix))
    return Checkout(path)


@dataclass(frozen=True)
class Sending(Checkout):
    """A checkout whose webhook goes to `url`."""

    url: str = "http://127.0.0.1:9/"

    def env(self) -> dict[str, str]:
        return super().env() | {
            "CRM_WEBHOOK_SECRET": SECRET,
            "CRM_WEBHOOK_URL": self.url,
        }
