"""Runs Great Expectations; importing this module takes seconds."""

import html
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from string import Template

import duckdb
from great_expectations.compatibility.pydantic import ValidationError
from great_expectations.core import ExpectationSuite, ExpectationValidationResult
from great_expectations.data_context.data_context.ephemeral_data_context import (
    EphemeralDataContext,
)
from great_expectations.exceptions.exceptions import ExpectationNotFoundError
from great_expectations.expectations.expectation import Expectation as Check
from great_expectations.expectations.metadata_types import FailureSeverity
from great_expectations.expectations.registry import get_expectation_impl
from sqlalchemy.pool import StaticPool

from connectors.errors import ConfigError
from connectors.home import Home
from orchestration.expectations.data_docs import Validated, project, publish
from orchestration.expectations.duckdb_dialect import URL
from orchestration.expectations.redaction import outcome, plain_number, reason, redacted
from orchestration.expectations.suites import (
    CUSTOM_SQL,
    OURS,
    Expectation,
    Outcome,
    Suite,
)

__all__ = ["run"]

# Its warnings are for its developers, such as that it does not know DuckDB.
logging.getLogger("great_expectations").setLevel(logging.ERROR)

MAX_SHOWN = 10

_PAGEABLE = {"observed_value", "unexpected_percent"}


@dataclass(frozen=True, slots=True)
class _Known:
    """An expectation that Great Expectations supports, and its sentence."""

    written: Expectation
    check: Check
    sentence: str


def run(home: Home, suites: Sequence[Suite], *, at: datetime) -> list[Outcome]:
    """See `orchestration.expectations.validate`."""
    understood = _understand_all(suites)
    context = project(home)
    outcomes: list[Outcome] = []
    validated: list[Validated] = []
    with warnings.catch_warnings(), _opened(home) as warehouse:
        warnings.simplefilter("ignore", DeprecationWarning)
        for suite, known in zip(suites, understood, strict=True):
            evaluated = _found(context, warehouse, suite, known)
            results = []
            for one in known:
                result = redacted(one.check, evaluated[one.written.name])
                names = (
                    _shown(warehouse, suite, one.written) if not result.success else ()
                )
                outcomes.append(
                    outcome(suite, one.written, one.sentence, result, names)
                )
                if result.result and not _PAGEABLE & result.result.keys():
                    # A count without a percentage makes no page.
                    result.result = {"observed_value": outcomes[-1].observed}
                results.append(result)
            checks = ExpectationSuite(suite.name, [one.check for one in known])
            validated.append(Validated(checks, suite.table, results))
    if validated:
        publish(home, context, validated, at=at)
    return outcomes


def _understand_all(suites: Sequence[Suite]) -> list[list[_Known]]:
    faults: list[str] = []
    understood: list[list[_Known]] = []
    for suite in suites:
        understood.append([])
        for written in suite.expectations:
            read = _understand(written)
            if isinstance(read, _Known):
                understood[-1].append(read)
            else:
                faults += (f"{suite.file}, line {line}: {what}" for line, what in read)
    if faults:
        raise ConfigError("\n".join(faults))
    return understood


def _understand(written: Expectation) -> _Known | list[tuple[int, str]]:
    """Return the expectation, or its faults with their lines."""
    line = written.lines.get("type", written.line)
    try:
        kind = get_expectation_impl(written.type)
    except ExpectationNotFoundError:
        page = "https://greatexpectations.io/expectations"
        return [(line, f"`{written.type}` is not one of the types listed at {page}.")]
    try:
        check = kind(**written.kwargs)
    except ValidationError as error:
        return [*_wrong_kwargs(written, kind, error)]
    description = written.description.strip().rstrip(".")
    sentence = _sentence(check)
    about = f"{written.name} ({written.severity}): {description}."
    if sentence:
        about += f" {sentence}."
    check.rendered_content = None
    check.meta = {"name": written.name}
    check.severity = FailureSeverity(written.severity)
    check.description = html.escape(about)  # the pages do not escape it
    if sentence is None or written.type == CUSTOM_SQL:
        sentence = description
    return _Known(written, check, sentence)


def _wrong_kwargs(
    written: Expectation, kind: type[Check], error: ValidationError
) -> Iterator[tuple[int, str]]:
    reasons: dict[str, list[str]] = {}
    for fault in error.errors():
        reasons.setdefault(str(fault["loc"][0]), []).append(fault["msg"])
    allowed = ", ".join(sorted(kind.__fields__.keys() - OURS))
    kwargs_line = written.lines.get("kwargs", written.line)
    for key, messages in reasons.items():
        line = written.lines.get(f"kwargs.{key}", kwargs_line)
        if key not in kind.__fields__:
            what = f"is not a kwarg of {written.type}; allowed are: {allowed}"
        else:
            wrong = ", or ".join(message.rstrip(".") for message in messages)
            what = f"of {written.type}: {wrong}"
        yield line, f"`{key}` {what}."


