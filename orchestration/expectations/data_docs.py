"""Pages of validation results, below `data_docs` in the home folder.

index.html, expectations/, validations/, static/   written by Great Expectations
results/suites, results/runs                       the data they are made from
"""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import great_expectations as gx
from great_expectations.core import (
    ExpectationSuite,
    ExpectationSuiteValidationResult,
    ExpectationValidationResult,
    RunIdentifier,
)
from great_expectations.data_context.data_context.ephemeral_data_context import (
    EphemeralDataContext,
)
from great_expectations.data_context.types.base import (
    DataContextConfig,
    ProgressBarsConfig,
)
from great_expectations.data_context.types.resource_identifiers import (
    ExpectationSuiteIdentifier,
    ValidationResultIdentifier,
)

from connectors.home import Home

__all__ = ["KEPT_RUNS", "Validated", "project", "publish"]

KEPT_RUNS = 30
"""Per suite. The index is made from all of them: 90 of them take 0.4 s."""

_VIEW = {
    "module_name": "orchestration.expectations.pages",
    "class_name": "PageView",
}

_RUN = "%Y%m%dT%H%M%S.%fZ"  # sorts by time; also the name of a run's folder


@dataclass(frozen=True, slots=True)
class Validated:
    """A suite and its redacted results."""

    suite: ExpectationSuite
    table: str
    results: list[ExpectationValidationResult]


def project(home: Home) -> EphemeralDataContext:
    """Return a Great Expectations project in memory that writes below the home.

    It sends nothing: version 1.24 has no analytics left, and they are also off here.
    """
    docs = home.path / "data_docs"

    def folder(name: str) -> dict[str, str]:
        return {
            "class_name": "TupleFilesystemStoreBackend",
            # A `$` would begin a variable.
            "base_directory": str(docs / name).replace("$", r"\$"),
        }

    config = DataContextConfig(
        stores={
            "suites": {
                "class_name": "ExpectationsStore",
                "store_backend": folder("results/suites"),
            },
            "runs": {
                "class_name": "ValidationResultsStore",
                "store_backend": folder("results/runs"),
            },
        },
        expectations_store_name="suites",
        validation_results_store_name="runs",
        checkpoint_store_name="checkpoint_store",
        data_docs_sites={
            "warehouse": {
                "class_name": "SiteBuilder",
                "store_backend": folder(""),
                "show_how_to_buttons": False,
                "site_index_builder": {
                    "class_name": "DefaultSiteIndexBuilder",
                    "view": _VIEW,
                },
                "site_section_builders": {
                    "expectations": {"view": _VIEW},
                    "validations": {"view": _VIEW},
                    "profiling": "None",
                },
            }
        },
        analytics_enabled=False,
        progress_bars=ProgressBarsConfig(globally=False),
    )
    return gx.get_context(mode="ephemeral", project_config=config)


def publish(
    home: Home,
    context: EphemeralDataContext,
    validated: Iterable[Validated],
    *,
    at: datetime,
) -> None:
    """Write the pages of this run and the index; delete the oldest runs."""
    docs = home.path / "data_docs"
    moment = at.astimezone(UTC)
    new: list[Any] = []
    for one in validated:
        name = one.suite.name
        run = RunIdentifier(run_name=moment.strftime(_RUN), run_time=moment)
        suite = ExpectationSuiteIdentifier(name)
        key = ValidationResultIdentifier(suite, run, one.table)
        (docs / "results/suites" / f"{name}.json").unlink(missing_ok=True)
        context.suites.add(one.suite)
        context.validation_results_store.set(key, _result(one, run))
        new += [suite, key]
        for old in sorted((docs / "results/runs" / name).iterdir())[:-KEPT_RUNS]:
            shutil.rmtree(docs / "validations" / name / old.name, ignore_errors=True)
            shutil.rmtree(old)
    context.build_data_docs(resource_identifiers=new)
    shutil.rmtree(docs / "static")  # 4 MB for pages we do not use


def _result(one: Validated, run: RunIdentifier) -> ExpectationSuiteValidationResult:
    count, passed = len(one.results), sum(bool(each.success) for each in one.results)
    return ExpectationSuiteValidationResult(
        success=passed == count,
        results=one.results,
        suite_name=one.suite.name,
        statistics={
            "evaluated_expectations": count,
            "successful_expectations": passed,
            "unsuccessful_expectations": count - passed,
            "success_percent": 100 * passed / count,
        },
        meta={
            "great_expectations_version": gx.__version__,
            "run_id": run,
            "batch_spec": {"data_asset_name": one.table},
            "active_batch_definition": {"data_asset_name": one.table},
        },
    )
