"""The published snapshot: always complete, and written only where it changed.

`python -m tests.warehouse.test_published HOME` copies HOME to `HOME-001`, `HOME-002`, …
and publishes each in a separate process, killed (SIGKILL) at its first, second, …
change of the published folder, until one completes. Prints the number of copies.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest

from connectors.errors import ConfigError
from connectors.home import Home
from connectors.landing.compaction import compact
from connectors.landing.manifest import Manifest
from connectors.landing.prepare import prepare
from connectors.landing.streams import rows_table
from connectors.landing.writer import land
from orchestration.snapshot.contents import PART_ROWS
from orchestration.snapshot.reader import Snapshot, open_snapshot, read_snapshot
from orchestration.snapshot.retention import READERS_S
from orchestration.snapshot.writer import Published, PublishFailed, publish

AT = datetime(2026, 11, 21, 15, tzinfo=UTC)
NOW = AT.timestamp()
LATER = NOW + 3 * READERS_S

MADE = """
create schema raw; create schema staging; create schema identity;
create schema profiles; create schema audiences; create schema destinations;
create table raw.loads as select 1 as load_seq, 'events' as stream;
create table raw.events as select 'm1' as message_id;
create table staging.int_events as
    select * from (values
        ('m1', timestamp '2026-09-30 23:59:59.999999', [{'type': 'email'}], 1),
        ('m2', timestamp '2026-10-01 00:00:00', [], 2),
        ('m3', timestamp '2026-11-21 10:00:00', null, 3),
        ('m4', null, null, 4)
    ) as made (message_id, received_at, identifiers, load_seq);
create view staging.events as select * exclude (load_seq) from staging.int_events;
create table staging.dispositions (message_id text, received_at timestamp);
create table identity.int_nodes__changes as select 1 as x;
create table identity.nodes__changes as select 1 as x;
create view identity.identity_nodes as select 'email' as identifier_type;
create table identity.profile_merges (merged_at timestamp, from_profile_id text);
create table profiles.profiles as select 'p1' as profile_id;
create table audiences.aud_one as select 'p1' as profile_id;
create table destinations.sync_runs as select 1::bigint as added;
create table main.stray as select 1 as x;
"""
PUBLIC = {
    "raw.loads",
    "staging.events",
    "staging.dispositions",
    "identity.identity_nodes",
    "identity.profile_merges",
    "profiles.profiles",
    "audiences.aud_one",
    "destinations.sync_runs",
}


def change(home: Home, statements: str) -> None:
    home.path.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(home.warehouse)) as warehouse:
        warehouse.execute(statements)


def published(home: Home, *, now: float = NOW) -> Published:
    return publish(home, at=AT, clock=lambda: now)


def tables(home: Home) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of every published table."""
    with open_snapshot(home) as connection:
        names = connection.sql(
            "select table_schema, table_name from information_schema.tables"
        ).fetchall()
        return {
            f"{schema}.{name}": sorted(
                connection.sql(f'from "{schema}"."{name}"').fetchall(), key=repr
            )
            for schema, name in names
        }


def rows(home: Home, query: str) -> list[tuple[Any, ...]]:
    with open_snapshot(home) as connection:
        return connection.sql(query).fetchall()


def inodes(home: Home) -> dict[str, int]:
    folder = home.published / read_snapshot(home).version
    return {
        str(path.relative_to(folder)): path.stat().st_ino
        for path in folder.glob("**/*.parquet")
    }


def assert_whole(home: Home) -> Snapshot:
    """Assert that the current version has exactly the described files."""
    snapshot = read_snapshot(home)
    assert_holds(home.published / snapshot.version, snapshot)
    return snapshot


def assert_holds(folder: Path, snapshot: Snapshot) -> None:
    described = {
        folder / file.path: (file.rows, file.bytes)
        for table in snapshot.tables
        for file in table.files
    }
    assert described.keys() == set(folder.glob("**/*.parquet"))
    with duckdb.connect() as connection:
        for path, (count, size) in described.items():
            assert path.stat().st_size == size
            found = connection.execute("from read_parquet([?])", [str(path)])
            assert len(found.fetchall()) == count, path


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    change(home, MADE)
    return home


# What is in it


