"""Finding, reading and recognising files, whole and damaged."""

import gzip
import json
import pickle
import zipfile
from pathlib import Path

import pytest

from connectors.errors import SourceError
from connectors.sources import files
from connectors.sources.files import Broken, Chunk, Unit, chunks, rows, units

FIXTURES = Path(__file__).parents[1] / "fixtures" / "files"


def line(number: int, size: int = 0) -> bytes:
    call = {"type": "track", "event": "e", "userId": f"u{number}", "x": "x" * size}
    return json.dumps(call).encode()


def lines(count: int, size: int = 0) -> bytes:
    return b"".join(line(number, size) + b"\n" for number in range(count))


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def read(unit: Unit) -> list[tuple[int, object]]:
    return [row for chunk in chunks(unit) for row in rows(chunk)]


def read_file(path: Path) -> list[tuple[int, object]]:
    (unit,) = units([path])
    return read(unit)


# Finding


def test_a_folder_gives_every_file_below_that_is_not_hidden(tmp_path: Path) -> None:
    for name in ("b.ndjson", "a/z.json", "a/.hidden", ".git/c.json"):
        write(tmp_path / name, lines(1))
    found = [unit.label for unit in units([tmp_path])]
    assert found == [str(tmp_path / "a/z.json"), str(tmp_path / "b.ndjson")]


def test_a_glob_gives_its_matches_and_a_file_counts_once(tmp_path: Path) -> None:
    for name in ("a/1.json", "b/2.json", "b/3.txt"):
        write(tmp_path / name, lines(1))
    pattern = str(tmp_path / "**" / "*.json")
    found = [unit.label for unit in units([pattern, tmp_path / "a/1.json"])]
    assert found == [str(tmp_path / "a/1.json"), str(tmp_path / "b/2.json")]


@pytest.mark.parametrize("name", ["missing.json", "*.json", "empty"])
def test_a_path_without_files_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=name.replace("*", r"\*")):
        units([tmp_path / name])


def test_an_unknown_format_is_an_error_that_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="segment-warehouse"):
        units([write(tmp_path / "a", lines(1))], "csv")


def test_formats_are_the_public_ones() -> None:
    assert set(files.FORMATS) == {
        "auto",
        "loomline",
        "segment",
        "rudderstack",
        "posthog",
        "amplitude",
        "mixpanel",
        "snowplow",
        "ga4",
        "segment-warehouse",
    }


def test_the_same_bytes_have_the_same_hash_wherever_they_lie(tmp_path: Path) -> None:
    write(tmp_path / "a.json", lines(1))
    write(tmp_path / "b.json", lines(1))
    write(tmp_path / "c.json", lines(2))
    a, b, c = units([tmp_path])
    assert a.sha256 == b.sha256 != c.sha256


def test_a_warehouse_folder_is_one_unit_that_changes_with_any_table(
    tmp_path: Path,
) -> None:
    for file in (FIXTURES / "segment_warehouse").glob("*.csv"):
        write(tmp_path / file.name, file.read_bytes())
    (before,) = units([tmp_path])
    users = tmp_path / "users.csv"
    users.write_bytes(users.read_bytes() + b"cust_06,,,,,,,\n")
    (after,) = units([tmp_path])
    assert before.format == after.format == "segment-warehouse"
    assert before.sha256 != after.sha256


def test_units_and_chunks_can_be_sent_to_another_process(tmp_path: Path) -> None:
    (unit,) = units([write(tmp_path / "a.json", lines(3))])
    assert pickle.loads(pickle.dumps(unit)) == unit
    for chunk in chunks(unit):
        assert list(rows(pickle.loads(pickle.dumps(chunk)))) == list(rows(chunk))


# Recognising


@pytest.mark.parametrize(
    "row",
    [
        {"type": "track", "event": "e", "userId": "u", "messageId": "m"},
        {"type": "page", "anonymousId": "a", "receivedAt": "2026-03-01T09:00:00Z"},
        {"uuid": "m", "event": "$pageview", "distinct_id": "d", "properties": {}},
        {"event": "$pageview", "properties": {"distinct_id": "d", "$insert_id": "i"}},
        {"event": "$identify", "distinct_id": "d", "properties": {"$user_id": "u"}},
        {"user_id": "u", "event": "e", "properties": {}, "timestamp": "2026-03-01"},
        {"batch": [{"type": "track"}], "sentAt": "2026-03-01T09:00:00Z"},
        [{"type": "track", "event": "e", "userId": "u"}],
    ],
)
def test_lines_of_no_vendors_layout_are_loomlines(tmp_path: Path, row: object) -> None:
    data = json.dumps(row).encode()
    (unit,) = units([write(tmp_path / "a", b"\n{broken\n" + data + b"\n")])
    assert unit.format == "loomline"
    assert read(unit) == [(2, b"{broken"), (3, data)]


