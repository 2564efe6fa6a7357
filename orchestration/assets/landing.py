"""The assets from the inbox to the raw streams."""

from datetime import datetime
from typing import Any

import dagster as dg
import duckdb

from connectors.home import Home
from connectors.landing.manifest import Manifest
from orchestration.pipeline.run import Run

__all__ = ["LANDED", "landing_assets"]

LANDED = dg.AssetKey("landed_files")
INBOX = dg.AssetKey(["sources", "inbox"])


def landing_assets() -> list[dg.AssetsDefinition | dg.AssetSpec]:
    inbox = dg.AssetSpec(
        INBOX,
        group_name="sources",
        description="Files in `inbox/<source>/` of the home folder: SDK calls or a "
        "vendor's export; plain, gzip or zip.",
    )
    return [inbox, landed_files]


@dg.asset(
    key=LANDED,
    deps=[INBOX],
    group_name="landing",
    pool="warehouse",
    kinds={"python", "parquet"},
    required_resource_keys={"run"},
)
def landed_files(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    """Inbox files, admitted and landed as raw streams."""
    run: Run = context.resources.run
    before = Manifest(run.home).newest()
    imported = run.land()
    metadata: dict[str, Any] = {
        "received": imported.received,
        "files": imported.files,
        "files_known": imported.files_known,
        "files_empty": imported.files_empty,
        **imported.dispositions,
    }
    newest = _newest_arrival(run.home, since=before)
    if newest is not None:
        metadata["lag_s"] = round((run.at - newest).total_seconds(), 1)
    return dg.MaterializeResult(metadata=metadata)


def _newest_arrival(home: Home, since: int) -> datetime | None:
    """Return the last `received_at` of loads after `since`, from Parquet metadata."""
    files = [
        str(home.raw / file.path)
        for file in Manifest(home).files()
        if file.stream == "events" and file.load_seq > since
    ]
    if not files:
        return None
    with duckdb.connect() as engine:
        rows = engine.execute(
            "select max(received_at) at time zone 'UTC' from read_parquet(?)", [files]
        ).fetchall()
    newest: datetime | None = rows[0][0]
    return newest
