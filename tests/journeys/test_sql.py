"""`loomline sql` for people and programs."""

import json
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from connectors.home import Home
from connectors.locks import exclusive
from orchestration.snapshot.writer import publish
from tests.support.checkouts import Checkout

AT = datetime(2026, 11, 21, 15, tzinfo=UTC)


@pytest.fixture
def home(checkout: Checkout) -> Home:
    """A home with two small published tables."""
    home = Home(checkout.path / "data")
    home.path.mkdir()
    with duckdb.connect(str(home.warehouse)) as warehouse:
        warehouse.execute(
            "create schema profiles; create schema audiences;"
            "create table profiles.profiles as select 'p' || i as profile_id, i as n,"
            " timestamp '2026-05-01 10:00:00' as first_seen_at from range(120) t (i);"
            "create table audiences.aud_one as select 'p1' as profile_id"
        )
    publish(home, at=AT)
    return home


def sql(
    checkout: Checkout, *arguments: str, given: str = "", code: int = 0
) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [str(checkout.bin / "loomline"), "sql", *arguments],
        cwd=checkout.path,
        env=checkout.env(),
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_json_is_one_object_and_the_version_is_told_beside_it(
    checkout: Checkout, home: Home
) -> None:
    done = sql(
        checkout,
        "select first_seen_at, n, 1.50::decimal(9, 2) as money, 'nan'::double as nan,"
        " 18446744073709551616::hugeint as wide, [1, null] as list,"
        " {'a': date '2026-05-01'} as struct,"
        " timestamptz '2026-05-01 10:00:00+02' as tz,"
        " map {1: 'x'} as map, true as yes, 'ü' as n"
        " from profiles.profiles where n = 7",
        "--json",
    )
    text = done.stdout
    assert '"rows":[["2026-05-01T10:00:00",7,1.50,null,' in text
    assert json.loads(text) == {
        "columns": [
            *("first_seen_at", "n", "money", "nan", "wide", "list", "struct", "tz"),
            *("map", "yes", "n"),
        ],
        "rows": [
            [
                "2026-05-01T10:00:00",
                7,
                1.5,
                None,
                "18446744073709551616",
                [1, None],
                {"a": "2026-05-01"},
                "2026-05-01T08:00:00Z",
                {"1": "x"},
                True,
                "ü",
            ]
        ],
    }
    assert "20261121T150000Z-0001" in done.stderr
    all_rows = sql(checkout, "from profiles.profiles", "--json").stdout
    assert len(json.loads(all_rows)["rows"]) == 120


def test_show_tables_lists_what_is_published(checkout: Checkout, home: Home) -> None:
    done = sql(checkout, "show tables", "--json")
    assert json.loads(done.stdout)["rows"] == [["aud_one"], ["profiles"]]
    assert json.loads(sql(checkout, "from aud_one", "--json").stdout)["rows"] == [
        ["p1"]
    ]


def test_commands_of_other_shells_are_understood(
    checkout: Checkout, home: Home
) -> None:
    tables = [["audiences", "aud_one"], ["profiles", "profiles"]]
    for command in ("\\d", ".tables", "\\dt;"):
        assert json.loads(sql(checkout, command, "--json").stdout)["rows"] == tables
    for command in ("\\d profiles.profiles", "describe profiles.profiles"):
        described = json.loads(sql(checkout, command, "--json").stdout)["rows"]
        names = ["profile_id", "n", "first_seen_at"]
        assert [row[0] for row in described] == names
    assert "\\d profiles.profiles" in sql(checkout, "help").stderr


def test_the_query_may_come_through_standard_input(
    checkout: Checkout, home: Home
) -> None:
    query = "-- two; of them\nselect count(*) as n from profiles.profiles;\nselect ';'"
    done = sql(checkout, given=query)
    assert "120" in done.stdout and ";" in done.stdout
    assert json.loads(sql(checkout, "--json", given=query).stdout) == {
        "columns": ["';'"],
        "rows": [[";"]],
    }


def test_a_pipe_gets_every_row_whole(checkout: Checkout, home: Home) -> None:
    done = sql(checkout, "select *, repeat('x', 500) as long from profiles.profiles")
    lines = done.stdout.splitlines()
    assert len(lines) == 120 + 4
    assert all("x" * 500 in line for line in lines[3:-1])
    assert "more rows" not in done.stdout


def test_control_characters_are_shown_and_not_obeyed(
    checkout: Checkout, home: Home
) -> None:
    done = sql(checkout, r"select '[red]' as a, E'\x1b[2J' as b, null as c")
    assert "[red]" in done.stdout and r"\x1b[2J" in done.stdout
    assert "\x1b" not in done.stdout and "NULL" in done.stdout


CONTRACT = """
event: plan_changed
on_violation: quarantine
schema: {type: object, required: [plan_type]}
"""


