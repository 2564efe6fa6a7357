"""dbt inside this process: the manifest is read once and kept."""

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import duckdb
import msgspec

from connectors.errors import LoomlineError
from connectors.landing.manifest import Manifest
from orchestration.project import Project

if TYPE_CHECKING:
    from dbt.contracts.graph import manifest as dbt_manifest

__all__ = ["BUILD_FLAGS", "Models", "ModelsFailed"]

BUILD_FLAGS = ("--exclude-resource-type", "unit_test")
"""Unit tests are for whoever changes a model, not for every run."""


class ModelsFailed(LoomlineError):
    """A model or a test failed; what depends on it was not built."""


@dataclass(slots=True)
class Models:
    """The dbt project of a checkout, on the home folder's warehouse."""

    project: Project
    say: Callable[[str], None] = lambda message: None
    _manifest: "dbt_manifest.Manifest | None" = None

    def run(
        self,
        command: str,
        *,
        at: datetime,
        select: str | None = None,
        full_refresh: bool = False,
        only: tuple[str, ...] = (),
    ) -> list[Any]:
        """Run a dbt command (build, run, test, seed) and give its node results.

        `at` is the instant of evaluation; `only` names the audiences that are due,
        none means all.

        Raises:
            ModelsFailed: names every model and test that failed, with dbt's message.
        """
        arguments = [command]
        if command == "build":
            arguments += BUILD_FLAGS
        if select:
            arguments += ["--select", *select.split()]
        if full_refresh:
            arguments.append("--full-refresh")
        from dbt.adapters.duckdb.connections import DuckDBConnectionManager

        with self.environment(at=at, only=only):
            self.parse()
            self.wait_until_free()
            try:
                result = self._invoke(arguments)
            finally:
                # dbt would hold the file, and the lock on it, as long as we live.
                DuckDBConnectionManager.close_all_connections()
        if result.exception is not None:
            raise ModelsFailed(str(result.exception)) from result.exception
        nodes: list[Any] = list(result.result)
        if not result.success:
            raise ModelsFailed(_failures(nodes))
        return nodes

    @contextmanager
    def environment(
        self, *, at: datetime, only: tuple[str, ...] = ()
    ) -> Iterator[None]:
        """What the models read of a run: instant, due audiences, last load."""
        values = {
            "LOOMLINE_NOW": at.isoformat(),
            "LOOMLINE_ONLY": ",".join(only),
            "LOOMLINE_LOADED": str(Manifest(self.project.home).newest()),
        }
        before = {name: os.environ.get(name) for name in values}
        os.environ.update(values)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

    def wait_until_free(self) -> None:
        """Wait while another program has the warehouse file open; say which."""
        path = self.project.home.warehouse
        has_said = False
        while path.exists():
            try:
                duckdb.connect(str(path)).close()
                return
            except duckdb.IOException as error:
                held = re.search(r"lock is held in (.+? \(PID \d+\))", str(error))
                if held is None:
                    raise ModelsFailed(f"{path} cannot be opened: {error}") from error
                if not has_said:
                    self.say(f"Waiting for {held[1]} to close {path}")
                    has_said = True
                time.sleep(0.5)

    def refresh_confirmed(self, *, at: datetime) -> None:
        """Bring what tells of deliveries up to date: it is read next."""
        self.run("run", at=at, select="raw_acks+ raw_runs+ raw_loads")

    def parse(self) -> None:
        """Read the project's files, once; also leaves dbt's manifest.json.

        Raises:
            ModelsFailed: a file cannot be read as what it should be.
        """
        if self._manifest is None:
            result = self._invoke(["parse"])
            if not result.success:
                raise ModelsFailed(str(result.exception)) from result.exception
            self._manifest = result.result

    def _invoke(self, arguments: list[str]) -> Any:
        from dbt.cli.main import dbtRunner  # seconds to import: only when needed

        folder = str(self.project.path)
        return dbtRunner(manifest=self._manifest).invoke(
            [
                "--quiet",
                "--no-use-colors",
                *arguments,
                "--project-dir",
                folder,
                "--profiles-dir",
                folder,
                "--vars",
                msgspec.json.encode(self.project.dbt_vars()).decode(),
            ]
        )


def _failures(nodes: list[Any]) -> str:
    lines = [
        f"{node.node.name}: {' '.join((node.message or node.status).split())}"
        for node in nodes
        if node.status in ("error", "fail", "runtime error")
    ]
    return "\n".join(lines) or "dbt stopped without naming a model; see logs/dbt.log"
