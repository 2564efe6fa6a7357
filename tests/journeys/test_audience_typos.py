"""Misspelled names in audiences are reported with the nearest name by each command."""

import json
import time

import dagster as dg
import pytest

from tests.support.checkouts import AT, Sending

EVENT = (
    "models/audiences/aud_filled.sql, line 3: no profile has an event "
    "`crat_updated` yet, and no contract names it. Did you mean `cart_updated`?"
)
TRAIT = (
    "models/audiences/aud_filled.sql, line 4: no profile has had a trait `plann` yet. "
    "Did you mean `plan`?"
)
AUDIENCE = """\
-- People with a cart.
{{ audience(any_of=[
    event_count('crat_updated'),
    trait('plann', exists=true),
    event_count('cart_updated'),
    event_count('cart_shared'),
    trait('plan', equals='free'),
    trait('email', exists=true),
]) }}
"""
CONTRACT = "event: Cart Shared\nschema: {type: object}\n"


pytestmark = pytest.mark.slow


@pytest.fixture
def misspelt(sending: Sending) -> Sending:
    """One audience, with a misspelled event and trait and correct ones."""
    audiences = sending.path / "models" / "audiences"
    for file in audiences.glob("aud_*"):
        file.unlink()
    (audiences / "aud_filled.sql").write_text(AUDIENCE)
    contract = sending.path / "connectors" / "events" / "contracts" / "cart_shared.yml"
    contract.write_text(CONTRACT)
    call = {
        "type": "identify",
        "messageId": "t1",
        "userId": "u1",
        "traits": {"plan": "free", "$email": "a@shop.example"},
        "receivedAt": "2026-05-01T12:00:00Z",
    }
    (sending.path / "traits.ndjson").write_text(json.dumps(call))
    sending.loomline("import", "traits.ndjson", "--source", "web")
    return sending


def test_run_diff_and_dagster_warn_of_names_that_nothing_has(
    misspelt: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ("run", "--no-push", "--as-of", AT)
    began = time.monotonic()
    done = misspelt.json(*run)
    wall_s = time.monotonic() - began
    assert done["warnings"] == [EVENT, TRAIT]
    assert done["checks"]["warned"] == 1 and done["checks"]["passed"] > 50
    assert done["audiences"] == [
        {"audience": "aud_filled", "members": 3, "entered": 3, "left": 0}
    ]
    # No second of the process is in no stage.
    assert sum(done["seconds"].values()) == pytest.approx(done["total_seconds"], abs=1)
    assert wall_s * 0.8 < done["total_seconds"] < wall_s

    assert misspelt.json("diff", "--as-of", AT)["warnings"] == [EVENT, TRAIT]
    told = misspelt.loomline("diff", "--as-of", AT, "--markdown", "-")
    assert f"warning: {EVENT}" in told and f"warning: {TRAIT}" in told

    monkeypatch.setenv("DAGSTER_HOME", str(misspelt.path / "data" / "dagster"))
    with dg.DagsterInstance.get() as instance:
        asset = dg.AssetKey(["audiences", "aud_filled"])
        key = dg.AssetCheckKey(asset, "names_are_known")
        (record,) = instance.event_log_storage.get_asset_check_execution_history(key, 5)
        event = record.event
    assert event is not None and event.dagster_event is not None
    found = event.dagster_event.asset_check_evaluation_data
    assert not found.passed and found.severity == dg.AssetCheckSeverity.WARN
    assert found.description == f"{EVENT}\n{TRAIT}"

    audience = misspelt.path / "models" / "audiences" / "aud_filled.sql"
    good = AUDIENCE.replace("crat", "cart").replace("plann", "plan")
    audience.write_text(good)
    assert misspelt.json("diff", "--as-of", AT)["warnings"] == []

    audience.write_text(good.replace("event_count('cart_s", "event_cuont('cart_s"))
    failed = misspelt.run([str(misspelt.bin / "loomline"), *run], code=1)
    assert (
        "models/audiences/aud_filled.sql, line 6: `event_cuont` is not defined. "
        "Did you mean `event_count`?"
    ) in failed.stderr
