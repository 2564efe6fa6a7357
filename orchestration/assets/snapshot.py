"""The asset that publishes the snapshot, as the last step."""

from collections.abc import Iterable

import dagster as dg

from orchestration.pipeline.run import Run

__all__ = ["snapshot_asset"]


def snapshot_asset(after: Iterable[dg.AssetKey]) -> dg.AssetsDefinition:
    """Return the snapshot asset; it follows every step that can stop a run."""

    @dg.asset(
        deps=list(after),
        group_name="snapshot",
        kinds={"parquet"},
        pool="warehouse",
        required_resource_keys={"run"},
    )
    def snapshot(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        """The tables as immutable files, for `loomline sql` and other readers."""
        run: Run = context.resources.run
        published = run.publish()
        return dg.MaterializeResult(
            metadata={
                "version": published.version,
                "tables": published.tables,
                "rows": published.rows,
                "files_written": published.files_written,
                "files_kept": published.files_kept,
                "bytes_written": published.bytes_written,
                "seconds": round(published.seconds, 3),
            }
        )

    return snapshot