def _sentence(check: Check) -> str | None:
    """Return the expectation in Great Expectations' words, or None if it has none."""
    check.render()
    for content in check.rendered_content or []:
        values = {
            name: plain_number(parameter.get("value"))
            for name, parameter in (content.value.params or {}).items()
        }
        sentence = Template(content.value.template or "").safe_substitute(values)
        if sentence and not sentence.startswith(check.expectation_type):
            return " ".join(sentence.split()).rstrip(".")
    return None


def _shown(
    warehouse: duckdb.DuckDBPyConnection | str, suite: Suite, written: Expectation
) -> list[str]:
    """Return the column's first values that may be shown, sorted."""
    if written.show is None or isinstance(warehouse, str):
        return []
    query = written.kwargs["unexpected_rows_query"].format(batch=suite.table)
    try:
        rows = warehouse.execute(
            f'select distinct cast("{written.show}" as varchar) as shown '
            f"from ({query}) where shown is not null order by shown limit {MAX_SHOWN}"
        ).fetchall()
    except duckdb.Error as error:
        return [reason(str(error))]
    return [name for (name,) in rows]


@contextmanager
def _opened(home: Home) -> Iterator[duckdb.DuckDBPyConnection | str]:
    """Yield the open warehouse, or why it cannot be opened; close it afterwards."""
    try:
        connection = duckdb.connect(str(home.warehouse), read_only=True)
    except duckdb.Error as error:
        yield f"the warehouse cannot be opened ({reason(str(error))})"
        return
    with connection:
        connection.execute("set global TimeZone = 'UTC'")  # as in dbt
        yield connection


def _found(
    context: EphemeralDataContext,
    warehouse: duckdb.DuckDBPyConnection | str,
    suite: Suite,
    known: Sequence[_Known],
) -> dict[str, ExpectationValidationResult | str]:
    """Return each expectation's result by name, or why there is none."""
    if isinstance(warehouse, str):
        return {one.written.name: warehouse for one in known}
    results: dict[str, ExpectationValidationResult | str] = {
        one.written.name: "Great Expectations gave no result" for one in known
    }
    missing = _missing(warehouse, suite)
    results.update(missing)
    rest = [one for one in known if one.written.name not in missing]
    if rest:
        try:
            results.update(_evaluated(context, warehouse, suite, rest))
        except Exception as error:  # noqa: BLE001 (becomes the outcome of each)
            why = reason(f"{type(error).__name__}: {error}")
            results.update({one.written.name: why for one in rest})
    return results


def _missing(connection: duckdb.DuckDBPyConnection, suite: Suite) -> dict[str, str]:
    """Return by name the expectations whose table or column is missing."""
    columns = {
        str(name).lower()
        for (name,) in connection.execute(
            "select column_name from duckdb_columns()"
            " where database_name = current_database()"
            " and schema_name || '.' || table_name = ?",
            [suite.table],
        ).fetchall()
    }
    reasons = {}
    for one in suite.expectations:
        if not columns:
            reasons[one.name] = f"there is no table {suite.table}"
            continue
        if one.type == "expect_column_to_exist":
            continue
        named = [one.kwargs.get(key) for key in ("column", "column_A", "column_B")]
        named += one.kwargs.get("column_list") or []
        lacking = [
            name
            for name in named
            if isinstance(name, str) and name.lower() not in columns
        ]
        if lacking and not one.type.startswith("expect_table_"):
            reasons[one.name] = f"{suite.table} has no column {', '.join(lacking)}"
    return reasons


def _evaluated(
    context: EphemeralDataContext,
    connection: duckdb.DuckDBPyConnection,
    suite: Suite,
    known: Sequence[_Known],
) -> dict[str, ExpectationValidationResult]:
    """Return Great Expectations' results by name."""
    schema, _, table = suite.table.partition(".")
    source = context.data_sources.add_sql(  # type: ignore[call-arg] # kwargs
        suite.name,
        connection_string=URL,
        kwargs={"creator": lambda: connection, "poolclass": StaticPool},
    )
    asset = source.add_table_asset(suite.table, table, schema)
    batch = asset.add_batch_definition_whole_table("whole").get_batch()
    validated = batch.validate(
        ExpectationSuite(suite.name, [one.check for one in known]),
        result_format={"result_format": "BASIC", "partial_unexpected_count": 0},
    )
    results = {}
    for result in validated.results:
        if result.expectation_config is not None:
            results[str(result.expectation_config.meta["name"])] = result
    return results