@pytest.mark.parametrize("data", [b"# Read me\n\ntext\n", b'{"a": 1}\n', b"a,b\n1,2\n"])
def test_content_of_no_known_format_is_an_error(tmp_path: Path, data: bytes) -> None:
    file = write(tmp_path / "file.txt", data)
    with pytest.raises(SourceError, match=r"file\.txt"):
        units([file])
    assert [unit.format for unit in units([file], "loomline")] == ["loomline"]


def test_a_format_that_is_not_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="Parquet"):
        units([write(tmp_path / "a.parquet", b"PAR1\x00\x00")])


def test_an_empty_file_has_the_format_of_its_neighbours(tmp_path: Path) -> None:
    source = FIXTURES / "mixpanel_export" / "2026-03-01.jsonl"
    write(tmp_path / "1.jsonl", source.read_bytes())
    write(tmp_path / "2.jsonl", b"")
    found = units([tmp_path])
    assert [unit.format for unit in found] == ["mixpanel", "mixpanel"]
    assert read(found[1]) == []


def test_a_path_decides_what_its_rows_leave_open(tmp_path: Path) -> None:
    row = {"type": "track", "event": "e", "userId": "u"}
    data = json.dumps(row).encode()
    (unit,) = units([write(tmp_path / "segment-logs" / "src" / "1" / "a", data)])
    assert unit.format == "segment"


# Reading


def test_loomline_lines_are_untouched(tmp_path: Path) -> None:
    data = b' {"type":"track" , "x":1.0}\n\n \t\n["\xc2\x85\xe2\x80\xa8"]\n{"n": NaN}'
    (unit,) = units([write(tmp_path / "a.json", data)], "loomline")
    one, _, _, four, five = data.split(b"\n")
    assert read(unit) == [(1, one), (4, four), (5, five)]


def test_windows_line_ends_and_a_byte_order_mark_are_no_content(tmp_path: Path) -> None:
    data = b"\xef\xbb\xbf" + lines(2).replace(b"\n", b"\r\n") + b"\r\n"
    found = read_file(write(tmp_path / "a.json", data))
    assert [(n, bytes(item).strip()) for n, item in found] == [  # type: ignore[call-overload]
        (1, line(0)),
        (2, line(1)),
    ]
    source = (FIXTURES / "snowplow_enriched" / "part-00000.tsv").read_bytes()
    plain = read_file(write(tmp_path / "a.tsv", source))
    data = b"\xef\xbb\xbf" + source.replace(b"\n", b"\r\n")
    assert read_file(write(tmp_path / "b.tsv", data)) == plain


def test_a_last_line_without_newline_counts(tmp_path: Path) -> None:
    found = read_file(write(tmp_path / "a.json", lines(2) + line(2)))
    assert found == [(1, line(0)), (2, line(1)), (3, line(2))]


def test_gzip_is_known_by_its_bytes_and_may_hold_several_streams(
    tmp_path: Path,
) -> None:
    data = gzip.compress(lines(2)) + gzip.compress(line(2) + b"\n") + b"\0" * 9
    found = read_file(write(tmp_path / "a.json", data))
    assert found == [(1, line(0)), (2, line(1)), (3, line(2))]


def test_chunks_hold_whole_lines_and_all_of_them(tmp_path: Path) -> None:
    data = lines(9000, 1000)
    (unit,) = units([write(tmp_path / "a.json", data)])
    found = list(chunks(unit))
    assert len(found) == 3
    assert b"".join(chunk.data for chunk in found) == data
    assert [chunk.index for chunk in found] == [0, 1, 2]
    for chunk in found:
        assert len(chunk.data) <= files.CHUNK_BYTES
        number, item = next(rows(chunk))
        assert (number, item) == (chunk.first_line, line(number - 1, 1000))
    assert found[-1].consumed_bytes == unit.size_bytes
    consumed = [chunk.consumed_bytes for chunk in found]
    assert consumed == sorted(consumed) and consumed[0] < unit.size_bytes