def test_public_tables_are_published_and_nothing_else(home: Home) -> None:
    done = published(home)
    assert done.version == "20261121T150000Z-0001"
    assert (done.is_new, done.tables, done.rows) == (True, 8, 9)
    found = tables(home)
    assert set(found) == PUBLIC
    with duckdb.connect(str(home.warehouse), read_only=True) as warehouse:
        for name, published_rows in found.items():
            expected = warehouse.sql(f"from {name}").fetchall()
            assert published_rows == sorted(expected, key=repr), name
    snapshot = assert_whole(home)
    assert (snapshot.at, snapshot.published_at) == (AT, AT)
    assert sum(table.rows for table in snapshot.tables) == done.rows
    assert (home.published / "current").resolve().name == done.version


def test_of_the_tables_of_events_the_models_own_are_left_out(home: Home) -> None:
    own = ("int_event_properties", "event_columns__changes", "event_columns__loaded")
    made = (*own, "order_completed", "_int_paid", "total_fb91500e_")
    tables_made = (f"create table events.{name} as select 1 as x;" for name in made)
    change(home, "create schema events;" + "".join(tables_made))
    published(home)
    found = set(tables(home)) - PUBLIC
    assert found == {f"events.{name}" for name in made if name not in own}


def test_a_table_without_rows_keeps_its_columns(home: Home) -> None:
    published(home)
    for name in ("identity.profile_merges", "staging.dispositions"):
        assert rows(home, f"from {name}") == []
        with duckdb.connect(str(home.warehouse), read_only=True) as warehouse:
            described = warehouse.sql(f"describe {name}").fetchall()
        assert rows(home, f"describe {name}") == described


def test_any_duckdb_opens_it_by_its_script(home: Home) -> None:
    published(home)
    script = (home.published / "current" / "open.sql").read_text()
    with duckdb.connect() as connection:
        connection.execute(script)
        assert connection.sql("from warehouse.profiles.profiles").fetchall() == [
            ("p1",)
        ]
        # It names files of its version, and is not led elsewhere by a newer one.
        change(home, "update profiles.profiles set profile_id = 'p2'")
        published(home)
        assert connection.sql("from profiles.profiles").fetchall() == [("p1",)]
    assert rows(home, "from profiles.profiles") == [("p2",)]


def test_values_come_back_as_they_are(home: Home) -> None:
    change(
        home,
        """
        create table profiles.kinds as select
            170141183460469231731687303715884105727::hugeint as wide,
            [170141183460469231731687303715884105727::hugeint] as list_of_wide,
            340282366920938463463374607431768211455::uhugeint as unsigned,
            1.10::decimal(38, 2) as money,
            'infinity'::timestamp as forever,
            timestamptz '2026-01-01 10:00:00.123456+02' as instant,
            {'a': [1, null], 'b': map {'k': null::int}} as nested,
            'a'::blob as bytes, '{"a": 1}'::json as text, date '0044-03-15' as day,
            [''] as strings, null::int as nothing, true as yes, 'nan'::double as nan
        """,
    )
    published(home)
    query = "select *, typeof(wide), typeof(unsigned) from {}profiles.kinds"
    with duckdb.connect(str(home.warehouse), read_only=True) as warehouse:
        warehouse.execute("set TimeZone = 'UTC'")
        expected = warehouse.sql(query.format("")).fetchall()
    assert repr(rows(home, query.format(""))) == repr(expected)


ODD = ['Groß "quoted"', "a/b", "..", "with space", "it's", "50%*?[x]", "select", "x=1"]


def test_odd_names(tmp_path: Path) -> None:
    home = Home(tmp_path / "it's = [one] *" / "day=1")
    change(home, "create schema profiles")
    with duckdb.connect(str(home.warehouse)) as warehouse:
        for number, name in enumerate(ODD):
            quoted = '"' + name.replace('"', '""') + '"'
            warehouse.execute(
                f"create table profiles.{quoted} as select {number} as {quoted}"
            )
    published(home)
    assert sorted(table.name for table in read_snapshot(home).tables) == sorted(ODD)
    folder = home.published / read_snapshot(home).version
    assert len(list(folder.glob("profiles/*/all.parquet"))) == len(ODD)
    for number, name in enumerate(ODD):
        quoted = '"' + name.replace('"', '""') + '"'
        assert rows(home, f"select {quoted} from profiles.{quoted}") == [(number,)]
        assert rows(home, f"describe profiles.{quoted}")[0][0] == name
    assert not published(home).is_new
    # A folder above is no column of a table below.
    change(home, "create table profiles.days as select 7 as day")
    published(home)
    assert rows(home, "select day from profiles.days") == [(7,)]


