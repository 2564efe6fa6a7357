"""Expectations about the warehouse's tables, checked by Great Expectations."""

from collections.abc import Iterable
from datetime import datetime

from connectors.home import Home
from orchestration.expectations.suites import (
    Expectation,
    Outcome,
    Severity,
    Suite,
    load_suites,
)

__all__ = ["Expectation", "Outcome", "Severity", "Suite", "load_suites", "validate"]


def validate(home: Home, suites: Iterable[Suite], *, at: datetime) -> list[Outcome]:
    """Validate the suites and write the pages below `data_docs`; return the outcomes.

    The warehouse is only read, and closed afterwards. An expectation that cannot be
    evaluated, because its table or column is missing, for example, has not passed. `at`
    names the run: validating a suite again at the same instant replaces its results.

    Raises:
        ConfigError: lists every unknown type and every wrong kwarg, with its line;
            nothing was validated.
    """
    # Takes seconds to import.
    from orchestration.expectations.validation import run

    return run(home, list(suites), at=at)
