"""The home folder: where one installation keeps everything it knows."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Home"]


@dataclass(frozen=True, slots=True)
class Home:
    """Paths below LOOMLINE_HOME; always absolute."""

    path: Path

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> "Home":
        """LOOMLINE_HOME, or `data` below the working directory."""
        return cls(Path(env.get("LOOMLINE_HOME") or "data").absolute())

    @property
    def inbox(self) -> Path:
        return self.path / "inbox"

    @property
    def raw(self) -> Path:
        return self.path / "raw"

    @property
    def loads(self) -> Path:
        """The manifest of the raw streams."""
        return self.raw / "loads.ndjson"

    @property
    def warehouse(self) -> Path:
        return self.path / "warehouse.duckdb"

    @property
    def published(self) -> Path:
        """The versions that readers read, and `current`."""
        return self.path / "published"

    @property
    def control(self) -> Path:
        return self.path / "control.db"

    @property
    def run_lock(self) -> Path:
        return self.path / "run.lock"