def test_chunk_borders_depend_on_content_only(tmp_path: Path) -> None:
    data = b"".join(line(n, n * 7919 % 3000) + b"\n" for n in range(6000)) + line(0)
    streams = [
        gzip.compress(data[at : at + 99_999]) for at in range(0, len(data), 99_999)
    ]
    write(tmp_path / "1.json", data)
    write(tmp_path / "2.gz", gzip.compress(data))
    write(tmp_path / "3.gz", b"".join(streams))
    with zipfile.ZipFile(tmp_path / "4.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.json", data)
        archive.writestr("b.gz", gzip.compress(data))
    borders = [
        [(chunk.first_line, len(chunk.data)) for chunk in chunks(unit)]
        for unit in units([tmp_path])
    ]
    assert len(borders) == 5
    assert len(borders[0]) > 2
    assert all(each == borders[0] for each in borders)


def test_a_line_longer_than_a_chunk_is_one_row(tmp_path: Path) -> None:
    long = line(1, files.CHUNK_BYTES + 1000)
    data = b"\n".join([line(0), long, line(2)])
    found = read_file(write(tmp_path / "a.json", data))
    assert found == [(1, line(0)), (2, long), (3, line(2))]


def test_a_line_over_the_limit_is_one_broken_row(tmp_path: Path) -> None:
    long = line(1, files.MAX_LINE_BYTES)
    data = gzip.compress(b"\n".join([line(0), long, line(2)]), 1)
    (unit,) = units([write(tmp_path / "a.gz", data)])
    found = list(chunks(unit))
    assert max(len(chunk.data) for chunk in found) < 1 << 20
    (one, two, three) = [row for chunk in found for row in rows(chunk)]
    assert (one, three) == ((1, line(0)), (3, line(2)))
    assert isinstance(two[1], Broken) and two[1].line == 2
    assert two[1].payload == long[: 64 << 10]


# Damage


def broken(found: list[tuple[int, object]]) -> list[Broken]:
    return [item for _, item in found if isinstance(item, Broken)]


