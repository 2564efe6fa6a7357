"""What `dagster dev` shows, run once without its web server."""

from .conftest import Checkout

SCRIPT = """
import os

import dagster as dg

os.environ["LOOMLINE_NOW"] = "2026-01-01T00:00:00Z"  # before the events: no members
from orchestration.definitions import defs

graph = defs.resolve_asset_graph()
keys = {key.to_user_string() for key in graph.get_all_asset_keys()}
assert {"landed_files", "raw/events", "profiles/profiles", "pushes"} <= keys, keys
groups = {graph.get(key).group_name for key in graph.get_all_asset_keys()}
assert groups >= {
    "landing", "staging", "identity", "profiles", "audiences", "destinations"
}, groups
upstream = graph.get(dg.AssetKey(["raw", "events"])).parent_keys
assert dg.AssetKey("landed_files") in upstream, upstream
job = defs.resolve_implicit_global_asset_job_def()
with dg.DagsterInstance.ephemeral() as instance:
    assert job.execute_in_process(instance=instance).success
"""


def test_the_whole_flow_is_one_graph_and_runs(checkout: Checkout) -> None:
    events = checkout.path / "tests" / "fixtures" / "files" / "segment_s3"
    inbox = checkout.path / "data" / "inbox" / "web"
    inbox.parent.mkdir(parents=True)
    events.rename(inbox)
    script = checkout.path / "script.py"
    script.write_text(SCRIPT)
    checkout.run([str(checkout.bin / "python"), str(script)])
    assert checkout.json("land")["received"] == 0  # the run has emptied the inbox