def test_what_was_sent_and_refused_answers_with_its_reason(checkout: Checkout) -> None:
    contracts = checkout.path / "connectors" / "events" / "contracts"
    (contracts / "plan_changed.yml").write_text(CONTRACT)
    calls = [
        {"type": "track", "event": "Plan Changed", "userId": "u1", "messageId": "m1"},
        {"type": "track", "event": "Viewed", "messageId": "m2"},
        {"type": "track", "event": "Order Completed", "userId": "u1", "messageId": "m"},
        {"type": "track", "event": "Order Completed", "userId": "u1", "messageId": "m"},
    ]
    events = checkout.path / "events.ndjson"
    events.write_text("\n".join(map(json.dumps, calls)))
    checkout.loomline("import", str(events), "--source", "web")
    checkout.loomline("run", "--no-push")

    def asked(query: str) -> list[list[object]]:
        rows: list[list[object]] = checkout.json("sql", query)["rows"]
        return rows

    refused = asked(
        "select message_id, disposition, reason, payload->>'$.event' "
        "from raw.dispositions where disposition <> 'admitted' order by message_id"
    )
    reason = "contract plan_changed v1: plan_type: required"
    assert refused == [
        ["m1", "quarantined", reason, "Plan Changed"],
        ["m2", "rejected", "missing_identity", "Viewed"],
    ]
    # received = dispositions of admission = dispositions of the models
    assert asked(
        "select (select sum(items) from raw.received_counts),"
        " (select count(*) from raw.dispositions),"
        " (select count(*) from staging.dispositions)"
    ) == [[4, 4, 4]]
    admitted = ("admitted", "raw"), ("accepted", "staging"), ("duplicate", "staging")
    assert [
        asked(
            f"select count(*) from {schema}.dispositions where disposition = '{what}'"
        )
        for what, schema in admitted
    ] == [[[2]], [[1]], [[1]]]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("selec 1", "syntax error"),
        ("from profiles.missing", "missing"),
        ("select profile_id::int from profiles.profiles", "p0"),
        ("select ?", "parameters"),
        ("select 1; from nowhere; select 2", "nowhere"),
    ],
)
def test_a_query_that_fails_is_told_once(
    checkout: Checkout, home: Home, query: str, told: str
) -> None:
    done = sql(checkout, query, code=1)
    assert done.stderr.count(told) >= 1
    assert done.stderr.count("Error:") == 1
    assert sql(checkout, query, "--json", code=1).stdout == ""


@pytest.mark.parametrize("arguments", [[], [" "], ["--json"], ["select 1", "more"]])
def test_wrong_use(checkout: Checkout, home: Home, arguments: list[str]) -> None:
    done = sql(checkout, *arguments, code=2)
    assert done.stdout == ""


def test_nothing_is_published_yet(checkout: Checkout) -> None:
    done = sql(checkout, "select 1", code=2)
    assert "yet. Run `loomline run` first." in done.stderr
    assert not (checkout.path / "data").exists()


def test_it_neither_waits_nor_keeps_others_waiting(
    checkout: Checkout, home: Home
) -> None:
    with exclusive(home.run_lock), duckdb.connect(str(home.warehouse)) as warehouse:
        warehouse.execute("begin; delete from profiles.profiles")
        done = sql(checkout, "select count(*) from profiles.profiles", "--json")
    assert json.loads(done.stdout)["rows"] == [[120]]
    before = sorted(home.path.rglob("*"))
    sql(checkout, "create table profiles.mine as select 1 as a; from profiles.mine")
    sql(checkout, "drop view profiles.profiles")
    assert sorted(home.path.rglob("*")) == before
    with duckdb.connect(str(home.warehouse)) as warehouse:
        assert warehouse.sql("from audiences.aud_one").fetchall() == [("p1",)]


# Beyond the published tables


def test_files_and_settings_are_left_alone_unless_that_is_allowed(
    checkout: Checkout, home: Home, tmp_path: Path
) -> None:
    (tmp_path / "own.csv").write_text("name\ngrace\n")
    written = tmp_path / "out.csv"
    for query in (
        f"from read_csv('{tmp_path}/own.csv')",
        "set threads = 1",
        f"copy (select 1 as a) to '{written}'",
    ):
        for arguments in ([query], ["--json", query]):
            done = sql(checkout, *arguments, code=1)
            assert done.stderr.count("Add --unsafe to allow this.") == 1
            assert done.stdout == ""
        assert not written.exists()
        sql(checkout, "--unsafe", query)
    assert written.exists()
    assert "grace" in sql(checkout, f"from '{tmp_path}/own.csv'", "--unsafe").stdout


# At the prompt

ENDLESS = "select count(*) from range(1_000_000_000_000) where range % 7 = 1;\n"