def test_a_view_whose_table_is_gone_is_left_out_and_told(home: Home) -> None:
    change(
        home,
        "create table audiences.int_old as select 'p1' as profile_id;"
        "create view audiences.aud_old as from audiences.int_old;"
        "drop table audiences.int_old",
    )
    done = published(home)
    assert done.unreadable == ("audiences.aud_old",)
    assert set(tables(home)) == PUBLIC


# Raw streams

STREAMS = ["raw.dispositions", "raw.received_counts"]


def build(home: Home) -> None:
    """Write the tables that the models would build, up to the newest load."""
    newest = Manifest(home).newest()
    views = "".join(f"create or replace view {name} as select 1;" for name in STREAMS)
    change(
        home,
        "create schema if not exists raw; create schema if not exists staging;"
        f"{views} create or replace table staging.int_dispositions as "
        f"select {newest} as load_seq where {newest} > 0",
    )


def refuse(home: Home, *ids: str) -> None:
    """Land one load with these rejected items."""
    at = int(NOW * 1e6)
    place = ("web", "http", at, "rejected", "missing_identity", None)
    found = [(name, *place, f'{{"id":"{name}"}}', None) for name in ids]
    loaded = {
        "dispositions": rows_table("dispositions", found),
        "received_counts": rows_table(
            "received_counts", [(ids[0], "web", at, len(ids))]
        ),
    }
    assert land(home, f"load-{ids[0]}", loaded)


