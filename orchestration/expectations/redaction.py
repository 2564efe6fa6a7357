"""Redacts results of Great Expectations.

Results contain values from tables, and so do some error messages. Counts, numbers,
instants, and names of columns and types are kept; other values are only counted.
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from great_expectations.core import ExpectationValidationResult
from great_expectations.expectations.expectation import Expectation as Check

from orchestration.expectations.suites import CUSTOM_SQL, Expectation, Outcome, Suite

__all__ = ["outcome", "plain_number", "reason", "redacted"]

_COUNTS = (
    *("element_count", "missing_count", "missing_percent", "unexpected_count"),
    *("unexpected_percent", "unexpected_percent_nonmissing"),
    "unexpected_percent_total",
)

# These observe more than one number, but only names and numbers.
_NAMES_OR_NUMBERS = re.compile(
    r"expect_(table_columns_.*|column_type_.*|column_values_to_be_(of_type|in_type_list)"
    r"|column_quantile_values_.*|table_row_count_to_equal_other_table)"
)

# Errors that describe the query, never values.
_SAFE_ERROR = re.compile(
    r"(?:Binder|Catalog|Parser|IO|Connection) Error: [^\n]+"
    r"|No provider found for [\w.]+"
    r"|[^\n]* not (?:supported|implemented) for (?:SQL )?dialect [^\n]+"
    r"|'[<>=]+' not supported between instances of [^\n]+"
    r"|can't compare offset-naive and offset-aware datetimes"
)


def redacted(
    check: Check, result: ExpectationValidationResult | str
) -> ExpectationValidationResult:
    """Return the redacted result; text is the reason why there is none."""
    observed: dict[str, Any] = {}
    why = result if isinstance(result, str) else _raised(result)
    if isinstance(result, ExpectationValidationResult):
        observed = {key: _plain(result.result.get(key)) for key in _COUNTS}
        value = result.result.get("observed_value")
        if _NAMES_OR_NUMBERS.fullmatch(check.expectation_type):
            observed["observed_value"] = json.loads(json.dumps(value, default=str))
        else:
            observed["observed_value"] = _plain(value)
    return ExpectationValidationResult(
        success=why is None and not isinstance(result, str) and bool(result.success),
        expectation_config=check.configuration,
        result={key: value for key, value in observed.items() if value is not None},
        exception_info={
            "raised_exception": why is not None,
            "exception_message": why,
            "exception_traceback": "",
        },
    )


def outcome(
    suite: Suite,
    written: Expectation,
    sentence: str,
    result: ExpectationValidationResult,
    names: Sequence[str] = (),
) -> Outcome:
    """Return the outcome of a redacted result; `sentence` states the expectation.

    `names` are values that may be shown of the rows that should not exist.
    """
    why = result.exception_info["exception_message"]
    observed = "not evaluated" if why else _observed(written.type, result)
    if why:
        ending = f"not evaluated: {why}"
    else:
        against = " against it" if written.type == CUSTOM_SQL else ""
        ending = f"found {observed}{against}"
        if names:
            observed = ", ".join(names)
            ending += f": {observed}"
    numbers = {
        key: value
        for key, value in result.result.items()
        if isinstance(value, int | float | str)
    }
    return Outcome(
        suite=suite.name,
        name=written.name,
        passed=bool(result.success),
        severity=written.severity,
        observed=observed,
        message=f"{sentence}; {ending}.",
        metadata={"table": suite.table, "type": written.type, **numbers},
    )


def _raised(result: ExpectationValidationResult) -> str | None:
    """Return why it could not be evaluated, or None if it was."""
    info = result.exception_info
    # One for the expectation, or one per metric it needs.
    each = [info] if "raised_exception" in info else list(info.values())
    for one in each:
        if one["raised_exception"]:
            trace = str(one["exception_traceback"] or "").strip().splitlines()[-1:]
            return reason("\n".join([str(one["exception_message"]), *trace]))
    return None


def reason(text: str) -> str:
    """Return an error's message if it cannot contain values, else its type."""
    if match := _SAFE_ERROR.search(text):
        return match[0].strip().rstrip(".")
    kinds = re.findall(r"\b([A-Z]\w*(?:Error|Exception))\b", text)
    kind = kinds[-1] if kinds else "an error"
    return f"{kind}, whose text is not shown because it may quote values"


def plain_number(value: Any) -> Any:
    """Format a number as people write it, `1000` for `1000.0`; keep other values."""
    if isinstance(value, float | Decimal):
        number = float(f"{value:.12g}")
        return int(number) if number.is_integer() else number
    return value


def _plain(value: Any) -> Any:
    """Return numbers and instants; of other values only their count."""
    match value:
        case None | int() | float() | Decimal():
            return plain_number(value)
        case datetime():
            return (value.astimezone(UTC) if value.tzinfo else value).isoformat()
        case date():
            return value.isoformat()
        case list() | tuple() | set() | dict():
            return f"{len(value)} values, not shown"
        case _ if hasattr(value, "item"):
            return _plain(value.item())  # numpy scalars
        case _:
            return "a value that is not shown"


def _observed(type_: str, result: ExpectationValidationResult) -> str:
    values: Mapping[str, Any] = result.result
    value = values.get("observed_value")
    if type_ == "expect_column_to_exist":
        return "the column" if result.success else "no such column"
    if type_ == CUSTOM_SQL:
        return f"{value} row{'' if value == 1 else 's'}"
    if value is not None:
        return value if isinstance(value, str) else json.dumps(value)
    counts = [
        f"{values[f'{what}_count']} {what}"
        for what in ("unexpected", "missing")
        if f"{what}_count" in values
    ]
    if "element_count" in values:
        return f"{counts[0]} of {values['element_count']}"
    return ", ".join(counts) or "no value"
