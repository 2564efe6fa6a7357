"""Tables of the raw streams: written as Parquet, read by SQL."""

import gzip
import io
import json
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from connectors.events.canonical import ConsentStatement, Event, Identifier
from connectors.events.identifiers import RULE_VERSION
from connectors.events.rows import Admitted
from connectors.home import Home
from connectors.ingest.importing import import_units
from connectors.landing.manifest import Manifest
from connectors.landing.streams import SCHEMAS, UNREPEATED, rows_table, tables
from connectors.landing.writer import write_files
from connectors.sources.files import MAX_LINE_BYTES, units
from tests.support.admitting import LIVE, NOW, TRACK, admitted, fuzzed


def landed(tmp_path: Path, out: Admitted) -> duckdb.DuckDBPyConnection:
    """The streams of one load as views, read from the files that were written."""
    found = tables(out)
    engine = duckdb.connect()
    for file in write_files(Home(tmp_path), "load", found, day="2026-04-14"):
        path = str(Home(tmp_path).raw / file.path)
        engine.read_parquet(path).create_view(file.stream)
    return engine


def value(engine: duckdb.DuckDBPyConnection, query: str) -> Any:
    row = engine.execute(query).fetchone()
    assert row is not None
    return row[0]


def test_the_columns_of_events_are_the_fields_of_an_event() -> None:
    assert tuple(SCHEMAS["events"].names) == Event.__struct_fields__
    assert SCHEMAS["consent"].names == list(ConsentStatement._fields)


def test_columns_without_a_dictionary_exist() -> None:
    assert {name for schema in SCHEMAS.values() for name in schema.names} >= UNREPEATED


def test_streams_without_rows_are_left_out() -> None:
    assert tables(Admitted()) == {}
    found = tables(admitted(7))
    assert set(found) == {"received_counts", "dispositions"}


@pytest.mark.parametrize("stream", SCHEMAS)
def test_no_rows_are_an_empty_table(stream: str) -> None:
    table = rows_table(stream, [])
    assert table.num_rows == 0 and table.schema == SCHEMAS[stream]


def test_an_event_arrives_in_sql_as_it_was_sent(tmp_path: Path) -> None:
    call = {
        **TRACK,
        "timestamp": "2026-04-14T11:00:00.123456Z",
        "properties": {"total": 42.5, "products": [{"sku": "a"}], "half": "\ud83d"},
        "context": {"consent": {"categoryPreferences": {"analytics": True}}},
        "traits": {"email": "Jane@Acme.com"},
    }
    engine = landed(tmp_path, admitted(call, {**TRACK, "userId": None}))
    row = engine.execute(
        """
        select
            user_id,
            event,
            epoch_us(timestamp),
            epoch_us(received_at),
            properties ->> '$.products[0].sku',
            (properties ->> 'total')::double,
            properties ->> 'half',
            consent,
            list_transform(identifiers, lambda i: i.type || ':' || i.value),
            identifiers[1].rule,
            violations
        from events
        """
    ).fetchone()
    assert row == (
        "u",
        "order_completed",
        1_776_164_400_123_456,
        NOW,
        "a",
        42.5,
        "\\ud83d",
        '{"analytics":true}',
        ["user_id:u", "email:jane@acme.com"],
        RULE_VERSION,
        None,
    )
    assert engine.execute("select * from received_counts").fetchone()[3] == 2  # type: ignore[index]
    assert engine.execute(
        "select disposition, reason, payload is null from dispositions order by 1"
    ).fetchall() == [("admitted", None, True), ("rejected", "missing_identity", False)]
    assert engine.execute(
        "select categories, identifiers[1].value from consent"
    ).fetchall() == [('{"analytics":true}', "u")]


def test_lists_of_identifiers_of_any_length_keep_their_rows() -> None:
    lists = [
        [],
        [Identifier("a", "1", 1)],
        [],
        [Identifier("b", str(n), 2) for n in range(3)],
    ]
    rows = [("m", "s", "s", 0, 0, identifiers, b"{}") for identifiers in lists]
    column = rows_table("consent", rows).column("identifiers").to_pylist()
    assert [[tuple(member.values()) for member in row] for row in column] == lists


def test_values_sql_can_hold_survive_the_way(tmp_path: Path) -> None:
    data = (
        b'{"type":"track","event":"x","userId":"u\\u0000v","properties":'
        b'{"":1,"nul":"a\\u0000b","big":98765432109876543210,"nan":NaN}}'
    )
    engine = landed(tmp_path, admitted(data))
    assert value(engine, "select user_id from events") == "u\0v"
    text = value(engine, "select properties from events")
    assert json.loads(text) == {
        "": 1,
        "nul": "a\0b",
        "big": "98765432109876543210",
        "nan": None,
    }
    assert (
        value(engine, "select properties ->> 'big' from events")
        == "98765432109876543210"
    )


