"""What a run reads from the warehouse waits while another program has it open."""

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from connectors.home import Home
from orchestration.pipeline.delivery import read_syncs
from orchestration.pipeline.memberships import last_run_number, membership_changes
from orchestration.pipeline.run import refuse_the_past

TABLES = """
create schema audiences;
create schema destinations;
create table audiences.int_membership_changes
    (audience text, change text, run_number int, changed_at timestamp);
create table audiences.audience_members
    (audience text, profile_id text, left_at timestamp);
create table destinations.int_sync_counts
    (destination text, audience text, eligible int, sendable int, held int);
create table destinations.int_delivered
    (destination text, audience text, profile_id text);
create table destinations.int_sync_changes (
    destination text, audience text, profile_id text, operation text,
    identifier_operation text, identifier_type text, identifier_sent text
);
"""
TOOL = """
import sys, duckdb
with duckdb.connect(sys.argv[1]):
    print("open", flush=True)
    sys.stdin.read()
"""
AT = datetime(2026, 5, 1, tzinfo=UTC)

Say = Callable[[str], None]


@pytest.mark.parametrize(
    ("read", "answer"),
    [
        (last_run_number, 0),
        (lambda home, say: membership_changes(home, 0, say), []),
        (lambda home, say: refuse_the_past(home, AT, say), None),
        (read_syncs, []),
    ],
    ids=["last_run_number", "membership_changes", "refuse_the_past", "read_syncs"],
)
def test_reading_waits_for_a_tool(
    tmp_path: Path, read: Callable[[Home, Say], Any], answer: Any
) -> None:
    home = Home(tmp_path)
    with duckdb.connect(str(home.warehouse)) as warehouse:
        warehouse.execute(TABLES)
    with subprocess.Popen(
        [sys.executable, "-c", TOOL, str(home.warehouse)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as tool:
        assert tool.stdin is not None and tool.stdout is not None
        assert tool.stdout.readline() == "open\n"
        told: list[str] = []

        def say(message: str) -> None:
            told.append(message)
            tool.communicate(timeout=60)  # end it

        assert read(home, say) == answer
        assert len(told) == 1 and f"(PID {tool.pid})" in told[0]
