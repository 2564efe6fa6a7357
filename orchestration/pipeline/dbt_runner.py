"""Runs dbt in this process, with one parsed manifest for many commands."""

import contextlib
import io
import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import msgspec

from connectors.errors import LoomlineError
from connectors.landing.manifest import Manifest
from orchestration.pipeline.model_errors import parse_failure, run_failures
from orchestration.pipeline.parse_cache import ParsedProject, source_files
from orchestration.project import Project

if TYPE_CHECKING:
    from dbt.contracts.graph import manifest as dbt_manifest

__all__ = ["BUILD_FLAGS", "Models", "ModelsFailed", "open_when_free"]

BUILD_FLAGS = ("--exclude-resource-type", "unit_test")
"""Unit tests check edits of models; runs do not repeat them."""


class ModelsFailed(LoomlineError):
    """A model or a test failed; models downstream of it were not built."""

    def __init__(self, message: str, nodes: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.nodes = nodes  # dbt's results, including successes


@dataclass(slots=True)
class Models:
    """The dbt project of a checkout, on the home folder's warehouse."""

    project: Project
    say: Callable[[str], None] = lambda message: None
    _manifest: "dbt_manifest.Manifest | None" = None
    _variables: str = ""  # when the manifest was parsed

    def run(
        self,
        command: str,
        *,
        at: datetime,
        select: str | None = None,
        full_refresh: bool = False,
        only: tuple[str, ...] | None = None,
        has_tests: bool = True,
    ) -> list[Any]:
        """Run a dbt command (build, run, test, seed) and return its node results.

        `at` is the as-of instant; `only` names the audiences that are due, None means
        all.

        Raises:
            ModelsFailed: names every model and test that failed, with dbt's message.
        """
        arguments = [command]
        if command == "build":
            arguments += BUILD_FLAGS
            if not has_tests:
                arguments += ["--exclude-resource-type", "test"]
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
                # Otherwise dbt keeps the file open and locked until this process ends.
                DuckDBConnectionManager.close_all_connections()
        if result.exception is not None:
            raise self._failed(result.exception) from None
        nodes: list[Any] = list(result.result)
        if not result.success:
            raise ModelsFailed(run_failures(nodes, self.project.path), nodes)
        return nodes

    @contextmanager
    def environment(
        self, *, at: datetime, only: tuple[str, ...] | None = None
    ) -> Iterator[None]:
        """Set the as-of instant, due audiences and last load for the models."""
        values = {
            "LOOMLINE_NOW": at.isoformat(),
            "LOOMLINE_ONLY": "" if only is None else ",".join(only) or "none",
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
        """Wait while another program has the warehouse open, and name it."""
        path = self.project.home.warehouse
        if path.exists():
            open_when_free(path, self.say).close()

    def update_confirmed(self, *, at: datetime) -> None:
        """Rebuild the models of deliveries, which are read next."""
        self.run("run", at=at, select="raw_acks+ raw_runs+ raw_loads")

    def definitions(self) -> bytes:
        """Return dbt's manifest.json of the project as the last command read it."""
        self.parse()
        assert self._manifest is not None
        written = self._manifest.writable_manifest()
        content = written.to_dict(omit_none=False, context={"artifact": True})
        return msgspec.json.encode(content, enc_hook=str)

    def audiences(self) -> list[Any]:
        """Return dbt's nodes of the audience models."""
        self.parse()
        assert self._manifest is not None
        start = "model.loomline.aud_"
        nodes = self._manifest.nodes
        return [node for name, node in nodes.items() if name.startswith(start)]

    def modified(self, previous: Path) -> set[str]:
        """Return the models and seeds that differ from a manifest.json in `previous`.

        Raises:
            ModelsFailed: dbt cannot compare them.
        """
        return self._list(previous, "state:modified")

    def downstream(self, previous: Path, names: Collection[str]) -> set[str]:
        """Return those that differ, the named ones, and all that depend on them.

        Raises:
            ModelsFailed: dbt cannot compare them.
        """
        chosen = (f"{name}+" for name in sorted(names))
        return self._list(previous, "state:modified+", *chosen)

    def _list(self, previous: Path, *select: str) -> set[str]:
        self.parse()
        arguments = ["ls", "--select", *select, "--state", str(previous)]
        arguments += ["--resource-type", "model", "--resource-type", "seed"]
        result = self._invoke([*arguments, "--output", "name"])
        if not result.success:
            raise self._failed(result.exception) from None
        return set(result.result)

    def manifest_path(self) -> Path:
        """Return the path of dbt's manifest.json, parsed again if a file is newer.

        Raises:
            ModelsFailed: dbt cannot parse a file.
        """
        if self._manifest is None or self.is_outdated():
            self._read_variables()
            if not self._parsed().is_current():
                self._manifest = None
                self.parse()
        return self._manifest_path

    def is_outdated(self) -> bool:
        """Return whether a file of the project is newer than dbt's manifest."""
        if not self._manifest_path.exists():
            return True
        files = source_files(self.project.path)
        newest = max(file.stat().st_mtime for file in files)
        return self._manifest_path.stat().st_mtime < newest

    @property
    def _manifest_path(self) -> Path:
        target = os.environ.get("DBT_TARGET_PATH", "target")
        return self.project.path / target / "manifest.json"

    def parse(self) -> None:
        """Parse the project's files, once; also writes dbt's manifest.json.

        Raises:
            ModelsFailed: dbt cannot parse a file.
        """
        if self._manifest is not None:
            return
        self._read_variables()
        parsed = self._parsed()
        self._manifest = parsed.load()
        if self._manifest is None:
            result = self._invoke(["parse"])
            if not result.success:
                raise self._failed(result.exception) from None
            self._manifest = result.result
            parsed.save()

    def _read_variables(self) -> None:
        self._variables = msgspec.json.encode(self.project.dbt_vars()).decode()

    def _parsed(self) -> ParsedProject:
        return ParsedProject(self.project.path, self._variables)

    def _failed(self, error: object) -> ModelsFailed:
        return ModelsFailed(parse_failure(error, self.project.path))

    def _invoke(self, arguments: list[str]) -> Any:
        from dbt.cli.main import dbtRunner  # seconds to import: only when needed

        folder = str(self.project.path)
        if arguments[0] != "parse":
            # The manifest has not changed; writing it takes longer than a small model.
            arguments = [*arguments, "--no-write-json"]
        # Even with --quiet, dbt prints failures and lists to standard output, including
        # values of rows. We report failures ourselves, without values.
        with contextlib.redirect_stdout(io.StringIO()):
            result = dbtRunner(manifest=self._manifest).invoke(
                [
                    *("--quiet", "--no-use-colors", "--log-level-file", "none"),
                    *arguments,
                    *("--project-dir", folder, "--profiles-dir", folder),
                    *("--vars", self._variables),
                ]
            )
        if not isinstance(result.exception, Exception | None):
            raise result.exception  # dbt reports a stop request as a failed model
        return result


def open_when_free(
    path: Path, say: Callable[[str], None], *, read_only: bool = False
) -> duckdb.DuckDBPyConnection:
    """Open the warehouse; wait while another program has it open, and name it.

    Raises:
        ModelsFailed: the file cannot be opened for another reason.
    """
    has_said = False
    while True:
        try:
            return duckdb.connect(str(path), read_only=read_only)
        except duckdb.IOException as error:
            holder = re.search(r"lock is held in (.+? \(PID \d+\))", str(error))
            if holder is None:
                raise ModelsFailed(f"Cannot open {path}: {error}") from error
            if not has_said:
                say(f"Waiting for {holder[1]} to close {path}")
                has_said = True
            time.sleep(0.5)
