"""dbt inside this process: the manifest is read once and kept."""

import contextlib
import io
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
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
"""Unit tests are for whoever changes a model, not for every run."""


class ModelsFailed(LoomlineError):
    """A model or a test failed; what depends on it was not built."""

    def __init__(self, message: str, nodes: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.nodes = nodes  # dbt's results, of what did well too


@dataclass(slots=True)
class Models:
    """The dbt project of a checkout, on the home folder's warehouse."""

    project: Project
    say: Callable[[str], None] = lambda message: None
    _manifest: "dbt_manifest.Manifest | None" = None
    _variables: str = ""  # as they were when the manifest was made

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
        """Run a dbt command (build, run, test, seed) and give its node results.

        `at` is the instant of evaluation; `only` names the audiences that are due,
        None means all.

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
                # dbt would hold the file, and the lock on it, as long as we live.
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
        """What the models read of a run: instant, due audiences, last load."""
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
        """Wait while another program has the warehouse file open; say which."""
        path = self.project.home.warehouse
        if path.exists():
            open_when_free(path, self.say).close()

    def update_confirmed(self, *, at: datetime) -> None:
        """Bring what tells of deliveries up to date: it is read next."""
        self.run("run", at=at, select="raw_acks+ raw_runs+ raw_loads")

    def definitions(self) -> bytes:
        """The project as it was read for the last command, as dbt's manifest.json."""
        self.parse()
        assert self._manifest is not None
        written = self._manifest.writable_manifest()
        content = written.to_dict(omit_none=False, context={"artifact": True})
        return msgspec.json.encode(content, enc_hook=str)

    def audiences(self) -> list[Any]:
        """dbt's nodes of the audience models."""
        self.parse()
        assert self._manifest is not None
        start = "model.loomline.aud_"
        nodes = self._manifest.nodes
        return [node for name, node in nodes.items() if name.startswith(start)]

    def modified(self, former: Path, *, downstream: bool = False) -> set[str]:
        """Names of models and seeds that differ from a manifest.json in `former`.

        `downstream`: with all that depends on them, dbt's `state:modified+`.

        Raises:
            ModelsFailed: dbt cannot compare them.
        """
        self.parse()
        select = "state:modified+" if downstream else "state:modified"
        arguments = ["ls", "--select", select, "--state", str(former)]
        arguments += ["--resource-type", "model", "--resource-type", "seed"]
        result = self._invoke([*arguments, "--output", "name"])
        if not result.success:
            raise self._failed(result.exception) from None
        return set(result.result)

    def manifest_path(self) -> Path:
        """dbt's manifest.json, made anew when a file it comes from is newer.

        Raises:
            ModelsFailed: a file cannot be read as what it should be.
        """
        if self._manifest is None or self.is_outdated():
            self._read_variables()
            if not self._parsed().is_current():
                self._manifest = None
                self.parse()
        return self._manifest_path

    def is_outdated(self) -> bool:
        """Whether a file of the project is newer than dbt's manifest."""
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
        """Read the project's files, once; also leaves dbt's manifest.json.

        Raises:
            ModelsFailed: a file cannot be read as what it should be.
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
        # However quiet it is told to be, dbt prints failures and lists on standard
        # output, and logs them with the values an engine stumbled over: we tell them.
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
            raise result.exception  # dbt takes a request to stop for a failed model
        return result


def open_when_free(
    path: Path, say: Callable[[str], None], *, read_only: bool = False
) -> duckdb.DuckDBPyConnection:
    """The warehouse file; waits while another program has it open, saying which.

    Raises:
        ModelsFailed: it cannot be opened, and waiting would not help.
    """
    has_said = False
    while True:
        try:
            return duckdb.connect(str(path), read_only=read_only)
        except duckdb.IOException as error:
            held = re.search(r"lock is held in (.+? \(PID \d+\))", str(error))
            if held is None:
                raise ModelsFailed(f"{path} cannot be opened: {error}") from error
            if not has_said:
                say(f"Waiting for {held[1]} to close {path}")
                has_said = True
            time.sleep(0.5)
