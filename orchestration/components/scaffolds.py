"""Scaffolds and JSON Schemas of `defs.yaml` files, for `dg`."""

from typing import Any

import dagster as dg
from pydantic import BaseModel

from connectors.errors import ConfigError

__all__ = ["naming_keys", "write_defs"]


def write_defs(request: dg.ScaffoldRequest[Any], attributes: str) -> None:
    """Write a `defs.yaml` with comments, which Dagster's own writer drops.

    Raises:
        ConfigError: the format is not YAML. Commands that do not load Dagster read the
            file as text.
    """
    if request.scaffold_format != "yaml" or request.append:
        raise ConfigError(
            f"{request.type_name} needs its own defs.yaml. Use `--format yaml`."
        )
    lines = [f"type: {request.type_name}", "attributes:"]
    lines += [f"  {line}" for line in attributes.splitlines()]
    (request.target_path / "defs.yaml").write_text("\n".join(lines) + "\n")


def naming_keys(model: type[BaseModel]) -> dict[str, Any]:
    """Return a model's JSON Schema that reports unknown keys with the known ones.

    With only `additionalProperties`, `dg check yaml` names just the unknown key.
    """
    schema = model.model_json_schema()
    for part in (schema, *schema.get("$defs", {}).values()):
        if part.get("additionalProperties") is False:
            part["propertyNames"] = {"enum": sorted(part["properties"])}
    return schema