class Terminal:
    """The other side of a terminal of 100 columns."""

    def __init__(self, descriptor: int, process: "subprocess.Popen[bytes]") -> None:
        self._descriptor = descriptor
        self.process = process
        self._unread = ""

    def type(self, text: str) -> None:
        # Key by key, as people type: readline can leave the last of many keys unread.
        for key in text:
            os.write(self._descriptor, key.encode())
            time.sleep(0.005)

    def until(self, text: str) -> str:
        """Return the output up to and including the text."""
        deadline = time.monotonic() + 60
        while text not in self._unread:
            assert time.monotonic() < deadline, self._unread
            self._read(within_s=0.1)
        end = self._unread.index(text) + len(text)
        found, self._unread = self._unread[:end], self._unread[end:]
        return found

    def interrupted(self) -> str:
        """Press Ctrl-C; return the output up to the next prompt.

        Presses again if needed: readline misses the key while it redraws.
        """
        found = ""
        for _ in range(20):
            os.kill(self.process.pid, signal.SIGINT)
            while self._read(within_s=1):
                pass
            found, self._unread = found + self._unread, ""
            if found.endswith("loomline> "):
                return found
        raise AssertionError(found)

    def _read(self, within_s: float) -> bool:
        if not select.select([self._descriptor], [], [], within_s)[0]:
            return False
        self._unread += os.read(self._descriptor, 65536).decode(errors="replace")
        return True


@contextmanager
def terminal(checkout: Checkout, user: Path) -> Iterator[Terminal]:
    here, there = pty.openpty()
    env = checkout.env() | {"HOME": str(user), "TERM": "dumb", "COLUMNS": "100"}
    with subprocess.Popen(
        [str(checkout.bin / "loomline"), "sql"],
        cwd=checkout.path,
        env=env,
        stdin=there,
        stdout=there,
        stderr=there,
        start_new_session=True,
        # It is ignored where the tests run in the background.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        os.close(there)
        try:
            yield Terminal(here, process)
        finally:
            process.kill()
            os.close(here)


def test_the_prompt(checkout: Checkout, home: Home, tmp_path: Path) -> None:
    with terminal(checkout, tmp_path) as shell:
        said = shell.until("loomline> ")
        assert "20261121T150000Z-0001" in said and "audiences  aud_one" in said
        shell.type(".tables\n")
        assert "profiles   profiles" in shell.until("loomline> ")
        shell.type("select 40 + 2\n")
        shell.until("...> ")
        shell.type("as answer;\n")
        assert "42" in shell.until("loomline> ")

        # After an error the prompt continues, with the tables created before.
        shell.type("create table mine as select 'kept' as a;\n")
        shell.until("loomline> ")
        shell.type("from nowhere;\n")
        said = shell.until("loomline> ")
        assert "nowhere does not exist" in said and "Traceback" not in said
        shell.type("from mine;\n")
        assert "kept" in shell.until("loomline> ")

        # No more than a screen or two.
        shell.type("from profiles.profiles order by n;\n")
        said = shell.until("loomline> ")
        assert "70 more rows" in said and "p49" in said and "p50" not in said

        # Rows that are wider than the terminal are lists, with every value whole.
        columns = ", ".join(f"{n} as column_{n}" for n in range(30))
        shell.type(f"select {columns};\n")
        assert "column_29" in shell.until("loomline> ")
        shell.type("select profile_id, repeat('a', 60) as a, repeat('b', 60) as b")
        shell.type(" from profiles.profiles order by n;\n")
        said = shell.until("loomline> ")
        assert "row 10" in said and "b" * 60 in said
        assert "row 11" not in said and "110 more rows" in said

        # What needs no semicolon.
        shell.type("show tables\n")
        assert "aud_one" in shell.until("loomline> ")
        shell.type("\\d profiles.profiles\n")
        assert "TIMESTAMP" in shell.until("loomline> ")
        shell.type("help\n")
        assert "a whole query" in shell.until("loomline> ")

        # Ctrl-C gives up a statement, typed or running.
        for text in ("select 'unfinished\n", ENDLESS):
            shell.type(text)
            time.sleep(1)
            assert "Traceback" not in shell.interrupted()
            shell.type("select 6 * 7 as answer;\n")
            shell.until("42")
            shell.until("loomline> ")

        shell.type("exit\n")
        assert shell.process.wait(timeout=30) == 0

    history = tmp_path / ".loomline_history"
    assert "as answer;" in history.read_text()
    assert history.stat().st_mode & 0o777 == 0o600


def test_a_prompt_open_for_long_goes_on_with_the_current_version(
    checkout: Checkout, home: Home, tmp_path: Path
) -> None:
    with terminal(checkout, tmp_path) as shell:
        shell.until("loomline> ")
        for number in (1, 2):
            with duckdb.connect(str(home.warehouse)) as warehouse:
                warehouse.execute("insert into audiences.aud_one values ('new')")
            publish(home, at=AT, clock=lambda now=number * 1e10: now)  # type: ignore[misc]
        shell.type("select count(*) as c from audiences.aud_one;\n")
        said = shell.until("loomline> ")
        assert "Z-0003" in said and "3" in said
        # With one version throughout, as long as that is there.
        with duckdb.connect(str(home.warehouse)) as warehouse:
            warehouse.execute("delete from audiences.aud_one")
        publish(home, at=AT)
        shell.type("select 'still ' || count(*) as c from audiences.aud_one;\n")
        said = shell.until("loomline> ")
        assert "Z-0004" not in said and "still 3" in said
        shell.type("\x04")
        assert shell.process.wait(timeout=30) == 0
