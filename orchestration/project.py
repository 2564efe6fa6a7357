"""The project, its home folder, and the names in its configuration."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dotenv import dotenv_values, load_dotenv

from connectors.config_files import ConfigFile
from connectors.errors import ConfigError
from connectors.home import Home
from orchestration.audiences import Audience, read_audiences

# Imports that only a run needs are local: they are half of a collector's start time,
# and it must start quickly.
if TYPE_CHECKING:
    from connectors.destinations.settings import Settings

__all__ = ["NO_TELEMETRY", "Project", "find_project_path", "instant"]

MARK = "dbt_project.yml"

NO_TELEMETRY = {
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    "DAGSTER_DISABLE_TELEMETRY": "yes",
    "SQLMESH__DISABLE_ANONYMIZED_ANALYTICS": "true",
}


MOST_MEMORY = 4 << 30
"""Upper bound of the engine's default memory limit, in bytes; the default is a quarter
of the machine's memory."""

_MEMORY = re.compile(r"[1-9][0-9]*(\.[0-9]+)? ?[KMGT]i?B", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Project:
    """A checkout and the home folder it works on."""

    path: Path
    home: Home

    @classmethod
    def find(cls) -> "Project":
        """Find the project and load its `.env`; the environment takes precedence.

        Makes LOOMLINE_HOME absolute, sets LOOMLINE_MEMORY_LIMIT, and disables usage
        telemetry of dbt, Dagster and SQLMesh.

        Raises:
            ConfigError: no project was found, the home is not a readable folder, or
                the memory limit is not a size.
        """
        path = find_project_path()
        written = dotenv_values(path / ".env")
        load_dotenv(path / ".env")
        # LOOMLINE_NOW belongs to the demo's home: with another one it would stop the
        # clock of a real installation. DAGSTER_HOME, the record of runs, does too.
        if os.environ.get("LOOMLINE_HOME") != written.get("LOOMLINE_HOME"):
            for name in ("LOOMLINE_NOW", "DAGSTER_HOME"):
                if os.environ.get(name) == written.get(name):
                    os.environ.pop(name, None)
        home = Path(os.environ.get("LOOMLINE_HOME") or "data")
        os.environ["LOOMLINE_HOME"] = str(path / home)
        os.environ.setdefault("DAGSTER_HOME", str(path / home / "dagster"))
        for name, value in NO_TELEMETRY.items():
            os.environ.setdefault(name, value)
        limit = os.environ.get("LOOMLINE_MEMORY_LIMIT") or _default_memory_limit()
        if not _MEMORY.fullmatch(limit):
            raise ConfigError(
                f"LOOMLINE_MEMORY_LIMIT is {limit!r}, which is not a size. Set it to "
                "a number and a unit, such as 2GB."
            )
        os.environ["LOOMLINE_MEMORY_LIMIT"] = limit
        project = cls(path, Home.from_env())
        project.home.check()
        return project

    @property
    def defs(self) -> Path:
        """The folder that configures destinations, checks and sources."""
        return self.path / "orchestration" / "defs"

    def audiences(self) -> dict[str, Audience]:
        """Return the audience models, `aud_…`, by name.

        Raises:
            ConfigError: lists every fault of every file.
        """
        audiences, faults = self._read_audiences(self.destinations())
        if faults:
            raise ConfigError("\n".join(faults))
        return audiences

    def destinations(self) -> "dict[str, Settings]":
        """Return the configured destinations by name.

        Raises:
            ConfigError: lists every fault of every file.
        """
        from connectors.destinations.settings import load_destinations

        return load_destinations(self.defs)

    def check(self, *, with_variables: bool = True) -> None:
        """Check every name, file and environment variable a run will need.

        Raises:
            ConfigError: lists all faults, one per line, with file and line.
        """
        from connectors.component_files import DESTINATION, find
        from connectors.destinations.settings import missing_secrets
        from orchestration.expectations import load_suites

        faults: list[str] = []
        destinations: dict[str, Settings] = {}
        try:
            destinations = self.destinations()
        except ConfigError as error:
            faults += str(error).splitlines()
        files = {file.parent.name: file for file in find(self.defs, DESTINATION)}
        named = destinations or files
        audiences, wrong = self._read_audiences(named)
        faults += wrong
        try:
            load_suites(self.defs)
        except ConfigError as error:
            faults += str(error).splitlines()
        used = {name for audience in audiences.values() for name in audience.sync_to}
        if not with_variables:
            used = set()
        needed = {name: destinations[name] for name in used & {*destinations}}
        for name, key, variable in missing_secrets(needed, os.environ):
            file = ConfigFile(files[name])
            faults.append(
                f"{file.place('attributes', key)}: set the environment variable "
                f"{variable}; `make demo` writes one for the demo into .env."
            )
        if faults:  # a file of no known type is told of twice
            raise ConfigError("\n".join(dict.fromkeys(faults)))

    def _read_audiences(
        self, destinations: Mapping[str, object]
    ) -> tuple[dict[str, Audience], list[str]]:
        return read_audiences(self.path / "models" / "audiences", destinations)

    def dbt_vars(self) -> dict[str, Any]:
        """Return the dbt variables with the configuration the models need."""
        return {
            "audiences": list(self._read_audiences({})[0]),
            "destinations": {
                name: {
                    "identifiers": list(settings.identifiers),
                    "consent": list(settings.consent),
                    "resend_after_days": settings.resend_after_days,
                }
                for name, settings in self.destinations().items()
            },
        }


def _default_memory_limit() -> str:
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{min(machine // 4, MOST_MEMORY) >> 20}MiB"


def find_project_path() -> Path:
    """Find the project by LOOMLINE_PROJECT, or upward from the working directory.

    Raises:
        ConfigError: no project was found.
    """
    configured = os.environ.get("LOOMLINE_PROJECT")
    start = Path(configured).absolute() if configured else Path.cwd()
    for path in [start] if configured else [start, *start.parents]:
        if (path / MARK).is_file():
            return path
    raise ConfigError(
        f"No Loomline project in {start}{'' if configured else ' or above it'}: "
        "change into one, or set LOOMLINE_PROJECT to its folder."
    )


def instant(as_of: str | None, env: Mapping[str, str] = os.environ) -> datetime:
    """Return the as-of instant: `--as-of`, else LOOMLINE_NOW, else the current time.

    Raises:
        ConfigError: the text is not an ISO 8601 instant.
    """
    text = as_of or env.get("LOOMLINE_NOW")
    if not text:
        return datetime.now(UTC)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"{text!r} is not an instant; write it like 2026-05-01T00:00:00Z."
        ) from None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
