"""A configured account at a destination, as a Dagster component."""

from typing import Any, Self

import dagster as dg
from pydantic import BaseModel, RootModel

from connectors.destinations.settings import Settings, kinds, settings_model
from connectors.home import Home
from orchestration.assets.checks import checked_assets
from orchestration.assets.sync_assets import push_assets
from orchestration.components.scaffolds import naming_keys, write_defs
from orchestration.expectations import load_suites
from orchestration.project import Project

__all__ = ["Destination"]


class _Attributes(RootModel[dict[str, Any]]):
    """Attributes of a destination; `kind` decides which keys exist."""

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return one schema per kind, so that a fault is reported at its key and line.

        For the `oneOf` that pydantic generates, jsonschema only reports "matches none".
        """
        schemas = {kind: naming_keys(settings_model(kind)) for kind in kinds()}
        return {
            "type": "object",
            "required": ["kind"],
            "properties": {"kind": {"enum": [*schemas]}},
            "$defs": {
                name: model
                for schema in schemas.values()
                for name, model in schema.pop("$defs", {}).items()
            },
            "allOf": [
                {"if": {"properties": {"kind": {"const": kind}}}, "then": schema}
                for kind, schema in schemas.items()
            ],
        }


COMMON = (
    "identifiers: [profile_id, user_id, email]",
    "# consent: [advertising]            # excludes profiles that denied one",
    "# resend_after_days: 400            # resends before the receiver forgets",
    "# limits: {max_change_ratio: 0.3}   # blocks larger changes",
)


class Scaffolding(BaseModel):
    kind: str = "webhook"


class DestinationScaffolder(dg.Scaffolder[Scaffolding]):
    """Writes the required attributes of the kind chosen with `--kind`."""

    @classmethod
    def get_scaffold_params(cls) -> type[Scaffolding]:
        return Scaffolding

    def scaffold(self, request: dg.ScaffoldRequest[Scaffolding]) -> None:
        kind = request.params.kind
        lines = [f"kind: {kind}"]
        for key, field in settings_model(kind).model_fields.items():
            if key.endswith("_env"):
                account = request.target_path.name.replace("-", "_")
                variable = f"{account}_{key.removesuffix('_env')}".upper()
                lines.append(f"{key}: {variable}")
            elif field.is_required() and key != "kind":
                lines.append(f"{key}: {(field.examples or ['…'])[0]}")
        write_defs(request, "\n".join([*lines, *COMMON]))


@dg.scaffold_with(DestinationScaffolder)
class Destination(dg.Component):
    """An account that audiences are synced to, by its name in their `sync_to`.

    Has one asset per audience that is synced there. Its name is the folder's.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        return _Attributes

    @classmethod
    def load(
        cls, attributes: BaseModel | None, context: dg.ComponentLoadContext
    ) -> Self:
        assert isinstance(attributes, _Attributes)
        model = settings_model(str(attributes.root.get("kind")))
        return cls(model.model_validate(attributes.root))

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        project = Project(context.project_root, Home.from_env())
        return dg.Definitions(
            push_assets(
                project.audiences(),
                {context.path.name: self._settings},
                checked_assets(load_suites(project.defs)),
            )
        )
