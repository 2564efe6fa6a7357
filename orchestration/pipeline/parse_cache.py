"""Keeps dbt's parsed project in `target/` for the next process.

dbt's own partial parsing starts over when the path of the warehouse changes: four
seconds of CPU for each change between the demo and another home. The parsed project
depends on files, variables and packages, not on the home.
"""

import os
import re
from collections.abc import Iterator
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from connectors.landing.manifest import replace_file

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest

__all__ = ["ParsedProject", "source_files"]

FILES = (
    *("dbt_project.yml", "profiles.yml", "packages.yml", "dependencies.yml"),
    *("package-lock.yml", "selectors.yml", "catalogs.yml"),
)
FOLDERS = (
    *("models", "macros", "seeds", "snapshots", "analyses", "tests", "dbt_packages"),
    "orchestration/defs",
)
"""Folders that dbt reads unless `dbt_project.yml` names others, and destinations."""

PACKAGES = ("dbt-core", "dbt-adapters", "dbt-common", "dbt-duckdb")
VARIABLES = {"DBT_PROFILE", "DBT_TARGET"}

_READS_VARIABLE = re.compile(rb"env_var\(\s*['\"](\w+)")


def source_files(project: Path) -> list[Path]:
    """Return the files and folders that dbt and the destinations are read from."""
    settings = project / "dbt_project.yml"
    content = yaml.safe_load(settings.read_text()) if settings.exists() else {}
    named = {
        name
        for key, names in (content or {}).items()
        if key.endswith("-paths") and isinstance(names, list)
        for name in names
    }
    folders = {*FOLDERS, *named}
    if "test-paths" in (content or {}):
        folders.discard("tests")
    files = [project / name for name in FILES]
    for folder in (project / name for name in sorted(folders)):
        files += [folder, *folder.rglob("*")]
    return [file for file in files if file.exists()]


class ParsedProject:
    """The result of `dbt parse` in the target folder, while it is current.

    `variables` are those passed to dbt, as JSON. Values of environment variables count
    if a file reads them with `env_var`; Loomline's own are read while models run.
    """

    def __init__(self, project: Path, variables: str) -> None:
        target = project / os.environ.get("DBT_TARGET_PATH", "target")
        self._saved = target / "partial_parse.msgpack"
        self._key = target / "loomline_parsed"
        self._written = target / "manifest.json"
        self._inputs = sha256(variables.encode())
        for part in (*_versions(), *_contents(project)):
            self._inputs.update(b"%d\n%b\n" % (len(part), part))

    def load(self) -> "Manifest | None":
        """Return the manifest, or None if dbt has to parse the project."""
        saved = self._current()
        if saved is None:
            return None
        from dbt.contracts.graph.manifest import Manifest
        from dbt.parser.manifest import extended_mashumuro_decoder

        manifest = Manifest.from_msgpack(saved, decoder=extended_mashumuro_decoder)
        manifest.build_flat_graph()
        return manifest

    def is_current(self) -> bool:
        """Return whether dbt's manifest.json describes the files as they are now."""
        return self._current() is not None

    def save(self) -> None:
        """Record that dbt has parsed the files as of this object's creation."""
        replace_file(self._key, self._key_of(self._saved.read_bytes()).encode())

    def _current(self) -> bytes | None:
        try:
            saved, key = self._saved.read_bytes(), self._key.read_text()
            if key != self._key_of(saved):
                return None
            os.utime(self._written)  # newer than every file, as `is_outdated` expects
        except FileNotFoundError:
            return None
        return saved

    def _key_of(self, saved: bytes) -> str:
        key = self._inputs.copy()
        key.update(saved)
        return key.hexdigest()


def _versions() -> Iterator[bytes]:
    yield from (f"{name} {version(name)}".encode() for name in PACKAGES)


def _contents(project: Path) -> Iterator[bytes]:
    variables = {*VARIABLES}
    for file in sorted(source_files(project)):
        if file.is_file():
            content = file.read_bytes()
            yield str(file.relative_to(project)).encode()
            yield content
            variables |= {name.decode() for name in _READS_VARIABLE.findall(content)}
    for name in sorted(variables):
        if not name.startswith("LOOMLINE_"):
            yield f"{name}={os.environ.get(name)}".encode()
