"""The configured destinations, as dbt's exposures.

dbt reads exposures from YAML alone, and a list beside the models would be a second
place to enter a destination. So the `dbt` command writes them; see
docs/decisions/0014.
"""

import os
from collections.abc import Iterator
from typing import Any

import yaml

from connectors.component_files import DESTINATION, find
from connectors.config_files import ConfigFile
from connectors.errors import ConfigError
from orchestration.project import Project

__all__ = ["write_exposures"]

SYNC_MODELS = ("sync_members", "sync_delta")


def write_exposures(project: Project) -> None:
    """Write one exposure per destination to where `dbt_project.yml` looks for them.

    Raises:
        ConfigError: the file of a destination or an audience is faulty, or an exposure
            of the project has the name of a destination.
    """
    target = project.path / os.environ.get("DBT_TARGET_PATH", "target")
    path = target / "exposures" / "destinations.yml"
    written = yaml.safe_dump({"exposures": _exposures(project)}, sort_keys=False)
    if faults := [*_duplicates(project)]:
        raise ConfigError("\n".join(faults))
    if path.exists() and path.read_text(encoding="utf-8") == written:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(str(os.getpid()))  # another dbt may be reading
    scratch.write_text(written, encoding="utf-8")
    scratch.replace(path)


def _duplicates(project: Project) -> Iterator[str]:
    """Yield exposures of the project with the name of a destination.

    dbt would refuse them, too, but point to the file written here.
    """
    destinations = {file.parent.name: file for file in find(project.defs, DESTINATION)}
    for path in sorted((project.path / "models").rglob("*.y*ml")):
        if "exposures:" not in path.read_text(encoding="utf-8"):
            continue
        file = ConfigFile(path)
        for index, name in _exposure_names(file.content):
            if name in destinations:
                yield (
                    f"{file.place('exposures', index)}: {destinations[name]} already "
                    f"makes an exposure `{name}`; rename one."
                )


def _exposure_names(content: Any) -> Iterator[tuple[int, str]]:
    """Yield the names of a file's exposures; what is no exposure is dbt's to refuse."""
    exposures = content.get("exposures") if isinstance(content, dict) else None
    for index, exposure in enumerate(exposures if isinstance(exposures, list) else ()):
        if isinstance(exposure, dict):
            yield index, str(exposure.get("name"))


def _exposures(project: Project) -> list[dict[str, Any]]:
    audiences = project.audiences().values()
    found = []
    for name, settings in project.destinations().items():
        synced = [audience for audience in audiences if name in audience.sync_to]
        owners = {audience.owner for audience in synced if audience.owner}
        names = ", ".join(f"`{audience.name}`" for audience in synced)
        found.append(
            {
                "name": name,
                "type": "application",
                "owner": {"name": ", ".join(sorted(owners)) or "no owner"},
                "description": f"Receives {names or 'no audience'} ({settings.kind}).",
                "depends_on": [f"ref('{model}')" for model in SYNC_MODELS],
            }
        )
    return found
