"""A suite of expectations about one table, as a Dagster component."""

from typing import Any

import dagster as dg
from pydantic import BaseModel

from orchestration.components.scaffolds import naming_keys, write_defs
from orchestration.expectations.suites import Settings

__all__ = ["CheckSuite"]

EXAMPLE = """\
table: profiles.profiles
expectations:
  - name: there_are_profiles
    description: At least one profile exists.
    severity: warning               # critical stops pushes
    type: expect_table_row_count_to_be_between
    kwargs: {min_value: 1}
"""


class _Attributes(Settings):
    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return naming_keys(Settings)


class CheckSuiteScaffolder(dg.Scaffolder):
    """Writes a suite with one expectation."""

    def scaffold(self, request: dg.ScaffoldRequest[Any]) -> None:
        write_defs(request, EXAMPLE)


@dg.scaffold_with(CheckSuiteScaffolder)
class CheckSuite(dg.Component):
    """Great Expectations on one table of the warehouse; each is an asset check."""

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        return _Attributes

    @classmethod
    def load(
        cls, attributes: BaseModel | None, context: dg.ComponentLoadContext
    ) -> "CheckSuite":
        return cls()

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Return no definitions: `graph` runs the checks of all suites in one step.

        Great Expectations takes seconds to start. One step also reports all suites that
        fail, not only the first.
        """
        return dg.Definitions()