@pytest.fixture
def streams(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    prepare(home)
    build(home)
    return home


COUNTED = "select (select count(*) from raw.dispositions), sum(items) from "
COUNTED += "raw.received_counts"


def test_refused_items_are_asked_for_with_what_was_sent(streams: Home) -> None:
    refuse(streams, "m1", "m2")
    build(streams)
    published(streams)
    query = "select message_id, reason, payload from raw.dispositions order by all"
    assert rows(streams, query) == [
        ("m1", "missing_identity", '{"id":"m1"}'),
        ("m2", "missing_identity", '{"id":"m2"}'),
    ]
    assert rows(streams, COUNTED) == [(2, 2)]
    columns = "select string_agg(column_name, ' ') from (describe {})"
    assert [rows(streams, columns.format(name))[0][0] for name in STREAMS] == [
        "message_id source channel received_at disposition reason event payload "
        "replay_of",
        "segment source hour items",
    ]


def test_a_stream_without_rows_is_a_table_without_rows(streams: Home) -> None:
    published(streams)
    assert [rows(streams, f"from {name}") for name in STREAMS] == [[], []]
    assert not published(streams).is_new


def test_raw_streams_are_linked_and_nothing_is_written(streams: Home) -> None:
    refuse(streams, "m1")
    build(streams)
    assert published(streams).bytes_written == 0
    refuse(streams, "m2")
    build(streams)
    done = published(streams)
    assert (done.is_new, done.files_written, done.files_kept) == (True, 0, 6)
    assert_whole(streams)
    raw = {path.stat().st_ino for path in streams.raw.rglob("*.parquet")}
    assert set(inodes(streams).values()) <= raw
    # What compaction replaces and deletes, a version goes on reading.
    reader = open_snapshot(streams)
    assert compact(streams, clock=lambda: time.time() + 86_400) > 0
    for path in streams.raw.glob("*/*/load-*"):
        path.unlink()
    assert reader.sql(COUNTED).fetchall() == [(2, 2)]
    assert published(streams).bytes_written == 0
    assert rows(streams, COUNTED) == [(2, 2)]
    assert not published(streams).is_new


def test_loads_that_the_models_have_not_seen_wait_for_the_next_version(
    streams: Home,
) -> None:
    refuse(streams, "m1")
    build(streams)
    refuse(streams, "m2", "m3")
    published(streams)
    assert rows(streams, COUNTED) == [(1, 1)]
    # Also when compaction has put both into one file meanwhile.
    compact(streams, clock=lambda: time.time() + 86_400)
    published(streams)
    assert rows(streams, COUNTED) == [(1, 1)]
    build(streams)
    assert published(streams).is_new
    assert rows(streams, COUNTED) == [(3, 3)]


def test_files_from_before_a_column_was_added_lack_it(streams: Home) -> None:
    older = rows_table("received_counts", [("s", "web", 0, 7)]).drop(["segment"])
    assert land(streams, "older", {"received_counts": older})
    build(streams)
    published(streams)
    assert rows(streams, "select segment, items from raw.received_counts") == [
        (None, 7)
    ]


# Only changes are written


def test_what_did_not_change_stays_the_same_file(home: Home) -> None:
    published(home)
    before = inodes(home)
    change(
        home,
        "insert into staging.int_events "
        "values ('m5', timestamp '2026-11-21 11:00:00', [], 5);"
        "insert into audiences.aud_one values ('p2')",
    )
    done = published(home)
    after = inodes(home)
    assert done.version == "20261121T150000Z-0002"
    assert before.keys() == after.keys()
    assert {path for path in after if after[path] != before[path]} == {
        "staging/events/2026-11.parquet",
        "audiences/aud_one/all.parquet",
    }
    assert (done.files_written, done.files_kept) == (2, len(after) - 2)
    assert 0 < done.bytes_written < 5000
    assert_whole(home)

    # A late event rewrites its month, and the rest stays.
    change(
        home,
        "insert into staging.int_events "
        "values ('m0', timestamp '2026-09-01 11:00:00', [], 6)",
    )
    published(home)
    late = inodes(home)
    assert {path for path in late if late[path] != after[path]} == {
        "staging/events/2026-09.parquet"
    }


def test_without_a_change_there_is_no_new_version(home: Home) -> None:
    first = published(home)
    again = publish(home, at=AT.replace(hour=16), clock=lambda: LATER)
    assert (again.version, again.is_new) == (first.version, False)
    assert (again.files_written, again.bytes_written) == (0, 0)
    assert again.files_kept == first.files_written
    # The same rows in another order are no change.
    change(
        home,
        "create or replace table staging.int_events as "
        "from staging.int_events order by message_id desc",
    )
    assert not published(home).is_new


def test_a_table_that_is_gone_is_gone(home: Home) -> None:
    published(home)
    change(home, "drop table audiences.aud_one")
    done = published(home)
    assert (done.is_new, done.files_written) == (True, 0)
    assert set(tables(home)) == PUBLIC - {"audiences.aud_one"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("select 1 as a", "select * from (values (1), (2), (2)) as t (a)"),
        ("select * from (values (1), (1)) as t (a)", "select 2 as a from range(2)"),
        ("select null::int[] as a", "select []::int[] as a"),
        ("select [null]::int[] as a", "select []::int[] as a"),
        ("select null::struct(x int) as a", "select {'x': null::int} as a"),
        ("select null as a, 1 as b", "select 1 as a, null as b"),
        ("select 'ab' as a, '' as b", "select 'a' as a, 'b' as b"),
        ("select null::text as a", "select '' as a"),
        ("select 1 as a", "select 1 as b"),
        ("select 1 as a, 1 as b", "select 1 as b, 1 as a"),
        ("select 1::int as a", "select 1::bigint as a"),
        ("select 0 as a where false", "select 0 as a"),
    ],
)
def test_every_change_is_seen(home: Home, before: str, after: str) -> None:
    change(home, f"create table profiles.changing as {before}")
    published(home)
    change(home, f"create or replace table profiles.changing as {after}")
    done = published(home)
    assert (done.is_new, done.files_written) == (True, 1)
    with duckdb.connect(str(home.warehouse), read_only=True) as warehouse:
        expected = warehouse.sql("from profiles.changing").fetchall()
    assert tables(home)["profiles.changing"] == sorted(expected, key=repr)


def test_the_same_rows_are_the_same_bytes(tmp_path: Path) -> None:
    data: list[dict[str, bytes]] = []
    for order in ("id", "id desc", "hash(id)"):
        home = Home(tmp_path / order)
        change(
            home,
            "create schema profiles; create table profiles.many as "
            "select id // 3 as number, md5(id::text) as text, id % 7 = 0 as flag "
            f"from range(300_000) as made (id) order by {order}",
        )
        published(home)
        folder = home.published / read_snapshot(home).version
        files = folder.glob("**/*.parquet")
        data.append({path.name: path.read_bytes() for path in files})
    assert data[0] == data[1] == data[2]


