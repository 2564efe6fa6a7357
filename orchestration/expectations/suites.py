"""Reads expectations about the warehouse from `<folder>/<suite>/defs.yaml`.

    type: orchestration.components.CheckSuite
    attributes:
      table: identity.identity_health
      expectations:
        - name: largest_profile
          description: No profile holds more identifiers than a person plausibly has.
          severity: critical
          type: expect_column_max_to_be_between
          kwargs: {column: count_identifiers_largest, max_value: 1000}

`type` is one of Great Expectations' own, with its own `kwargs`, or
`unexpected_rows_expectation` with an `unexpected_rows_query` that reads `{batch}`, the
suite's table; `show` then names one of its columns whose values may be shown, such as
names of sources or audiences, never of people.

Great Expectations takes seconds to import, so loading does without it: its types and
their kwargs are checked when suites are validated.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from connectors.component_files import CHECK_SUITE, attribute_faults, read
from connectors.config_files import ConfigFile
from connectors.errors import ConfigError

__all__ = ["Expectation", "Outcome", "Settings", "Severity", "Suite", "load_suites"]

Severity = Literal["critical", "warning"]

CUSTOM_SQL = "unexpected_rows_expectation"

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_TYPE = re.compile(rf"expect_[a-z0-9_]+|{CUSTOM_SQL}")

# Computed in Python only, or in SQL only for databases Great Expectations knows by
# name: with a regex or LIKE it raises "not supported for dialect duckdb".
_NOT_IN_DUCKDB = re.compile(
    r".*(_regex|_like_pattern)(_list)?|expect_column_values_to_"
    r"(be_dateutil_parseable|be_json_parseable|match_json_schema|match_strftime_format"
    r"|be_increasing|be_decreasing)"
)

# Every type accepts these, but a file must not change how results are stored.
OURS = {
    *("batch_id", "catch_exceptions", "description", "id", "meta", "notes"),
    *("rendered_content", "result_format", "severity", "windows"),
}


@dataclass(frozen=True, slots=True)
class Expectation:
    """One condition that must hold, and where it is written.

    `lines` has the line of each key, those of `kwargs` as `kwargs.<key>`.
    """

    name: str
    description: str
    severity: Severity
    type: str
    kwargs: Mapping[str, Any]
    show: str | None
    line: int
    lines: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Suite:
    """The expectations of one table, `schema.table` in the warehouse."""

    name: str
    file: Path
    table: str
    expectations: tuple[Expectation, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one expectation; of text columns only values it may `show`."""

    suite: str
    name: str
    passed: bool
    severity: Severity
    observed: str
    message: str  # expected and observed, in one sentence
    metadata: Mapping[str, int | float | str]


def load_suites(folder: Path) -> dict[str, Suite]:
    """Return suites by name; none if the folder does not exist.

    Raises:
        ConfigError: lists every fault of every file, with its line and what is allowed.
    """
    files, faults = read(folder, CHECK_SUITE)
    suites: dict[str, Suite] = {}
    for name, file in sorted(files.items()):
        suite = _suite(name, file)
        if isinstance(suite, Suite):
            suites[name] = suite
        else:
            faults += suite
    if faults:
        raise ConfigError("\n".join(faults))
    return suites


class _Entry(BaseModel):
    """An expectation as written."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(pattern=rf"^{_NAME.pattern}$")]
    description: Annotated[str, Field(min_length=1)]
    severity: Severity
    type: str
    kwargs: dict[str, Any] = Field(default={}, validate_default=True)
    show: Annotated[str, Field(pattern=rf"^{_NAME.pattern}$")] | None = None

    @field_validator("type")
    @classmethod
    def _can_be_computed(cls, value: str) -> str:
        if value == "UnexpectedRowsExpectation":
            return CUSTOM_SQL
        if not _TYPE.fullmatch(value):
            raise ValueError(
                f"must be a type of Great Expectations (expect_…) or {CUSTOM_SQL}"
            )
        if _NOT_IN_DUCKDB.fullmatch(value):
            raise ValueError(
                f"{value} does not work on DuckDB; use {CUSTOM_SQL} with a query for "
                "the rows that should not exist, such as: select 1 from {batch} "
                "where not regexp_matches(country, '^[A-Z]{{2}}$')"
            )
        return value

    @field_validator("kwargs")
    @classmethod
    def _reads_the_table(
        cls, value: dict[str, Any], info: ValidationInfo
    ) -> dict[str, Any]:
        if ours := sorted(OURS & value.keys()):
            raise ValueError(f"{', '.join(ours)} cannot be set here")
        type_ = info.data.get("type")
        bounds = {"min_value", "max_value"}
        if (
            str(type_).endswith("_to_be_between")
            and "quantile_ranges" not in value
            and all(value.get(bound) is None for bound in bounds)
        ):
            raise ValueError("always holds; set min_value, max_value or both")
        if type_ == CUSTOM_SQL:
            query = value.get("unexpected_rows_query")
            if not isinstance(query, str) or "{batch}" not in query:
                raise ValueError(
                    "unexpected_rows_query must be a select from {batch}, which stands "
                    "for the suite's table"
                )
        return value

    @field_validator("show")
    @classmethod
    def _is_of_a_query(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("type", CUSTOM_SQL) != CUSTOM_SQL:
            raise ValueError(f"is only for {CUSTOM_SQL}")
        return value


class Settings(BaseModel):
    """The `attributes` of a suite."""

    model_config = ConfigDict(extra="forbid")

    table: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*$")]
    expectations: Annotated[list[_Entry], Field(min_length=1)]


def _suite(name: str, file: ConfigFile) -> Suite | list[str]:
    """Return the suite of one file, or its faults."""
    if not _NAME.fullmatch(name):
        return [
            f"{file.path.parent}: a suite's name is lower case letters, digits and _."
        ]
    try:
        written = Settings.model_validate(file.content["attributes"])
    except ValidationError as error:
        return [*attribute_faults(file, Settings, error)]
    faults: list[str] = []
    expectations: dict[str, Expectation] = {}
    for position, entry in enumerate(written.expectations):
        own = ("attributes", "expectations", position)
        line = file.line((*own, "name"))
        if entry.name in expectations:
            faults.append(
                f"{file.path}, line {line}: the name `{entry.name}` is already used in "
                f"line {expectations[entry.name].line}; names in a suite must differ."
            )
            continue
        lines = {key: file.line((*own, key)) for key in _Entry.model_fields}
        lines |= {
            f"kwargs.{key}": file.line((*own, "kwargs", key)) for key in entry.kwargs
        }
        expectations[entry.name] = Expectation(
            **entry.model_dump(), line=line, lines=lines
        )
    return faults or Suite(name, file.path, written.table, tuple(expectations.values()))