@pytest.mark.parametrize("levels", [150, 480, 5000])
def test_deep_json_can_be_read_in_sql(tmp_path: Path, levels: int) -> None:
    properties = b'{"a":' * levels + b"1" + b"}" * levels
    data = b'{"event":"x","userId":"u","properties":%b}' % properties
    engine = landed(tmp_path, admitted(data))
    assert value(engine, "select json_valid(properties) from events")
    assert value(engine, "select json_keys(properties) from events") == ["a"]


def test_whatever_was_admitted_can_be_written_and_read(tmp_path: Path) -> None:
    out = fuzzed(seed=1, count=20_000)
    engine = landed(tmp_path, out)
    assert value(engine, "select count(*) from events") == len(out.events)
    assert value(engine, "select sum(items) from received_counts") == len(
        out.dispositions
    )
    for column in ("properties", "traits", "context", "integrations", "consent"):
        query = f"""
            select count(*) from events
            where {column} is not null and not json_valid({column})
        """
        assert value(engine, query) == 0
    # Not only valid: every function of the models can work on it.
    engine.execute(
        """
        select
            json_type(properties),
            json_keys(properties),
            properties -> '$.email',
            json_extract_string(properties, '$."$group"'),
            json_extract_string(traits, '$.email'),
            json_extract_string(context, '$.device.id'),
            json_merge_patch(coalesce(traits, '{}'), coalesce(properties, '{}'))
        from events
        """
    ).fetchall()
    rejected = "select count(*) from dispositions where payload is null"
    assert value(engine, f"{rejected} and disposition <> 'admitted'") == 0


def test_a_file_written_again_is_the_same_file(tmp_path: Path) -> None:
    found = tables(admitted(TRACK, origin=LIVE))
    files = [
        {
            (file.path, file.sha256)
            for file in write_files(
                Home(tmp_path / place), "load", found, day="2026-04-14"
            )
        }
        for place in ("a", "b")
    ]
    assert files[0] == files[1]


def test_columns_that_repeat_are_written_with_a_dictionary(tmp_path: Path) -> None:
    found = tables(admitted(*[TRACK] * 10))
    (file,) = [
        file
        for file in write_files(Home(tmp_path), "load", found, day="2026-04-14")
        if file.stream == "events"
    ]
    group = pq.ParquetFile(io.BytesIO((Home(tmp_path).raw / file.path).read_bytes()))
    columns = [
        group.metadata.row_group(0).column(n) for n in range(group.metadata.num_columns)
    ]
    encoded = {column.path_in_schema: column.has_dictionary_page for column in columns}
    assert encoded["event"] and encoded["context"] and not encoded["content_hash"]
    assert isinstance(found["events"], pa.Table)


@pytest.mark.parametrize("beginning", [b"", b"\xef\xbb\xbf"])
def test_a_plain_file_lands_as_its_compressed_copy_does(
    tmp_path: Path, beginning: bytes
) -> None:
    """Workers read plain files themselves, also after a line that is left out."""
    lines = [
        json.dumps(
            {**TRACK, "messageId": str(n), "properties": {"x": "y" * (n % 3000)}}
        )
        for n in range(4000)
    ]
    lines[3000] = "x" * (MAX_LINE_BYTES + 1)
    data = beginning + "\n".join(lines).encode()
    project = Path(__file__).parents[2]
    found = []
    for name, content in (("a.json", data), ("a.gz", gzip.compress(data, 1))):
        path = tmp_path / name
        path.write_bytes(content)
        home = Home(tmp_path / f"home-{name}")
        home.raw.mkdir(parents=True)
        done = import_units(home, project, units([path]), "web", workers=1)
        assert done.dispositions == {"admitted": 3999, "rejected": 1}
        files = [f for f in Manifest(home).files() if f.stream == "events"]
        assert len(files) > 1
        tables_ = [pq.read_table(home.raw / file.path) for file in files]
        found.append(pa.concat_tables(tables_).select(["message_id", "row_hash"]))
    plain, compressed = (table.to_pydict() for table in found)
    assert plain["message_id"] == compressed["message_id"]
    assert set(plain["message_id"]) == {str(n) for n in range(4000) if n != 3000}
