"""What is expected of the warehouse's tables, checked by Great Expectations."""

from orchestration.expectations.suites import (
    Expectation,
    Outcome,
    Severity,
    Suite,
    load_suites,
    validate,
)

__all__ = ["Expectation", "Outcome", "Severity", "Suite", "load_suites", "validate"]
