"""Reads the YAML of audience models: destinations, refresh, owner."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from connectors.config_files import ConfigFile, nearest
from connectors.errors import ConfigError

__all__ = ["DAILY_HOUR", "REFRESHES", "Audience", "Refresh", "read_audiences"]

Refresh = Literal["continuous", "hourly", "daily"]
REFRESHES: tuple[Refresh, ...] = get_args(Refresh)

DAILY_HOUR = 3
"""The hour, in UTC, at which `daily` audiences are evaluated."""

META = ("sync_to", "refresh", "owner")
"""Supported keys of `config.meta`."""

NOT_YET = ("on_enter", "cooldown_days")

ENTRY = (
    *("access", "columns", "config", "constraints", "data_tests", "deprecation_date"),
    *("description", "docs", "latest_version", "name", "tests", "time_spine"),
    "versions",
)
"""Keys of a model's entry that dbt reads. It silently ignores others. `meta` is read
here only below `config`."""


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
    """Return every `aud_*.sql` of the folder by name, and the faults of its YAML files.

    An unknown key is a fault, because it is most likely a typo.
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
            wrong = list(_faults(file, number, model, destinations))
            faults += wrong
            if not wrong:
                meta = model.get("config", {}).get("meta", {})
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
        # dbt itself reports other faults of an entry.
        if isinstance(model, dict) and str(model.get("name", "")).startswith("aud_"):
            yield number, cast(dict[str, Any], model)


def _faults(
    file: ConfigFile,
    number: int,
    model: dict[str, Any],
    destinations: Mapping[str, object],
) -> Iterator[str]:
    entry = ("models", number)
    here = (*entry, "config", "meta")
    for key in model:
        if key in ("meta", *META, *NOT_YET):
            yield _misplaced(file, *entry, key)
        elif key not in ENTRY:
            yield file.unknown(ENTRY, *entry, key)
    config = model.get("config", {})
    if not isinstance(config, dict):
        yield f"{file.place(*entry, 'config')}: `config` must be a mapping."
        return
    for key in config:
        if key in (*META, *NOT_YET):  # others may belong to an adapter
            yield _misplaced(file, *entry, "config", key)
    meta = config.get("meta", {})
    if not isinstance(meta, dict):
        yield f"{file.place(*here)}: `meta` must be a mapping."
        return
    for key in meta:
        if key in NOT_YET:
            yield f"{file.place(*here, key)}: `{key}` is not supported yet; remove it."
        elif key not in META:
            yield file.unknown(META, *here, key)
    sync_to = meta.get("sync_to", [])
    place = file.place(*here, "sync_to")
    if not isinstance(sync_to, list) or len({*map(str, sync_to)}) < len(sync_to):
        yield f"{place}: `sync_to` must be a list of distinct destinations."
    else:
        known = ", ".join(sorted(destinations)) or "none"
        for name in sync_to:
            if name not in destinations:
                yield (
                    f"{place}: `sync_to` names {name}, but there is no "
                    f"orchestration/defs/destinations/{name}/defs.yaml; configured: "
                    f"{known}.{nearest(str(name), destinations)}"
                )
    if meta.get("refresh", "daily") not in REFRESHES:
        yield (
            f"{file.place(*here, 'refresh')}: `refresh` must be one of: "
            f"{', '.join(REFRESHES)}."
        )
    if not isinstance(meta.get("owner", ""), str):
        yield f"{file.place(*here, 'owner')}: `owner` must be text."


def _misplaced(file: ConfigFile, *keys: str | int) -> str:
    where = "config" if keys[-1] == "meta" else "config.meta"
    return (
        f"{file.place(*keys)}: `{keys[-1]}` has no effect here; move it to `{where}`."
    )
