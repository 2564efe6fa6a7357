"""Where the project and its home are, and what its configuration names."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dotenv import dotenv_values, load_dotenv

from connectors.destinations.settings import Settings, load_destinations
from connectors.errors import ConfigError
from connectors.landing.home import Home

__all__ = ["NO_TELEMETRY", "Project", "find_project_path", "instant"]

MARK = "dbt_project.yml"

NO_TELEMETRY = {
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    "DAGSTER_DISABLE_TELEMETRY": "yes",
    "SQLMESH__DISABLE_ANONYMIZED_ANALYTICS": "true",
}


@dataclass(frozen=True, slots=True)
class Project:
    """A checkout and the home folder it works on."""

    path: Path
    home: Home

    @classmethod
    def find(cls) -> "Project":
        """The project's own `.env` is read; what the environment holds already wins.

        Leaves LOOMLINE_HOME absolute, and the telemetry of the tools below off.

        Raises:
            ConfigError: no project found.
        """
        path = find_project_path()
        written = dotenv_values(path / ".env")
        load_dotenv(path / ".env")
        # The demo's instant is for the demo's home: with another one it would stop the
        # clock of a real installation.
        if os.environ.get("LOOMLINE_HOME") != written.get("LOOMLINE_HOME") and (
            os.environ.get("LOOMLINE_NOW") == written.get("LOOMLINE_NOW")
        ):
            os.environ.pop("LOOMLINE_NOW", None)
        home = Path(os.environ.get("LOOMLINE_HOME") or "data")
        os.environ["LOOMLINE_HOME"] = str(path / home)
        for name, value in NO_TELEMETRY.items():
            os.environ.setdefault(name, value)
        return cls(path, Home.from_env())

    def audiences(self) -> list[str]:
        """Names of the audience models, `aud_…`."""
        folder = self.path / "models" / "audiences"
        return sorted(path.stem for path in folder.glob("**/aud_*.sql"))

    def destinations(self) -> dict[str, Settings]:
        """The configured destinations by name.

        Raises:
            ConfigError: every fault of every file, in one message.
        """
        return load_destinations(self.path / "orchestration" / "defs" / "destinations")

    def dbt_vars(self) -> dict[str, Any]:
        """What the models cannot find out themselves, as dbt variables."""
        return {
            "audiences": self.audiences(),
            "destinations": {
                name: {
                    "identifiers": list(settings.identifiers),
                    "consent": list(settings.consent),
                    "refresh_after_days": settings.refresh_after_days,
                }
                for name, settings in self.destinations().items()
            },
        }


def find_project_path() -> Path:
    """By LOOMLINE_PROJECT, or upward from the working directory.

    Raises:
        ConfigError: no project there.
    """
    given = os.environ.get("LOOMLINE_PROJECT")
    start = Path(given).absolute() if given else Path.cwd()
    for path in [start] if given else [start, *start.parents]:
        if (path / MARK).is_file():
            return path
    raise ConfigError(
        f"No Loomline project in {start}{'' if given else ' or above it'}: "
        "change into one, or set LOOMLINE_PROJECT to its folder."
    )


def instant(as_of: str | None, env: Mapping[str, str] = os.environ) -> datetime:
    """The instant of evaluation: `--as-of`, else LOOMLINE_NOW, else the clock's.

    Raises:
        ConfigError: no ISO 8601 instant.
    """
    text = as_of or env.get("LOOMLINE_NOW")
    if not text:
        return datetime.now(UTC)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"{text!r} is no instant; write it like 2026-05-01T00:00:00Z."
        ) from None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
