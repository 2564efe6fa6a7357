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
    """Outcomes in the order written; the pages below `data_docs` tell of them too.

    The warehouse is only read, and free again afterwards. What cannot be found out,
    because a table or a column is missing say, has not passed. `at` names the run:
    validating a suite again at the same instant replaces what was found there.

    Raises:
        ConfigError: lists every unknown type and every wrong kwarg, with its line;
            nothing was validated.
    """
    # Seconds to import: only when needed.
    from orchestration.expectations.validation import run

    return run(home, list(suites), at=at)