def test_a_cut_off_gzip_gives_its_readable_lines_and_one_broken(tmp_path: Path) -> None:
    data = lines(5000)
    packed = gzip.compress(data)
    found = read_file(write(tmp_path / "a.gz", packed[: len(packed) // 2]))
    whole = found[:-1]
    assert len(whole) > 1000
    assert whole == [(n + 1, line(n)) for n in range(len(whole))]
    (last,) = broken(found)
    assert last.line == len(whole) + 1
    assert last.reason == f"gzip stream ends early after line {len(whole)}"
    assert line(len(whole)).startswith(last.payload)


def test_damage_in_the_middle_of_a_gzip_loses_nothing_before_it(tmp_path: Path) -> None:
    first, second = gzip.compress(lines(1000)), gzip.compress(lines(1000))
    # A reserved block type: no decoder gets past the second stream's first bits.
    second = second[:10] + b"\xff" + second[11:]
    found = read_file(write(tmp_path / "a.gz", first + second))
    assert found[:-1] == [(n + 1, line(n)) for n in range(1000)]
    assert broken(found)[0].reason == "gzip stream is damaged after line 1000"


def test_a_wrong_checksum_is_reported_after_all_lines(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(lines(10)))
    packed[-8] ^= 1
    found = read_file(write(tmp_path / "a.gz", bytes(packed)))
    assert len(found) == 11
    assert broken(found)[0].reason == "gzip stream is damaged after line 10"


def test_a_zip_with_one_damaged_member_gives_the_others(tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("1.json.gz", "2.json.gz", "3.json.gz", "__MACOSX/._1.json.gz"):
            archive.writestr(name, gzip.compress(lines(50), mtime=0))
        offset = archive.getinfo("2.json.gz").header_offset
    data = bytearray(file.read_bytes())
    place = data.index(b"\x1f\x8b", offset) + 10
    data[place : place + 4] = b"\xff\xff\xff\xff"
    file.write_bytes(bytes(data))
    found = units([file])
    assert [unit.label for unit in found] == [f"{file}!{n}.json.gz" for n in (1, 2, 3)]
    assert [unit.format for unit in found] == ["loomline"] * 3
    assert len({unit.sha256 for unit in found}) == 3
    counts = [(len(items), len(broken(items))) for items in map(read, found)]
    assert counts == [(50, 0), (1, 1), (50, 0)]


def test_a_damaged_deflated_member_gives_what_is_readable(tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.json", lines(3000))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(bytes(data))
    (unit,) = units([file])
    found = read(unit)
    assert found[:900] == [(n + 1, line(n)) for n in range(900)]
    assert "zip member is damaged" in broken(found)[-1].reason


def test_a_zip_without_its_directory_is_one_broken_row(tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.json", lines(100))
    file.write_bytes(file.read_bytes()[:-60])
    (row,) = read_file(file)
    assert isinstance(row[1], Broken)
    assert row[1].reason == "zip directory is damaged after line 0"


def test_an_error_chunk_is_one_row(tmp_path: Path) -> None:
    (unit,) = units([write(tmp_path / "a.json", lines(1))])
    chunk = Chunk(unit, 4, 813, b"\n\nx" * 70_000, 9, "gzip stream is damaged")
    (row,) = rows(chunk)
    assert row == (813, Broken(813, "gzip stream is damaged", chunk.data[: 64 << 10]))


# Folders of tables

TRACKS = "id,received_at,timestamp,user_id,event,event_text"
TIMES = "2026-03-01T09:00:01Z,2026-03-01T09:00:00Z"


def table(folder: Path, name: str, header: str, *records: str) -> None:
    write(folder / f"{name}.csv", "\n".join([header, *records, ""]).encode())


def calls(folder: Path) -> dict[object, object]:
    (unit,) = units([folder])
    found = {}
    for number, item in read(unit):
        key = item["messageId"] if isinstance(item, dict) else number
        assert key not in found
        found[key] = item
    return found


def test_an_event_in_no_table_of_its_own_comes_from_tracks(tmp_path: Path) -> None:
    table(
        tmp_path,
        "tracks",
        TRACKS,
        f"1,{TIMES},u1,bought,Bought",
        f"2,{TIMES},u2,left,Left",
        f",{TIMES},u3,left,Left",
    )
    table(tmp_path, "bought", f"{TRACKS},total", f"1,{TIMES},u1,bought,Bought,7")
    found = calls(tmp_path)
    by_id = {key: item for key, item in found.items() if isinstance(item, dict)}
    assert by_id.keys() == {"1", "2"}
    assert by_id["1"]["properties"] == {"total": 7}
    assert "properties" not in by_id["2"]
    (damaged,) = (item for item in found.values() if isinstance(item, Broken))
    assert damaged.reason == "tracks: id is missing"


def test_a_column_has_one_type_and_digits_that_are_no_number_stay(
    tmp_path: Path,
) -> None:
    header = f"{TRACKS},total,zip,gift,size,tags,big,note"
    table(
        tmp_path,
        "bought",
        header,
        f'1,{TIMES},001,bought,Bought,19.90,01234,true,7,"[1, ""a""]",{2**70},"a\nb"',
        f"2,{TIMES},002,bought,Bought,-3,10115,false,L,[],,",
    )
    table(tmp_path, "tracks", TRACKS)
    first, second = calls(tmp_path).values()
    assert isinstance(first, dict) and isinstance(second, dict)
    assert first["userId"] == "001"
    assert first["properties"] == {
        "total": 19.9,
        "zip": "01234",
        "gift": True,
        "size": "7",
        "tags": [1, "a"],
        "big": str(2**70),
        "note": "a\nb",
    }
    assert second["properties"] == {
        "total": -3,
        "zip": "10115",
        "gift": False,
        "size": "L",
        "tags": [],
    }


def test_a_damaged_record_of_a_table_is_one_broken_row(tmp_path: Path) -> None:
    table(
        tmp_path,
        "identifies",
        "id,received_at,timestamp,user_id,email",
        f"1,{TIMES},u1,a@shop.example",
        f"2,{TIMES},u2,b@shop.example,too,many",
        f"3,{TIMES},u3,c@shop.example",
    )
    table(tmp_path, "pages", "name,url", "Home,/")
    found = list(calls(tmp_path).values())
    assert [item["messageId"] for item in found if isinstance(item, dict)] == ["1", "3"]
    reasons = [item.reason for item in found if isinstance(item, Broken)]
    assert reasons == [
        "identifies: line 3 is damaged (too many columns)",
        "pages: column id is missing",
    ]
