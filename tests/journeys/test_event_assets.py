"""Event tables and code references of assets in Dagster."""

import json
import sys
from typing import Any

import pytest

from tests.support.checkouts import AT, Sending

LOOK = """
import json
from orchestration.definitions import defs
import dagster as dg

graph = defs.resolve_asset_graph()
tables = {
    key.path[1]: {
        "from": ["/".join(k.path) for k in node.parent_keys],
        "to": ["/".join(k.path) for k in node.child_keys],
        "group": node.group_name,
    }
    for key in graph.get_all_asset_keys()
    for node in [graph.get(key)]
    if key.path[0] == "events" and not node.is_materializable
}
with dg.DagsterInstance.get() as instance:
    times = {}
    for table in ("cart_updated", "order_completed"):
        records = instance.fetch_materializations(
            dg.AssetKey(["events", table]), limit=100
        ).records
        newest = records[0].asset_materialization.metadata if records else {}
        rows = newest.get("dagster/row_count")
        times[table] = [len(records), rows and rows.value]
code = {}
for path in (["profiles", "profiles"], ["crm_webhook", "aud_churn_risk"], ["snapshot"]):
    found = graph.get(dg.AssetKey(path)).metadata["dagster/code_references"]
    code[path[0]] = [one.file_path for one in found.code_references]
print(json.dumps({"tables": tables, "times": times, "code": code}))
"""


def look(sending: Sending) -> Any:
    done = sending.run([sys.executable, "-c", LOOK])
    assert "BetaWarning" not in done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_event_tables_are_assets_that_a_run_makes(sending: Sending) -> None:
    sending.loomline("run", "--no-push", "--as-of", AT)
    seen = look(sending)
    assert seen["tables"] == {
        "cart_updated": {
            "from": ["events/event_columns"],
            "to": ["snapshot"],
            "group": "events",
        }
    }
    assert seen["times"] == {"cart_updated": [1, 3], "order_completed": [0, None]}
    files = {
        "profiles": "models/profiles/profiles.sql",
        "crm_webhook": "orchestration/defs/destinations/crm_webhook/defs.yaml",
        "snapshot": "orchestration/assets/snapshot.py",
    }
    assert seen["code"] == {
        key: [str(sending.path / file)] for key, file in files.items()
    }

    sending.loomline("run", "--no-push", "--as-of", AT)
    assert look(sending)["times"]["cart_updated"] == [1, 3]  # nothing is new
    more = sending.path / "more.ndjson"
    more.write_text(
        '{"type": "track", "event": "Order Completed", "messageId": "o", '
        '"userId": "u1", "timestamp": "2026-05-01T12:00:00Z", '
        '"receivedAt": "2026-05-01T12:00:00Z"}\n'
    )
    sending.loomline("import", str(more), "--source", "web")
    sending.loomline("run", "--no-push", "--as-of", AT)
    seen = look(sending)
    assert seen["times"] == {"cart_updated": [1, 3], "order_completed": [1, 1]}
    assert {*seen["tables"]} == {"cart_updated", "order_completed"}
