"""The home folder: all data of one installation."""

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from connectors.errors import ConfigError

__all__ = ["Home"]


@dataclass(frozen=True, slots=True)
class Home:
    """Paths below LOOMLINE_HOME; always absolute."""

    path: Path

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> "Home":
        """Return LOOMLINE_HOME, or `data` below the working directory."""
        return cls(Path(env.get("LOOMLINE_HOME") or "data").absolute())

    def check(self) -> None:
        """Refuse a path that is not a folder and cannot become one; create nothing.

        Raises:
            ConfigError: the path is a file or below one, or this user may not read or
                create it.
        """
        try:
            if self.path.exists():
                os.scandir(self.path).close()
            else:
                _check_access(next(p for p in self.path.parents if p.exists()), os.W_OK)
        except OSError as error:
            raise self._unusable(error) from error

    def make(self, *folders: Path) -> None:
        """Create the home folder, and these folders in it, if missing.

        Raises:
            ConfigError: one cannot be created, or the home folder is not writable.
        """
        try:
            for folder in (self.path, *folders):
                folder.mkdir(parents=True, exist_ok=True)
            _check_access(self.path, os.R_OK | os.W_OK | os.X_OK)
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> ConfigError:
        is_file = isinstance(error, NotADirectoryError | FileExistsError)
        reason = "it is not a folder" if is_file else f"{error.strerror}"
        return ConfigError(
            f"The home folder {self.path} cannot be used: {reason}. Set LOOMLINE_HOME "
            "to a folder that this user can create and write to."
        )

    @property
    def demo(self) -> Path:
        """Settings of the demo; exists only in a home the demo created."""
        return self.path / "demo.json"

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
        """The published snapshots, and `current`."""
        return self.path / "published"

    @property
    def control(self) -> Path:
        return self.path / "control.db"

    @property
    def run_lock(self) -> Path:
        return self.path / "run.lock"


def _check_access(folder: Path, mode: int) -> None:
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if not os.access(folder, mode, effective_ids=True):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