def test_months_with_many_rows_are_a_file_a_day_and_days_a_file_an_hour(
    tmp_path: Path,
) -> None:
    home = Home(tmp_path / "home")
    few, many = PART_ROWS // 20, PART_ROWS // 2
    change(
        home,
        f"""
        create schema staging;
        create table staging.events as
        select received_at, i as message_id from (
            select timestamp '2026-01-31 23:59:59' as received_at, {few} as n
            union all select timestamp '2026-02-01 00:00:00', {few}
            union all select timestamp '2026-02-28 23:59:59.999999', {PART_ROWS}
            union all select timestamp '2026-03-01 00:00:00', {many}
            union all select timestamp '2026-03-01 23:00:00', {many + 1}
            union all select timestamp '2026-03-31 12:00:00', 1
            union all select timestamp '9999-01-01 00:00:00', 1
            union all select timestamp '0001-01-01 00:00:00', 1
            union all select 'infinity'::timestamp, 1
            union all select null, 2
        ), unnest(range(n)) as numbers (i)
        """,
    )
    published(home)
    snapshot = assert_whole(home)
    (table,) = snapshot.tables
    found = {Path(file.path).stem: file.rows for file in table.files}
    assert found == {
        "undated": 5,
        "2026-01": few,
        "2026-02-01": few,
        "2026-02-28": PART_ROWS,
        "2026-03-01T00": many,
        "2026-03-01T23": many + 1,
        "2026-03-31": 1,
    }
    query = "select count(*), sum(hash(received_at, message_id)::hugeint) from "
    with duckdb.connect(str(home.warehouse), read_only=True) as warehouse:
        expected = warehouse.sql(query + "staging.events").fetchall()
    assert rows(home, query + "staging.events") == expected

    change(home, "delete from staging.events where received_at = '2026-03-31 12:00:00'")
    done = published(home)
    assert (done.files_written, done.files_kept) == (0, 6)


def test_a_damaged_version_is_mended_by_the_next(home: Home) -> None:
    first = published(home)
    folder = home.published / first.version
    (folder / "profiles/profiles/all.parquet").unlink()
    os.truncate(folder / "audiences/aud_one/all.parquet", 10)
    done = published(home)
    assert (done.is_new, done.files_written) == (True, 2)
    assert set(tables(home)) == PUBLIC
    (home.published / done.version / "snapshot.json").write_text("{}")
    assert published(home).files_kept == 0
    assert_whole(home)


def test_a_file_system_without_room_for_another_link_gets_a_copy(home: Home) -> None:
    first = published(home)
    path = home.published / first.version / "profiles/profiles/all.parquet"
    links = home.path / "links"
    links.mkdir()
    try:
        for number in range(65_000):  # limit of ext4
            (links / str(number)).hardlink_to(path)
    except OSError:
        pass
    change(home, "drop table audiences.aud_one")
    published(home)
    assert_whole(home)
    assert rows(home, "from profiles.profiles") == [("p1",)]


def test_a_home_that_was_moved(home: Home, tmp_path: Path) -> None:
    published(home)
    moved = Home(tmp_path / "elsewhere")
    home.path.rename(moved.path)
    assert set(tables(moved)) == PUBLIC
    done = published(moved)  # its script names other paths
    assert (done.is_new, done.files_written) == (True, 0)
    with duckdb.connect() as connection:
        connection.execute((moved.published / "current" / "open.sql").read_text())
        assert connection.sql("from profiles.profiles").fetchall() == [("p1",)]


# Concurrent readers and writers


def test_nothing_is_published_yet(home: Home) -> None:
    with pytest.raises(ConfigError, match="Run `loomline run` first"):
        open_snapshot(home)


