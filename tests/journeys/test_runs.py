"""Runs with obstacles: an outage, a limit, an open file, an earlier as-of instant."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import duckdb

from connectors.home import Home
from connectors.ingest.importing import import_units
from connectors.sources.files import units
from orchestration.demo.sandbox.server import Sandbox
from orchestration.pipeline.build_state import Built
from tests.support.checkouts import AT, SECRET, Checkout, Sending
from tests.support.collecting import wait_until


def syncs(checkout: Checkout) -> list[tuple[int, ...]]:
    """Return eligible, unchanged, added and pending of each run at the webhook."""
    path = checkout.path / "data" / "warehouse.duckdb"
    with duckdb.connect(str(path), read_only=True) as warehouse:
        return warehouse.sql(
            "select eligible, unchanged, added, pending from raw.runs "
            "where destination = 'crm_webhook' and audience = 'aud_cart_abandoners' "
            "order by load_seq"
        ).fetchall()


def user_ids(checkout: Checkout) -> set[str]:
    path = checkout.path / "data" / "warehouse.duckdb"
    with duckdb.connect(str(path), read_only=True) as warehouse:
        found = warehouse.sql("select user_id from profiles.profiles").fetchall()
    return {user_id for (user_id,) in found}


def test_what_an_outage_left_is_delivered_once_and_counted(sending: Sending) -> None:
    down = sending.run(
        [str(sending.bin / "loomline"), "run", "--as-of", AT, "--json"], code=1
    )
    assert "was not delivered: crm_webhook: ConnectError" in down.stderr
    with Sandbox(sending.path / "box", SECRET) as box:
        up = replace(sending, url=box.url + "/")
        up.loomline("run", "--as-of", AT)
        up.loomline("run", "--as-of", AT)
        assert box.audiences() == {"aud_cart_abandoners": 3}
        assert box.deliveries()["count"] == 1
    assert syncs(sending) == [
        (3, 0, 0, 3),
        (3, 0, 3, 0),
        (3, 3, 0, 0),
    ]


def test_a_change_beyond_the_limit_waits(sending: Sending) -> None:
    folder = sending.path / "orchestration" / "defs" / "destinations" / "crm_webhook"
    settings = folder / "defs.yaml"
    text = settings.read_text()
    with Sandbox(sending.path / "box", SECRET) as box:
        up = replace(sending, url=box.url + "/")
        settings.write_text(text + "  limits: {max_change_rows: 2}\n")
        done = up.run([str(up.bin / "loomline"), "run", "--as-of", AT], code=1)
        assert "max_change_rows is 2" in done.stderr
        assert box.audiences() == {}
        settings.write_text(text + "  limits: {max_change_rows: 3}\n")
        up.loomline("run", "--as-of", AT)
        assert box.audiences() == {"aud_cart_abandoners": 3}


def test_an_open_file_the_past_and_other_rules(sending: Sending) -> None:
    sending.loomline("run", "--no-push", "--as-of", AT)
    holder = subprocess.Popen(
        [
            str(sending.bin / "python"),
            "-c",
            "import duckdb, sys; "
            "held = duckdb.connect(sys.argv[1]); print('held', flush=True); input()",
            str(sending.path / "data" / "warehouse.duckdb"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    run = [str(sending.bin / "loomline"), "run", "--no-push", "--as-of"]
    waiting = subprocess.Popen(
        [*run, AT],
        cwd=sending.path,
        env=sending.env(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert waiting.stderr is not None
    said = next(line for line in waiting.stderr if "Waiting for" in line)
    assert f"(PID {holder.pid}) to close" in said
    holder.communicate("\n")
    waiting.communicate(timeout=300)
    assert waiting.returncode == 0

    refused = sending.run([*run, "2026-05-01T00:00:00Z"], code=2)
    assert "before the last evaluation" in refused.stderr

    assert user_ids(sending) == {"u0", "u1", "u2"}
    blocked = sending.path / "seeds" / "blocked_identifiers.csv"
    blocked.write_text(blocked.read_text() + "*,U1,casefold\n")
    assert "identity rules have changed" in sending.run([*run, AT]).stderr
    assert user_ids(sending) == {"u0", "u2"}
    assert "identity rules have changed" not in sending.run([*run, AT]).stderr


@contextmanager
def building(sending: Sending, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """Start a run and wait until dbt builds the models."""
    running = subprocess.Popen(
        [str(sending.bin / "loomline"), "run", "--no-push", *arguments],
        cwd=sending.path,
        env=sending.env(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until((sending.path / "data" / "warehouse.duckdb").exists, timeout_s=120)
        yield running
    finally:
        running.kill()
        running.wait()


def test_a_watch_that_is_stopped_in_a_run_ends_and_the_next_run_carries_on(
    sending: Sending,
) -> None:
    with building(sending, "--watch") as watching:
        watching.terminate()
        _, said = watching.communicate(timeout=120)
    assert (watching.returncode, said) == (
        0,
        "Stopped. The next run resumes the work.\n",
    )
    assert not (sending.path / "data" / "published").exists()
    sending.loomline("run", "--no-push")
    assert sending.json("sql", "select count(*) from staging.events")["rows"] == [[3]]


def test_what_lands_while_a_run_builds_is_a_reason_for_the_next(
    sending: Sending,
) -> None:
    home = Home(sending.path / "data")
    late = sending.path / "late.ndjson"
    late.write_text('{"type":"track","event":"Late","userId":"u9","messageId":"m9"}')
    with building(sending) as running:
        import_units(home, sending.path, units([late]), "web", workers=1)
        assert running.poll() is None
        _, said = running.communicate(timeout=300)
    assert running.returncode == 0, said
    assert sending.json("sql", "select count(*) from staging.events")["rows"] == [[3]]
    assert Built(home).has_news()
    sending.loomline("run", "--no-push")
    assert sending.json("sql", "select count(*) from staging.events")["rows"] == [[4]]
    assert not Built(home).has_news()
