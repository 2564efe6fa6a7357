"""Asset checks: the suites of `orchestration/defs/checks`, and names in audiences."""

from collections.abc import Iterable, Iterator, Mapping

import dagster as dg

from connectors.errors import ConfigError
from orchestration.expectations import Expectation, Suite, validate
from orchestration.pipeline.run import ChecksFailed, Run

__all__ = ["checked_assets", "expectation_checks", "name_checks"]


def checked_assets(suites: Mapping[str, Suite]) -> list[dg.AssetKey]:
    """Return the tables that suites check; pushes and the snapshot run after them."""
    return sorted({_asset(suite) for suite in suites.values()})


def expectation_checks(suites: Mapping[str, Suite]) -> dg.AssetChecksDefinition:
    """Return a check per expectation; severity `critical` stops later steps.

    Raises:
        ConfigError: two suites have a check of the same name on one table.
    """
    by_key: dict[dg.AssetCheckKey, tuple[Suite, Expectation]] = {}
    for suite in suites.values():
        for expectation in suite.expectations:
            key = dg.AssetCheckKey(_asset(suite), expectation.name)
            if key in by_key:
                raise ConfigError(
                    f"{suite.file}, line {expectation.line}: {suite.table} already has "
                    f"a check `{expectation.name}`, in {by_key[key][0].name}."
                )
            by_key[key] = suite, expectation

    @dg.multi_asset_check(
        name="expectations",
        specs=[
            dg.AssetCheckSpec(
                key.name,
                asset=key.asset_key,
                description=expectation.description,
                blocking=expectation.severity == "critical",
                metadata={"suite": suite.name},
            )
            for key, (suite, expectation) in by_key.items()
        ],
        can_subset=True,
        pool="warehouse",
        required_resource_keys={"run"},
    )
    def expectations(
        context: dg.AssetCheckExecutionContext,
    ) -> Iterator[dg.AssetCheckResult]:
        run: Run = context.resources.run
        with run.result.timed("checks"):
            run.models.wait_until_free()
            outcomes = {
                (outcome.suite, outcome.name): outcome
                for outcome in validate(run.home, suites.values(), at=run.at)
            }
        failed: list[str] = []
        for key in context.selected_asset_check_keys:
            suite, expectation = by_key[key]
            outcome = outcomes[suite.name, expectation.name]
            is_critical = expectation.severity == "critical"
            message = f"{suite.name}.{expectation.name}: {outcome.message}"
            if is_critical and not outcome.passed:
                failed.append(message)
            else:
                run.result.note_check([] if outcome.passed else [message])
            yield dg.AssetCheckResult(
                asset_key=key.asset_key,
                check_name=key.name,
                passed=outcome.passed,
                severity=dg.AssetCheckSeverity.ERROR
                if is_critical
                else dg.AssetCheckSeverity.WARN,
                description=outcome.message,
                metadata={**outcome.metadata, "observed": outcome.observed},
            )
        if failed:
            raise ChecksFailed("\n".join(["Nothing is pushed:", *sorted(failed)]))

    return expectations


def name_checks(audiences: Iterable[str]) -> dg.AssetChecksDefinition:
    """Return a check per audience that warns about unknown events and traits."""
    keys = {
        dg.AssetCheckKey(dg.AssetKey(["audiences", name]), "names_are_known"): name
        for name in audiences
    }

    @dg.multi_asset_check(
        name="names_of_audiences",
        specs=[
            dg.AssetCheckSpec(
                key.name,
                asset=key.asset_key,
                description="Every event and trait in the conditions exists.",
            )
            for key in keys
        ],
        can_subset=True,
        pool="warehouse",
        required_resource_keys={"run"},
    )
    def names_of_audiences(
        context: dg.AssetCheckExecutionContext,
    ) -> Iterator[dg.AssetCheckResult]:
        run: Run = context.resources.run
        unknown = run.unknown_names()
        for key in context.selected_asset_check_keys:
            messages = [one.message for one in unknown if one.audience == keys[key]]
            run.result.note_check(messages)
            yield dg.AssetCheckResult(
                asset_key=key.asset_key,
                check_name=key.name,
                passed=not messages,
                severity=dg.AssetCheckSeverity.WARN,
                description="\n".join(messages) or None,
            )

    return names_of_audiences


def _asset(suite: Suite) -> dg.AssetKey:
    return dg.AssetKey(suite.table.split("."))
