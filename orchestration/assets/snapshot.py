"""The published snapshot: what readers see, last."""

from collections.abc import Iterable

import dagster as dg

from orchestration.pipeline.run import Run

__all__ = ["snapshot_asset"]


def snapshot_asset(after: Iterable[dg.AssetKey]) -> dg.AssetsDefinition:
    """Comes after everything that may stop a run, so it is always a good version."""

    @dg.asset(
        deps=list(after),
        group_name="snapshot",
        kinds={"parquet"},
        pool="warehouse",
        required_resource_keys={"run"},
    )
    def snapshot(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        """The tables as immutable files; `loomline sql` and other readers open them."""
        run: Run = context.resources.run
        found = run.publish()
        return dg.MaterializeResult(
            metadata={
                "version": found.version,
                "tables": found.tables,
                "rows": found.rows,
                "files_written": found.files_written,
                "files_kept": found.files_kept,
                "bytes_written": found.bytes_written,
                "seconds": round(found.seconds, 3),
            }
        )

    return snapshot
