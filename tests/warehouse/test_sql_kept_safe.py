"""Statements of `loomline sql` reach nothing beyond the published tables."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from connectors.home import Home
from orchestration.cli.sql import QueryFailed, answer
from orchestration.snapshot.writer import publish

AT = datetime(2026, 11, 21, 15, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home with one small published table."""
    home = Home(tmp_path / "home")
    home.path.mkdir()
    with duckdb.connect(str(home.warehouse)) as warehouse:
        warehouse.execute(
            "create schema profiles;"
            "create table profiles.profiles as select i as n from range(12) t (i)"
        )
    publish(home, at=AT)
    return home


def asked(home: Home, query: str, *, is_safe: bool = True) -> list[list[Any]]:
    said: list[str] = []
    found = answer(home, query, say=said.append, is_safe=is_safe)
    return list(found["rows"])


def refused(home: Home, query: str) -> str:
    with pytest.raises(QueryFailed) as caught:
        asked(home, query)
    return str(caught.value)


READS = {
    "text": "select * from read_text('{folder}/own.csv')",
    "the machine's": "select * from read_text('/etc/passwd')",
    "csv": "from read_csv('{folder}/own.csv')",
    "by its name alone": "from '{folder}/own.csv'",
    "hidden in a string": "from query('from read_csv(''{folder}/own.csv'')')",
    "into a table": "create table t as from read_csv('{folder}/own.csv')",
    "the warehouse": "attach '{home}/warehouse.duckdb' as w (read_only);"
    " from w.profiles.profiles",
    "beside the version": "from read_blob('{version}/../../own.csv')",
    "names of files": "from glob('{folder}/*')",
    "another database": "attach ':memory:' as m",
    "parsed before it is run": "import database '{folder}/exported'",
}
WRITES = {
    "copy": "copy (select 1 as a) to '{folder}/out.csv'",
    "copy with a comment": "/* ; */ copy (select 1 as a) to '{folder}/out.csv'",
    "prepared": "prepare p as copy (select 1 as a) to '{folder}/out.csv'; execute p",
    "explained": "explain analyze copy (select 1 as a) to '{folder}/out.csv'",
    "explained in a comment": "/* /* */ explain select 1 --*/ explain analyze"
    " copy (select 1 as a) to '{folder}/out.csv'",
    "a file of the version": "copy (select 1 as a) to '{table}' (use_tmp_file false)",
    "export": "export database '{folder}/out'",
    "a log": "call enable_logging(storage = 'file', storage_path = '{folder}/log')",
}
SETTINGS = [
    "set threads = 1",
    "reset threads",
    "pragma threads = 1",
    "pragma enable_profiling",
    "call enable_profiling()",
    "load json",
]
ELSEWHERE = [
    "install httpfs",
    "load httpfs",
    "from read_csv('https://shop.example/events.csv')",
    "from 'https://shop.example/events.parquet'",
    "from 's3://shop/events.parquet'",
    "update extensions",
    "set enable_external_access = true",
    "set lock_configuration = false",
    "create secret s (type s3)",
]

ASKING = [
    "explain select n from profiles.profiles",
    "-- how\nexplain analyze from profiles.profiles",
    "EXPLAIN (FORMAT json) select n from profiles.profiles",
    "show all tables",
    "describe profiles.profiles",
    "summarize profiles.profiles",
    "pragma table_info('profiles.profiles')",
    "use profiles; from profiles",
    "set variable least = 3; from profiles.profiles where n > getvariable('least')",
    "begin; create temp table t as from profiles.profiles; update t set n = 0;"
    " delete from t where n > 7; alter table t rename n to m; commit; from t",
    "create macro twice(x) as 2 * x; select twice(n) from profiles.profiles",
    "pivot profiles.profiles on n using count(*)",
    "select json_extract('{\"a\": 1}', 'a'), now() at time zone 'Asia/Tokyo'",
]


def spelled(query: str, home: Home, folder: Path) -> str:
    """Return the query with paths of an existing file and an exported database."""
    (folder / "own.csv").write_text("name\ngrace\n")
    exported = folder / "exported"
    if not exported.exists():
        with duckdb.connect() as database:
            database.execute("create table of_old as select 1 as a")
            database.execute(f"export database '{exported}'")
    version = (home.published / "current").resolve()
    table = version / "profiles/profiles/all.parquet"
    assert table.exists()
    names = {"folder": folder, "home": home.path, "version": version, "table": table}
    return query.format(**names)


@pytest.mark.parametrize("name", [*READS, *WRITES])
def test_files_are_neither_read_nor_written_unless_that_is_allowed(
    home: Home, tmp_path: Path, name: str
) -> None:
    query = spelled((READS | WRITES)[name], home, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    said = refused(home, query)
    assert "Add --unsafe to allow this." in said and "grace" not in said
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    asked(home, query, is_safe=False)


@pytest.mark.parametrize("query", SETTINGS)
def test_settings_stay_as_they_are_unless_that_is_allowed(
    home: Home, query: str
) -> None:
    assert "Add --unsafe to allow this." in refused(home, query)
    asked(home, query, is_safe=False)


@pytest.mark.parametrize("query", ELSEWHERE)
def test_nothing_is_fetched_from_elsewhere(home: Home, query: str) -> None:
    assert "Add --unsafe to allow this." in refused(home, query)


def test_secrets_of_other_tools_are_neither_seen_nor_made(home: Home) -> None:
    made = "create persistent secret s (type http, bearer_token 'x')"
    assert "secrets are disabled" in refused(home, made)
    assert asked(home, "from duckdb_secrets()") == []


@pytest.mark.parametrize("query", ASKING)
def test_whatever_asks_the_tables_needs_no_permission(home: Home, query: str) -> None:
    assert asked(home, query)


def test_a_variable_of_the_program_is_no_table(home: Home) -> None:
    said = refused(home, "from found")
    assert "does not exist" in said and "--unsafe" not in said
