"""Caches dbt's parsed project in `target/` for the next process.

dbt's partial parsing starts over when the path of the warehouse changes: four seconds
of CPU at each switch between the demo and another home. The parsed project depends on
the project's files, the variables and dbt's version, not on the home.
"""

import os
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from connectors.landing.manifest import replace_file

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest

__all__ = ["ParsedProject", "source_files"]

FOLDERS = ("models", "macros", "seeds", "tests/data", "orchestration/defs")
CHOSEN_BY = ("DBT_PROFILE", "DBT_TARGET")


def source_files(project: Path) -> list[Path]:
    """Return the files and folders that define the models and destinations."""
    files = [project / "dbt_project.yml", project / "profiles.yml"]
    for folder in (project / name for name in FOLDERS):
        files += [folder, *folder.rglob("*")]
    return [file for file in files if file.exists()]


class ParsedProject:
    """The result of `dbt parse` in the target folder, while it is current.

    `variables` are dbt's variables, as JSON.
    """

    def __init__(self, project: Path, variables: str) -> None:
        target = project / os.environ.get("DBT_TARGET_PATH", "target")
        self._saved = target / "partial_parse.msgpack"
        self._key = target / "loomline_parsed"
        self._written = target / "manifest.json"
        self._inputs = sha256(f"{version('dbt-core')} {version('dbt-duckdb')}".encode())
        self._inputs.update(variables.encode())
        for name in CHOSEN_BY:
            self._inputs.update(f"{name}={os.environ.get(name, '')}\n".encode())
        for file in sorted(source_files(project)):
            if file.is_file():
                self._inputs.update(f"{file.relative_to(project)}\n".encode())
                self._inputs.update(file.read_bytes())

    def load(self) -> "Manifest | None":
        """Return the manifest, or None if dbt has to parse the project."""
        try:
            saved, key = self._saved.read_bytes(), self._key.read_text()
            if key != self._key_of(saved):
                return None
            os.utime(self._written)  # it matches the current files
        except FileNotFoundError:
            return None
        from dbt.contracts.graph.manifest import Manifest
        from dbt.parser.manifest import extended_mashumuro_decoder

        manifest = Manifest.from_msgpack(saved, decoder=extended_mashumuro_decoder)
        manifest.build_flat_graph()
        return manifest

    def save(self) -> None:
        """Record that dbt has parsed the files as of this object's creation."""
        replace_file(self._key, self._key_of(self._saved.read_bytes()).encode())

    def _key_of(self, saved: bytes) -> str:
        key = self._inputs.copy()
        key.update(saved)
        return key.hexdigest()
