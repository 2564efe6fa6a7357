import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import fsspec
import msgspec
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from connectors.destinations.file import File, Format, Settings, connect
from connectors.destinations.outbox import Outbox, deliver
from connectors.destinations.protocol import Change
from connectors.errors import ConfigError, Rejected, Unavailable
from tests.support.deliveries import (
    RUN_AT,
    Acknowledgements,
    Clock,
    addition,
    batch_of,
    email,
    removal,
)

FORMATS: tuple[Format, ...] = ("parquet", "csv", "ndjson")
TRICKY = 'odd "name",\nsecond line é@example.com'


@pytest.fixture(params=["file", "memory", "path"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "memory":
        place = f"memory://{uuid4().hex}"
        yield place
        fsspec.filesystem("memory").rm(place, recursive=True)
    else:
        place = str(tmp_path / "deliveries" / "crm")
        yield place if request.param == "path" else f"file://{place}"


def files(url: str) -> list[str]:
    """Every file below a url, hidden ones too, as paths relative to it."""
    system, root = fsspec.core.url_to_fs(url)
    return sorted(path.removeprefix(root).lstrip("/") for path in system.find(root))


def rows(url: str, format: Format) -> list[dict[str, object]]:
    with fsspec.open(url, "rb") as file:
        content = file.read()
    if format == "parquet":
        table: list[dict[str, object]] = pq.read_table(io.BytesIO(content)).to_pylist()
        return table
    if format == "ndjson":
        return [msgspec.json.decode(line) for line in content.splitlines()]
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


@pytest.mark.parametrize("format", FORMATS)
def test_one_row_per_person_and_identifier(url: str, format: Format) -> None:
    batch = batch_of(
        addition("p1"),
        Change("add", "p2", (email("new@example.com"), email(TRICKY))),
        Change("resend", "p3", (email("new3@x.org"),), (email("old3@x.org"),)),
        removal("p4"),
    )
    receipt = File("crm", url, format, clock=lambda: RUN_AT).push(batch)
    assert (receipt.accepted, receipt.refused, receipt.level) == (4, (), "batch")
    name = f"buyers/{batch.key}.{format}"
    assert files(url) == [name]
    found = rows(f"{url}/{name}", format)
    expected = [
        ("add", "p1", "p1@example.com"),
        ("add", "p2", "new@example.com"),
        ("add", "p2", TRICKY),
        ("resend", "p3", "new3@x.org"),
        ("remove", "p3", "old3@x.org"),
        ("remove", "p4", "p4@example.com"),
    ]
    instant: datetime | str = RUN_AT if format == "parquet" else "2026-03-01T09:00:00Z"
    assert found == [
        {
            "sent_at": instant,
            "run_at": instant,
            "audience": "buyers",
            "operation": operation,
            "profile_id": person,
            "identifier_type": "email",
            "identifier_value": value,
        }
        for operation, person, value in expected
    ]


@pytest.mark.parametrize("format", FORMATS)
def test_sending_again_overwrites(url: str, format: Format) -> None:
    destination = File("crm", url, format)
    for batch in (batch_of(addition("p1")), batch_of(removal("p1"))):
        destination.push(batch)
        destination.push(batch)
    assert len(files(url)) == 2


@pytest.mark.parametrize("format", FORMATS)
def test_no_rows_make_no_file(tmp_path: Path, format: Format) -> None:
    destination = File("crm", str(tmp_path), format)
    destination.push(batch_of())
    destination.push(batch_of(Change("add", "p1"), Change("remove", "p2")))
    assert files(str(tmp_path)) == []


def test_who_returns_gets_a_file_of_their_own(
    tmp_path: Path, outbox: Outbox, acknowledge: Acknowledgements, clock: Clock
) -> None:
    destination = File("crm", str(tmp_path / "out"), "ndjson")
    for change in (addition("p1"), removal("p1"), addition("p1")):
        deliver(batch_of(change), destination, outbox, acknowledge, clock, clock.sleep)
    assert len(files(str(tmp_path / "out"))) == 3


class Lossy(MemoryFileSystem):  # type: ignore[misc]
    """A store that keeps less than it was given and reports success."""

    protocol = "lossy"

    def pipe_file(self, path: str, value: bytes, **options: object) -> None:
        super().pipe_file(path, value[:-1], **options)


class Forbidden(MemoryFileSystem):  # type: ignore[misc]
    protocol = "forbidden"

    def pipe_file(self, path: str, value: bytes, **options: object) -> None:
        raise PermissionError(f"{path}: {value.decode()}")


class Broken(MemoryFileSystem):  # type: ignore[misc]
    protocol = "broken"

    def pipe_file(self, path: str, value: bytes, **options: object) -> None:
        raise LookupError(value.decode())


for store in (Lossy, Forbidden, Broken):
    fsspec.register_implementation(store.protocol, store)


@pytest.mark.parametrize("change", [addition, removal])
@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("lossy://x", Unavailable, "bytes, not"),
        ("broken://x", Unavailable, "LookupError"),
        ("forbidden://x", Rejected, "PermissionError; check the url"),
    ],
)
def test_what_is_not_there_in_full_is_not_confirmed(
    url: str,
    error: type[Exception],
    message: str,
    change: Callable[[str], Change],
) -> None:
    with pytest.raises(error, match=message) as caught:
        File("crm", url, "csv").push(batch_of(change("p1")))
    assert getattr(caught.value, "concerns", "destination") == "destination"
    assert "example.com" not in str(caught.value)


