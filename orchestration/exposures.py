"""The configured destinations, as dbt's exposures.

dbt reads exposures from YAML alone, and a list beside the models would be a second
place to enter a destination. So the `dbt` command writes them; see
docs/decisions/0014.
"""

import os
from typing import Any

import yaml

from orchestration.project import Project

__all__ = ["write_exposures"]

SYNC_MODELS = ("sync_members", "sync_delta")


def write_exposures(project: Project) -> None:
    """Write one exposure per destination to where `dbt_project.yml` looks for them.

    Raises:
        ConfigError: the file of a destination or an audience is faulty.
    """
    target = project.path / os.environ.get("DBT_TARGET_PATH", "target")
    path = target / "exposures" / "destinations.yml"
    written = yaml.safe_dump({"exposures": _exposures(project)}, sort_keys=False)
    if path.exists() and path.read_text(encoding="utf-8") == written:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(str(os.getpid()))  # another dbt may be reading
    scratch.write_text(written, encoding="utf-8")
    scratch.replace(path)


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
