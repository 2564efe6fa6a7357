"""Reads the `defs.yaml` of Dagster components without Dagster.

    type: orchestration.components.Destination
    attributes: {kind: file, …}

`type` is read as text, so that commands that do not need Dagster do not import it. A
component is named after its folder, anywhere below `orchestration/defs`.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from connectors.config_files import ConfigFile, nearest
from connectors.errors import ConfigError

__all__ = ["CHECK_SUITE", "DESTINATION", "attribute_faults", "find", "read"]

DESTINATION = "orchestration.components.Destination"
CHECK_SUITE = "orchestration.components.CheckSuite"

_OURS = "orchestration."
_TYPES = (CHECK_SUITE, DESTINATION)
_KEYS = (
    *("type", "attributes"),
    *("post_processing", "requirements", "template_vars_module"),  # for Dagster only
)

_TYPE = re.compile(r"""^type:\s*["']?([\w.]+)""", re.MULTILINE)


def find(folder: Path, type_: str) -> Iterator[Path]:
    """Yield the `defs.yaml` of every component of a type, and those of unknown type."""
    for file in _files(folder):
        written = _type(file)
        is_unknown = not written or (
            written.startswith(_OURS) and written not in _TYPES
        )
        if written == type_ or is_unknown:
            yield file


def read(folder: Path, type_: str) -> tuple[dict[str, ConfigFile], list[str]]:
    """Return the files of a type by component name, and the faults of their form."""
    components: dict[str, ConfigFile] = {}
    faults: list[str] = []
    for path in find(folder, type_):
        name = path.parent.name
        if not path.exists():
            faults.append(f"{path}: missing; every folder here is a component.")
            continue
        try:
            file = ConfigFile(path)
        except ConfigError as error:
            faults += str(error).splitlines()
            continue
        if wrong := [*_form(file)]:
            faults += wrong
        elif name in components:
            other = components[name].path.parent
            faults.append(f"{path}: {other} already has this name; rename one.")
        else:
            components[name] = file
    return components, faults


def attribute_faults(
    file: ConfigFile, model: type[BaseModel], error: ValidationError
) -> Iterator[str]:
    """Yield pydantic's faults of `attributes`, with lines, never with the value."""
    for fault in error.errors(include_input=False, include_url=False):
        keys = ("attributes", *fault["loc"])
        place = file.place(*keys)
        key = ".".join(str(part) for part in fault["loc"])
        match fault["type"]:
            case "extra_forbidden":
                yield file.unknown(_holder(model, fault["loc"]).model_fields, *keys)
            case "model_type":
                allowed = _holder(model, (*fault["loc"], "")).model_fields
                yield (
                    f"{place}: `{key}` must be a mapping with: "
                    f"{', '.join(sorted(allowed))}."
                )
            case "value_error":
                yield f"{place}: `{key}`: {fault['ctx']['error']}."
            case _:
                yield f"{place}: `{key}`: {fault['msg']}."


def _holder(model: type[BaseModel], keys: Iterable[str | int]) -> type[BaseModel]:
    """Return the model that contains the last key, below `model`."""
    *above, _ = keys
    for key in above:
        if isinstance(key, str):
            annotation = model.model_fields[key].annotation
            (model,) = (
                kind
                for kind in (annotation, *get_args(annotation))
                if isinstance(kind, type) and issubclass(kind, BaseModel)
            )
    return model


def _files(folder: Path) -> Iterator[Path]:
    """Yield the `defs.yaml` of every component folder, also where it is missing."""
    for place in sorted(folder.rglob("*/")) if folder.is_dir() else []:
        inside = place.relative_to(folder).parts
        if any(part.startswith((".", "_")) for part in inside):
            continue
        file = place / "defs.yaml"
        if file.exists() or not any(
            path.is_dir() or path.suffix == ".py" for path in place.iterdir()
        ):
            yield file


def _type(file: Path) -> str | None:
    try:
        written = _TYPE.search(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None  # reported when it is read as YAML
    return written[1] if written else None


def _form(file: ConfigFile) -> Iterator[str]:
    content: Any = file.content
    if not isinstance(content, dict) or "type" not in content:
        yield (
            f"{file.place()}: `type` is missing; write one of {', '.join(_TYPES)}, and "
            "its keys under `attributes`."
        )
        return
    for key in content:
        if key not in _KEYS:
            yield file.unknown(_KEYS, key)
    if (written := str(content["type"])) not in _TYPES:
        yield (
            f"{file.place('type')}: there is no {written}; choose from: "
            f"{', '.join(_TYPES)}.{nearest(written, _TYPES)}"
        )
    if not isinstance(content.get("attributes"), dict):
        yield f"{file.place('attributes')}: `attributes` must be a mapping."