def test_readers_do_not_mind_an_open_warehouse(home: Home) -> None:
    published(home)
    code = (
        "import duckdb, sys; c = duckdb.connect(sys.argv[1]); c.execute('begin');"
        "c.execute('delete from profiles.profiles'); print('open', flush=True);"
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(home.warehouse)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        assert rows(home, "from profiles.profiles") == [("p1",)]
        # Publishing fails with a message; readers keep their version.
        with pytest.raises(PublishFailed, match="PID"):
            published(home)
        assert set(tables(home)) == PUBLIC
        holder.communicate("", timeout=30)


@pytest.mark.parametrize(
    "wrong",
    [
        "create view profiles.wrong as select profile_id::int from profiles.profiles",
        f"create table profiles.{'x' * 300} as select 1 as too_long_for_a_folder",
    ],
)
def test_a_failed_publish_leaves_nothing_behind(home: Home, wrong: str) -> None:
    published(home)
    change(home, "insert into audiences.aud_one values ('p2');" + wrong)
    before = sorted(home.published.iterdir())
    with pytest.raises(PublishFailed, match="Nothing was published"):
        published(home)
    assert sorted(home.published.iterdir()) == before
    assert rows(home, "from audiences.aud_one") == [("p1",)]


VERSIONS = """
import sys
from datetime import UTC, datetime
from pathlib import Path
import duckdb
from connectors.home import Home
from orchestration.snapshot.writer import publish

home = Home(Path(sys.argv[1]))
for number in range(2, 22):
    with duckdb.connect(str(home.warehouse)) as warehouse:
        for table in ("profiles.profiles", "audiences.aud_one", "staging.int_events"):
            warehouse.execute(
                f"create or replace table {table} as select {number} as n, i as "
                f"load_seq, now()::timestamp as received_at "
                f"from range({number} * 100) as made (i)"
            )
    assert publish(home, at=datetime(2026, 11, 21, tzinfo=UTC)).is_new
"""


def test_a_reader_beside_twenty_versions_sees_only_whole_ones(
    home: Home, project_path: Path
) -> None:
    change(
        home,
        "".join(
            f"create or replace table {table} as select 1 as n, i as load_seq, "
            "now()::timestamp as received_at from range(100) as made (i);"
            for table in ("profiles.profiles", "audiences.aud_one")
        )
        + "create or replace table staging.int_events as from profiles.profiles",
    )
    published(home)
    query = (
        "select min(n), max(n), count(*) from {} "
        "union all select min(n), max(n), count(*) from {} "
        "union all select min(n), max(n), count(*) from {}"
    ).format("profiles.profiles", "audiences.aud_one", "staging.events")
    seen: list[int] = []
    with subprocess.Popen(
        [sys.executable, "-c", VERSIONS, str(home.path)], cwd=project_path
    ) as writer:
        while writer.poll() is None:
            if len(seen) % 2:
                connection = open_snapshot(home)
            else:
                connection = duckdb.connect()
                script = home.published / "current" / "open.sql"
                connection.execute(script.read_text())
            found = connection.sql(query).fetchall()
            again = connection.sql(query).fetchall()
            connection.close()
            number = found[0][0]
            assert found == again == [(number, number, number * 100)] * 3
            seen.append(number)
        assert writer.returncode == 0
    assert rows(home, query)[0] == (21, 21, 2100)
    assert seen == sorted(seen)
    assert len(set(seen)) > 10


# How long versions stay


def test_versions_stay_until_their_readers_are_done(home: Home) -> None:
    def next_version(now: float) -> str:
        change(home, "insert into profiles.profiles values ('p')")
        return published(home, now=now).version

    def there() -> set[str]:
        names = {path.name for path in home.published.iterdir()}
        assert "current" in names
        return names - {"current"}

    first = next_version(NOW)
    reader = open_snapshot(home)
    second = next_version(NOW + 10_000)  # the first's time begins here
    third = next_version(NOW + 10_001)
    assert there() == {first, second, third}
    assert reader.sql("select count(*) from profiles.profiles").fetchall() == [(2,)]

    published(home, now=NOW + 10_000 + READERS_S)  # no change: sweeps all the same
    assert there() == {first, second, third}
    published(home, now=NOW + 10_001 + READERS_S)
    assert there() == {second, third}
    with pytest.raises(duckdb.PermissionException):  # the version is deleted
        reader.sql("select count(*) from profiles.profiles").fetchall()
    # Current, and the one before it, however old.
    published(home, now=NOW + 1e9)
    assert there() == {second, third}
    # What they share with deleted ones is theirs as well.
    assert_whole(home)
    fourth = next_version(NOW + 2e9)
    assert there() == {third, fourth}
    assert_whole(home)


# Killed


def home_versions(home: Home, last: str) -> list[Path]:
    return [path for path in home.published.glob("2026*") if path.name <= last]


def copies(home: Home) -> list[Home]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.warehouse.test_published", str(home.path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    name = home.path.name
    count = int(done.stdout)
    return [Home(home.path.with_name(f"{name}-{n:03}")) for n in range(1, count + 1)]


@pytest.mark.slow
def test_killed_at_any_step_the_old_or_the_new_version_is_whole(
    home: Home,
) -> None:
    change(home, "drop schema identity cascade; drop schema destinations cascade")
    published(home)
    change(home, "insert into audiences.aud_one values ('p2')")
    published(home, now=NOW + 1)
    old = tables(home)
    change(
        home,
        "insert into audiences.aud_one values ('p3');"
        "create table audiences.aud_two as select 'p1' as profile_id;"
        "delete from staging.int_events where message_id = 'm1'",
    )
    homes = copies(home)
    new = tables(homes[-1])
    assert new != old
    swapped = []
    for killed in homes:
        snapshot = assert_whole(killed)
        is_new = snapshot.version.endswith("-0003")
        swapped.append(is_new)
        for path in home_versions(killed, snapshot.version):
            described = (path / "snapshot.json").read_bytes()
            assert_holds(path, msgspec.json.decode(described, type=Snapshot))
        assert tables(killed) == (new if is_new else old), killed.path.name
        published(killed, now=LATER)
        assert tables(killed) == new, killed.path.name
        assert_whole(killed)
        names = sorted(path.name for path in killed.published.iterdir())
        assert len(names) == 3 and names[-1] == "current", names
    assert swapped == sorted(swapped)
    assert swapped.count(False) > 20 and swapped.count(True) > 5


def test_killed_at_any_time_the_next_one_goes_on(home: Home) -> None:
    """Includes kills while DuckDB writes."""
    rows_made = "select i, md5(i::text) as text from range({}) as made (i)"
    change(home, "create table profiles.many as " + rows_made.format(400_000))
    code = (
        "import sys; from datetime import UTC, datetime; from pathlib import Path\n"
        "from connectors.home import Home\n"
        "from orchestration.snapshot.writer import publish\n"
        "print('now', flush=True)\n"
        "publish(Home(Path(sys.argv[1])), at=datetime(2026, 11, 21, 15, tzinfo=UTC))"
    )
    expected = 0
    started = time.monotonic()
    published(home)
    whole_s = time.monotonic() - started
    for number in range(8):
        change(home, "insert into profiles.many " + rows_made.format(number + 1))
        with subprocess.Popen(
            [sys.executable, "-c", code, str(home.path)],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "now\n"
            time.sleep(whole_s * number / 8)
            process.kill()
        expected += number + 1
        snapshot = assert_whole(home)
        (found,) = rows(home, "select count(*) from profiles.many")
        done = published(home)
        assert found[0] < 400_000 + expected or done.version == snapshot.version
        assert rows(home, "select count(*) from profiles.many") == [
            (400_000 + expected,)
        ]
        leftovers = [path.name for path in home.published.glob(".*")]
        assert leftovers == []


# `open` of files, which comes before each fsync of one; folders are opened otherwise.
STEPS = {
    *("open", "os.mkdir", "os.link", "os.symlink", "os.rename", "os.remove"),
    *("os.rmdir", "os.utime"),
}


def _publish_in_steps(home: Home, at: int) -> None:
    """Publish, and kill this process at a step: a change of the folder of versions."""
    left = at

    def step(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event not in STEPS or (event == "open" and arguments[1] is None):
            return
        is_there = any(str(home.published) in str(each) for each in arguments)
        if is_there or event in ("os.remove", "os.rmdir"):  # those name a descriptor
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(step)
    published(home, now=LATER)


def main(origin: Path) -> int:
    for number in range(1, 1000):
        home = Home(origin.with_name(f"{origin.name}-{number:03}"))
        shutil.copytree(origin, home.path, symlinks=True)
        for path in home.published.iterdir():  # copying does not keep it for folders
            os.utime(path, (NOW, NOW), follow_symlinks=False)
        process = os.fork()
        if process == 0:
            try:
                _publish_in_steps(home, number)
                os._exit(0)
            finally:  # never back into the parent's code
                traceback.print_exc()
                os._exit(1)
        _, status = os.waitpid(process, 0)
        if os.WIFEXITED(status):
            if os.WEXITSTATUS(status):
                raise SystemExit(f"step {number}: exit {os.WEXITSTATUS(status)}")
            return number
    raise SystemExit("more than a thousand steps")


if __name__ == "__main__":
    print(main(Path(sys.argv[1])))
