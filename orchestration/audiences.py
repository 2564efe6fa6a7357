"""What is said of an audience beside its SQL: where it goes, how often, whose it is."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from connectors.config_files import ConfigFile
from connectors.errors import ConfigError

__all__ = ["REFRESHES", "Audience", "Refresh", "read_audiences"]

Refresh = Literal["continuous", "hourly", "daily"]
REFRESHES: tuple[Refresh, ...] = get_args(Refresh)


@dataclass(frozen=True, slots=True)
class Audience:
    """An audience model, `aud_…`, and its `config.meta`."""

    name: str
    sync_to: tuple[str, ...] = ()  # names of destinations
    refresh: Refresh = "daily"
    owner: str | None = None


def read_audiences(
    folder: Path, destinations: Mapping[str, object]
) -> tuple[dict[str, Audience], list[str]]:
    """Every `aud_*.sql` of the folder by name, and the faults of the files beside them.

    Other keys under `config.meta` are the team's own.
    """
    audiences = {
        path.stem: Audience(path.stem) for path in sorted(folder.glob("**/aud_*.sql"))
    }
    faults: list[str] = []
    for path in sorted([*folder.glob("**/*.yml"), *folder.glob("**/*.yaml")]):
        try:
            file = ConfigFile(path)
        except ConfigError as error:
            faults.append(str(error))
            continue
        for number, model in _audience_entries(file):
            name = model["name"]
            if name not in audiences:
                faults.append(
                    f"{file.place('models', number, 'name')}: there is no {name}.sql "
                    f"in {folder}."
                )
                continue
            meta = model.get("config", {}).get("meta", {})
            wrong = list(_faults(file, number, meta, destinations))
            faults += wrong
            if not wrong:
                audiences[name] = Audience(
                    name,
                    tuple(meta.get("sync_to", ())),
                    meta.get("refresh", "daily"),
                    meta.get("owner"),
                )
    return audiences, faults


def _audience_entries(file: ConfigFile) -> Iterator[tuple[int, dict[str, Any]]]:
    content = file.content if isinstance(file.content, dict) else {}
    models = content.get("models") or []
    for number, model in enumerate(models if isinstance(models, list) else []):
        # dbt itself says what else may be wrong with an entry.
        if isinstance(model, dict) and str(model.get("name", "")).startswith("aud_"):
            yield number, cast(dict[str, Any], model)


def _faults(
    file: ConfigFile, number: int, meta: object, destinations: Mapping[str, object]
) -> Iterator[str]:
    here = ("models", number, "config", "meta")
    if not isinstance(meta, dict):
        yield f"{file.place(*here)}: `meta` must hold keys."
        return
    sync_to = meta.get("sync_to", [])
    place = file.place(*here, "sync_to")
    if not isinstance(sync_to, list) or len({*map(str, sync_to)}) < len(sync_to):
        yield f"{place}: `sync_to` must be a list of different destinations."
    else:
        known = ", ".join(sorted(destinations)) or "none"
        for name in sync_to:
            if name not in destinations:
                yield (
                    f"{place}: `sync_to` names {name}, but there is no "
                    f"orchestration/defs/destinations/{name}/defs.yaml; there are: "
                    f"{known}."
                )
    if meta.get("refresh", "daily") not in REFRESHES:
        yield (
            f"{file.place(*here, 'refresh')}: `refresh` must be one of: "
            f"{', '.join(REFRESHES)}."
        )
    if not isinstance(meta.get("owner", ""), str):
        yield f"{file.place(*here, 'owner')}: `owner` must be text."
