"""The project's `dbt`, typed without flags or exported variables."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from dotenv import set_key

from connectors.home import Home
from connectors.locks import exclusive
from orchestration.pipeline.build_state import begin_build
from tests.support.checkouts import AT, Checkout, Sending

DBT = str(Path(sys.executable).with_name("dbt"))


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    kept = ("HOME", "LANG", "PATH", "TMPDIR", "VIRTUAL_ENV")
    return subprocess.Popen(
        [DBT, *arguments],
        cwd=folder,
        env={name: os.environ[name] for name in kept if name in os.environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def dbt(folder: Path, *arguments: str, code: int = 0) -> str:
    process = start(folder, *arguments)
    out, errors = process.communicate(timeout=300)
    assert process.returncode == code, out + errors
    return out + errors


def home_of(checkout: Checkout) -> Home:
    return Home(checkout.path / "data")


def at(checkout: Checkout, instant: str) -> None:
    """Stop the clock of the checkout's own home."""
    set_key(checkout.path / ".env", "LOOMLINE_NOW", instant, quote_mode="never")


def test_the_environment_has_the_projects_dbt() -> None:
    assert "orchestration.cli.dbt" in Path(DBT).read_text()


@pytest.mark.slow
def test_plain_commands_work_and_the_next_run_carries_on(sending: Sending) -> None:
    at(sending, AT)
    assert "Completed successfully" in dbt(sending.path, "build")
    below = sending.path / "models" / "audiences"
    names = dbt(below, "ls", "-s", "aud_cart_abandoners+", "--output", "name")
    assert "int_membership_changes" in names
    shown = dbt(below, "show", "-s", "aud_cart_abandoners", "--output", "json")
    assert shown.count('"profile_id"') == 3
    dbt(sending.path, "docs", "generate")
    assert (sending.path / "target" / "catalog.json").exists()
    dbt(sending.path, "test", "-s", "audience_members")

    warehouse = str(home_of(sending).warehouse)
    with duckdb.connect(warehouse) as connection:
        connection.sql("insert into audiences.aud_pricing_viewers values ('old')")
    dbt(sending.path, "run", "-s", "aud_cart_abandoners+")
    with duckdb.connect(warehouse, read_only=True) as connection:
        found = connection.sql(
            "select audience, count(*) from audiences.audience_members group by all"
        ).fetchall()
    # Those of an audience that the command did not build stay as they were.
    assert found == [("aud_cart_abandoners", 3)]

    done = sending.run([str(sending.bin / "loomline"), "run", "--no-push"])
    assert "identity rules" not in done.stderr

    # Built with other rules by hand, then put back: the tables hold rows of both.
    seed = sending.path / "seeds" / "blocked_identifiers.csv"
    text = seed.read_text()
    seed.write_text(text + "user_id,no-one-at-all,exact\n")
    assert "The identity rules have changed" in dbt(sending.path, "seed")
    seed.write_text(text)
    done = sending.run([str(sending.bin / "loomline"), "run", "--no-push"])
    assert "The identity rules have changed" in done.stderr
    done = sending.run([str(sending.bin / "loomline"), "run", "--no-push"])
    assert "identity rules" not in done.stderr

    at(sending, "2026-04-01T00:00:00Z")
    refused = dbt(sending.path, "run", "-s", "aud_cart_abandoners", code=2)
    assert "is before the last evaluation, 2026-05-02T00:00:00Z" in refused
    assert "demo" not in refused
    home_of(sending).demo.write_text("{}")
    refused = dbt(sending.path, "seed", code=2)
    assert "`loomline demo --reset`" in refused
    dbt(sending.path, "show", "-s", "aud_cart_abandoners")


def test_the_models_compile_before_the_first_run_which_is_still_the_first(
    checkout: Checkout,
) -> None:
    at(checkout, AT)
    dbt(checkout.path, "compile")
    assert home_of(checkout).warehouse.exists()  # dbt makes it, without a table
    assert not begin_build(checkout.path, home_of(checkout))


def test_a_destination_is_an_exposure_without_another_file(checkout: Checkout) -> None:
    defs = checkout.path / "orchestration" / "defs" / "destinations"
    shutil.copytree(defs / "warehouse_drop", defs / "second_drop")
    kind = ("--resource-type", "exposure", "--output", "json")
    lines = dbt(checkout.path, "--quiet", "ls", *kind).splitlines()
    found = {one["name"]: one["depends_on"]["nodes"] for one in map(json.loads, lines)}
    models = [f"model.loomline.{name}" for name in ("sync_members", "sync_delta")]
    assert found == dict.fromkeys(
        ["crm_webhook", "second_drop", "warehouse_drop"], models
    )


def test_variables_of_ones_own_are_added_and_win(checkout: Checkout) -> None:
    at(checkout, AT)
    query = (
        "select '{{ var('mine') }} {{ var('destinations') }} "
        "{{ var('audiences') | length }} {{ env_var('LOOMLINE_NOW') }}' as told"
    )
    given = json.dumps({"mine": "x", "destinations": "none"})
    out = dbt(
        checkout.path, "show", "--inline", query, "--vars", given, "--output", "json"
    )
    assert "x none 7 2026-05-02T00:00:00+00:00" in out


def test_a_command_that_writes_waits_for_a_run_and_one_that_reads_does_not(
    checkout: Checkout,
) -> None:
    with exclusive(home_of(checkout).run_lock):
        seed = start(checkout.path, "seed")
        assert seed.stderr is not None
        said = seed.stderr.readline()
        assert f"Waiting for another run to end: process {os.getpid()} " in said
        dbt(checkout.path, "ls", "-s", "aud_cart_abandoners")
        assert seed.poll() is None
    assert seed.wait(timeout=120) == 0
    seed.communicate()


def test_outside_a_loomline_project_it_is_plain_dbt(
    checkout: Checkout, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    options = ("--project-dir", str(other), "--profiles-dir", str(other))
    assert "No dbt_project.yml found" in dbt(other, "ls", *options, code=2)
    (other / "dbt_project.yml").write_text("{name: other, profile: other}")
    (other / "profiles.yml").write_text(
        "other: {target: dev, outputs: {dev: {type: duckdb, path: other.duckdb}}}"
    )
    query = "select '{{ var('audiences', []) }}{{ env_var('LOOMLINE_HOME', '') }}'"
    assert "select '[]'" in dbt(other, "compile", "--inline", query)
    assert "select '[]'" in dbt(checkout.path, "compile", "--inline", query, *options)
    assert not (other / "data").exists()


def test_a_faulty_destination_is_named(checkout: Checkout) -> None:
    file = checkout.path / "orchestration/defs/destinations/crm_webhook/defs.yaml"
    file.write_text(file.read_text() + "  nonsense: 1\n")
    assert "nonsense" in dbt(checkout.path, "ls", code=2)


def test_only_a_demo_is_reset(checkout: Checkout) -> None:
    kept = checkout.path / "data" / "demo" / "mine.txt"
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    command = [str(checkout.bin / "loomline"), "demo", "--reset"]
    assert "contains other files than a demo" in checkout.run(command, 2).stderr
    assert kept.read_text() == "mine"
