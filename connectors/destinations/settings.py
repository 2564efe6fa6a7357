"""Reads the configured destinations, components whose `defs.yaml` has that type.

A kind is a module of this package with a model `Settings` and a function
`connect(name, settings, env, transport=None)`. To add a kind, add a module.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Protocol, cast

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from connectors import destinations
from connectors.component_files import DESTINATION, attribute_faults, read
from connectors.config_files import ConfigFile
from connectors.destinations.protocol import Destination
from connectors.errors import ConfigError

__all__ = [
    "EnvName",
    "Limits",
    "Settings",
    "expand",
    "kinds",
    "load_destinations",
    "missing_secrets",
    "open_destination",
    "settings_model",
]

# Upper case only, so that a secret pasted instead of its variable's name is refused.
EnvName = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")]

_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_REFERENCE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


class Limits(BaseModel):
    """Limits beyond which nothing is sent until they are raised."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_change_ratio: float | None = Field(default=None, gt=0)
    max_change_rows: int | None = Field(default=None, ge=0)
    min_rows: int | None = Field(default=None, ge=0)


class Settings(BaseModel):
    """The keys common to all kinds; a kind adds keys and may change defaults.

    A key ending in `_env` holds the name of an environment variable.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    batch_rows: int = Field(default=500, ge=1)
    identifiers: tuple[str, ...] = Field(
        default=("profile_id", "user_id", "email"), min_length=1
    )
    consent: tuple[str, ...] = ()  # a profile that denied one of these is left out
    resend_after_days: int | None = Field(default=None, ge=1)
    limits: Limits = Limits()


class _Kind(Protocol):
    @property
    def Settings(self) -> type[BaseModel]: ...  # noqa: N802 (a class in each kind)

    def connect(
        self,
        name: str,
        settings: Any,  # of this module's own model
        env: Mapping[str, str],
        transport: httpx.BaseTransport | None = None,
    ) -> Destination: ...


def kinds() -> list[str]:
    """Return the names of the available kinds."""
    names = (module.name for module in pkgutil.iter_modules(destinations.__path__))
    return sorted(name for name in names if _kind(name) is not None)


def settings_model(kind: str) -> type[Settings]:
    """Return the model of a kind's settings.

    Raises:
        ConfigError: there is no such kind.
    """
    module = _kind(kind)
    if module is None:
        raise ConfigError(_unknown_kind(kind))
    return cast(type[Settings], module.Settings)


def load_destinations(folder: Path) -> dict[str, Settings]:
    """Return settings by destination name; none if the folder does not exist.

    Raises:
        ConfigError: lists every fault of every file with its key and the allowed
            values, never the value itself.
    """
    files, faults = read(folder, DESTINATION)
    by_name: dict[str, Settings] = {}
    for name, file in sorted(files.items()):
        settings = _settings(name, file)
        if isinstance(settings, Settings):
            by_name[name] = settings
        else:
            faults += settings
    if faults:
        raise ConfigError("\n".join(faults))
    return by_name


def open_destination(
    name: str,
    settings: Settings,
    env: Mapping[str, str],
    transport: httpx.BaseTransport | None = None,
) -> Destination:
    """Return the destination, ready to send; nothing has been sent yet.

    Raises:
        ConfigError: an environment variable is missing or its value is not usable.
    """
    kind = _kind(settings.kind)
    if kind is None:
        raise ConfigError(_unknown_kind(name))
    return kind.connect(name, settings, env, transport)


def missing_secrets(
    settings_by_name: Mapping[str, Settings], env: Mapping[str, str]
) -> list[tuple[str, str, str]]:
    """Return unset or empty variables of these destinations: (name, key, variable).

    A key ending in `_env` names a variable, and so does `${VARIABLE}` in a text.
    """
    needed: list[tuple[str, str, str]] = []
    for name, settings in settings_by_name.items():
        for key, value in settings:
            if isinstance(value, str) and key.endswith("_env"):
                needed.append((name, key, value))
            elif isinstance(value, str):
                needed += (
                    (name, key, variable)
                    for variable, default in _REFERENCE.findall(value)
                    if not default
                )
    return [entry for entry in needed if not env.get(entry[2])]


def expand(name: str, text: str, env: Mapping[str, str]) -> str:
    """Return `text` with `${VAR}` and `${VAR:-default}` replaced.

    Raises:
        ConfigError: a variable without default is unset or empty.
    """

    def value(reference: re.Match[str]) -> str:
        replacement = env.get(reference[1]) or reference[2]
        if not replacement:
            raise ConfigError(
                f"{name}: the environment variable {reference[1]} is not set."
            )
        return replacement

    return _REFERENCE.sub(value, text)


def _kind(name: str) -> _Kind | None:
    """Return a kind's module; None if it does not exist or is not a kind."""
    module = f"{destinations.__name__}.{name}"
    if not name.isidentifier() or importlib.util.find_spec(module) is None:
        return None
    kind = importlib.import_module(module)
    return cast(_Kind, kind) if hasattr(kind, "connect") else None


def _unknown_kind(where: object) -> str:
    return f"{where}: `kind` must be one of: {', '.join(kinds())}."


def _settings(name: str, file: ConfigFile) -> Settings | list[str]:
    """Return the settings of one file, or its faults."""
    if not _NAME.fullmatch(name):
        return [
            f"{file.path.parent}: a destination's name is lower case letters, digits, "
            "_ and -."
        ]
    attributes = file.content["attributes"]
    written = attributes.get("kind")
    kind = _kind(written) if isinstance(written, str) else None
    if kind is None:
        return [_unknown_kind(file.place("attributes", "kind"))]
    try:
        return cast(Settings, kind.Settings.model_validate(attributes))
    except ValidationError as error:
        return [*attribute_faults(file, kind.Settings, error)]
