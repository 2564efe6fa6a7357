"""Reads expectations about the warehouse from `<folder>/<suite>/defs.yaml`.

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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from connectors.errors import ConfigError

__all__ = ["Expectation", "Outcome", "Severity", "Suite", "load_suites"]

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
    suites: dict[str, Suite] = {}
    faults: list[str] = []
    for place in sorted(folder.iterdir()) if folder.is_dir() else []:
        if not place.is_dir() or place.name.startswith((".", "_")):
            continue
        read = _read(place)
        if isinstance(read, Suite):
            suites[place.name] = read
        else:
            faults += read
    if faults:
        raise ConfigError("\n".join(faults))
    return suites


class _Entry(BaseModel):
    """An expectation as written; its line is known to `_File`."""

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


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    table: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*$")]
    expectations: Annotated[list[_Entry], Field(min_length=1)]


def _read(place: Path) -> Suite | list[str]:
    """Return the suite of one folder, or its faults."""
    file = place / "defs.yaml"
    if not _NAME.fullmatch(place.name):
        return [f"{place}: a suite's name is lower case letters, digits and _."]
    try:
        text = file.read_text(encoding="utf-8")
        node = yaml.compose(text, yaml.SafeLoader)
        content = yaml.safe_load(text)
    except FileNotFoundError:
        return [f"{file}: missing; every folder here is a suite."]
    except (OSError, ValueError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        where = file if mark is None else f"{file}, line {mark.line + 1}"
        problem = getattr(error, "problem", None) or type(error).__name__
        return [f"{where}: not readable as YAML ({problem})."]
    if not isinstance(content, dict):
        return [f"{file}, line 1: must have the keys `table` and `expectations`."]
    lines: dict[tuple[int | str, ...], int] = {}
    faults = [
        f"{file}, line {number}: `{key}` is set twice; remove one."
        for key, number in _walk(node, (), lines)
    ]
    try:
        written = _File.model_validate(content)
    except ValidationError as error:
        return [*faults, *_faults(file, error, lines)]
    expectations: dict[str, Expectation] = {}
    for position, entry in enumerate(written.expectations):
        own = ("expectations", position)
        line = lines.get((*own, "name"), lines[own])  # by `<<`, it may have none
        if entry.name in expectations:
            first = expectations[entry.name].line
            faults.append(
                f"{file}, line {line}: the name `{entry.name}` is already used in line "
                f"{first}; names must be unique in a suite."
            )
            continue
        below = {
            ".".join(map(str, path[2:])): line_number
            for path, line_number in lines.items()
            if path[:2] == own and len(path) > 2
        }
        expectations[entry.name] = Expectation(
            **entry.model_dump(), line=line, lines=below
        )
    if faults:
        return faults
    return Suite(place.name, file, written.table, tuple(expectations.values()))


def _walk(
    node: yaml.Node | None,
    path: tuple[int | str, ...],
    lines: dict[tuple[int | str, ...], int],
) -> Iterator[tuple[str, int]]:
    """Record the line of every key and item; yield repeated keys."""
    if node is None or len(path) > 20:  # an anchor may contain itself
        return
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield from _walk(item, (*path, number), lines)
    elif isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen:
                yield name, key.start_mark.line + 1
            seen.add(name)
            lines[*path, name] = key.start_mark.line + 1
            yield from _walk(value, (*path, name), lines)


def _faults(
    file: Path, error: ValidationError, lines: Mapping[tuple[int | str, ...], int]
) -> Iterator[str]:
    for fault in error.errors(include_input=False, include_url=False):
        path = fault["loc"]
        known = path
        while known not in lines:
            known = known[:-1]
        key = ".".join(str(part) for part in path)
        where = f"{file}, line {lines[known]}: `{key}`"
        holder = _File if len(path) == 1 else _Entry
        match fault["type"]:
            case "extra_forbidden":
                allowed = ", ".join(holder.model_fields)
                yield f"{where} is not a key here; allowed are: {allowed}."
            case "model_type":
                allowed = ", ".join(_Entry.model_fields)
                yield f"{where} must have the keys: {allowed}."
            case "value_error":
                yield f"{where}: {fault['ctx']['error']}."
            case _:
                yield f"{where}: {fault['msg']}."