def test_a_place_in_use_refuses_no_change(tmp_path: Path) -> None:
    (tmp_path / "buyers").write_text("in the way")
    for change in (addition("p1"), removal("p1")):
        with pytest.raises(Rejected, match="check the url") as caught:
            File("crm", str(tmp_path), "csv").push(batch_of(change))
        assert caught.value.concerns == "destination"


@pytest.mark.parametrize("format", FORMATS)
def test_what_a_crash_left_is_overwritten(tmp_path: Path, format: Format) -> None:
    batch = batch_of(addition("p1"), removal("p2"))
    (tmp_path / "buyers").mkdir()
    (tmp_path / f"buyers/.{batch.key}.{format}.part").write_bytes(b"cut off" * 999)
    File("crm", str(tmp_path), format).push(batch)
    assert files(str(tmp_path)) == [f"buyers/{batch.key}.{format}"]
    assert len(rows(f"{tmp_path}/buyers/{batch.key}.{format}", format)) == 2


@pytest.mark.parametrize("audience", ["../up", "a/b", "", ".hidden"])
def test_an_audience_cannot_leave_its_folder(tmp_path: Path, audience: str) -> None:
    batch = replace(batch_of(addition("p1")), audience=audience)
    with pytest.raises(Rejected, match="folder"):
        File("crm", str(tmp_path / "out"), "csv").push(batch)
    assert files(str(tmp_path)) == []


def test_the_url_is_expanded(tmp_path: Path) -> None:
    settings = Settings(
        kind="file", url="${LOOMLINE_HOME}/${FOLDER:-deliveries}", format="csv"
    )
    connect("crm", settings, {"LOOMLINE_HOME": str(tmp_path)}).push(
        batch_of(addition("p1"), removal("p2"))
    )
    assert len(files(str(tmp_path / "deliveries/buyers"))) == 1
    with pytest.raises(ConfigError, match="LOOMLINE_HOME is not set"):
        connect("crm", settings, {})


def test_an_unknown_kind_of_url_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="fsspec"):
        File("crm", "nosuch://bucket/place", "csv")


def test_instants_are_written_in_utc(tmp_path: Path) -> None:
    later = datetime(2026, 3, 1, 9, 0, 0, 250_000, tzinfo=UTC)
    batch = replace(batch_of(addition("p1")), run_at=later)
    File("crm", str(tmp_path), "csv").push(batch)
    (row,) = rows(f"{tmp_path}/buyers/{batch.key}.csv", "csv")
    assert row["run_at"] == "2026-03-01T09:00:00.250000Z"
