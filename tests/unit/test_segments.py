"""Segments under a disk that fails: what was not synced is never said to be stored."""

import errno
import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from connectors.home import Home
from connectors.landing.segment_writer import SegmentWriter
from connectors.landing.segments import (
    Record,
    close_open,
    closed_segments,
    may_be_forgotten,
    records,
    recover,
    segments_folder,
)
from tests.support.collecting import wait_until

NOW = 1_776_165_218_000_000
SECOND = 1_000_000


class Sink:
    """What a writer said of each line."""

    def __init__(self) -> None:
        self.kept: list[str] = []
        self.failed: dict[str, int | None] = {}
        self.groups: list[int] = []
        self.heard = threading.Condition()

    def __call__(self, tokens: list[Any], error: OSError | None) -> None:
        with self.heard:
            self.groups.append(len(tokens))
            if error is None:
                self.kept += tokens
            else:
                self.failed |= dict.fromkeys(tokens, error.errno)
            self.heard.notify_all()

    def wait(self, token: str) -> bool:
        """Whether the line was kept, once that is known."""
        with self.heard:
            assert self.heard.wait_for(
                lambda: token in self.kept or token in self.failed, 10
            )
            return token in self.kept


def line(name: str, received_at: int = NOW) -> bytes:
    record = Record(
        source="web", scope="web", channel="http", received_at=received_at, items=[name]
    )
    return msgspec.json.encode(record)


def append(writer: SegmentWriter, *names: str, received_at: int = NOW) -> None:
    for name in names:
        writer.append(line(name, received_at), received_at, name)


def stored(folder: Path) -> list[str]:
    """The items of closed segments, sorted; fails on a damaged line."""
    found = []
    for path in closed_segments(folder):
        for record in records(path):
            assert isinstance(record, Record), record
            found += record.items
    return sorted(found)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = Home(tmp_path)
    home.inbox.mkdir()
    return segments_folder(home)


def failing(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    fails: Callable[[], bool],
    code: int,
    *,
    first: Callable[..., object] = lambda *_: None,
) -> None:
    """Have a call of `os` fail now and then, as no healthy disk does."""
    real = getattr(os, name)

    def call(*args: Any) -> Any:
        if threading.current_thread().name == "commit" and fails():
            first(real, *args)
            raise OSError(code, os.strerror(code))
        return real(*args)

    monkeypatch.setattr(os, name, call)


def test_lines_are_kept_and_handed_over_when_the_writer_ends(folder: Path) -> None:
    sink = Sink()
    writer = SegmentWriter(folder, sink)
    writer.start()
    append(writer, "a", "b", "c")
    writer.close()
    assert sink.kept == stored(folder) == ["a", "b", "c"]
    assert not list(folder.glob("*.part"))


def test_a_writer_without_a_line_leaves_nothing(folder: Path) -> None:
    writer = SegmentWriter(folder, Sink())
    writer.start()
    writer.close()
    assert not list(folder.glob("2*"))


def test_lines_that_wait_together_are_synced_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()
    real = os.fdatasync

    def slow(file: int) -> None:
        goes_on.wait(10)
        real(file)

    sink = Sink()
    writer = SegmentWriter(folder, sink)
    writer.start()
    monkeypatch.setattr(os, "fdatasync", slow)
    names = [str(number) for number in range(200)]
    append(writer, *names)
    assert not sink.kept  # nothing is acknowledged before it was synced
    goes_on.set()
    writer.close()
    assert sink.kept == names
    assert stored(folder) == sorted(names)
    assert len(sink.groups) <= 3


@pytest.mark.parametrize("name", ["fdatasync", "write"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_file_that_failed_is_never_written_to_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    sink = Sink()
    writer = SegmentWriter(folder, sink)
    writer.start()
    append(writer, "before")
    assert sink.wait("before")
    (left,) = folder.glob("*.part")
    is_broken = True
    failing(monkeypatch, name, lambda: is_broken, code)
    append(writer, "lost")
    assert not sink.wait("lost")
    assert sink.failed == {"lost": code}
    assert writer.error == os.strerror(code)
    is_broken = False
    wait_until(lambda: writer.error is None)
    append(writer, "after")
    assert sink.wait("after")
    assert not left.exists()
    assert left.with_suffix(".ndjson").exists()  # with what was synced before
    writer.close()
    assert stored(folder) == ["after", "before"]
    assert writer.count_failures >= 1


def test_an_opened_file_is_no_proof_that_a_disk_is_well(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Sink()
    writer = SegmentWriter(folder, sink)
    failing(monkeypatch, "fdatasync", lambda: True, errno.EIO)
    writer.start()
    for number in range(3):
        append(writer, str(number))
        assert not sink.wait(str(number))
        assert writer.error == os.strerror(errno.EIO)
    writer.close()
    assert not list(folder.glob("2*"))


def test_a_write_that_stops_half_way_leaves_no_half_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Sink()
    writer = SegmentWriter(folder, sink)
    writer.start()
    append(writer, "before")
    assert sink.wait("before")
    is_broken = True
    failing(
        monkeypatch,
        "write",
        lambda: is_broken,
        errno.ENOSPC,
        first=lambda write, file, data: write(file, bytes(data[: len(data) // 2])),
    )
    append(writer, "lost")
    assert not sink.wait("lost")
    is_broken = False
    append(writer, "after")
    assert sink.wait("after")
    writer.close()
    assert stored(folder) == ["after", "before"]


def test_a_write_of_a_few_bytes_at_a_time_is_finished(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Sink()
    writer = SegmentWriter(folder, sink)
    writer.start()
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, data: real(file, data[:7]))
    append(writer, "a", "b")
    writer.close()
    assert sink.kept == stored(folder) == ["a", "b"]


@pytest.mark.parametrize("share", [0, 0.5])
def test_a_write_that_claims_more_than_it_wrote_acknowledges_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """Files of the real system; only what the call reports is untrue."""
    real = os.write
    is_lying = False

    def write(file: int, data: bytes) -> int:
        if not is_lying:
            return real(file, data)
        real(file, bytes(data[: int(len(data) * share)]))
        return len(data)

    sink = Sink()
    writer = SegmentWriter(folder, sink)
    writer.start()
    append(writer, "before")
    assert sink.wait("before")
    (left,) = folder.glob("*.part")
    monkeypatch.setattr(os, "write", write)
    is_lying = True
    for name in ("lost", "lost too"):  # the second into a file that has to be proved
        append(writer, name)
        assert not sink.wait(name)
        assert writer.error == "the disk reported more bytes than it wrote"
    is_lying = False
    wait_until(lambda: writer.error is None)
    append(writer, "after")
    assert sink.wait("after")
    assert not left.exists()
    writer.close()
    assert stored(folder) == ["after", "before"]


def test_a_deleted_segment_acknowledges_nothing(folder: Path) -> None:
    sink = Sink()
    writer = SegmentWriter(folder, sink)
    writer.start()
    append(writer, "before")
    assert sink.wait("before")
    (part,) = folder.glob("*.part")
    part.unlink()
    append(writer, "lost")
    assert not sink.wait("lost")
    append(writer, "after")
    assert sink.wait("after")
    writer.close()
    assert stored(folder) == ["after"]


def test_a_clock_set_back_begins_another_segment(folder: Path) -> None:
    sink = Sink()
    writer = SegmentWriter(folder, sink)
    writer.start()
    for number, received_at in enumerate((NOW, NOW - SECOND // 2, NOW - 3600 * SECOND)):
        append(writer, str(number), received_at=received_at)
        assert sink.wait(str(number))
    writer.close()
    counts = sorted(len(list(records(path))) for path in closed_segments(folder))
    assert counts == [1, 2]


@pytest.mark.parametrize("limit", [{"max_bytes": 10}, {"max_age_s": 0.1}])
def test_a_segment_is_closed_for_its_size_or_its_age(
    folder: Path, limit: dict[str, Any]
) -> None:
    sink = Sink()
    writer = SegmentWriter(folder, sink, **limit)
    writer.start()
    append(writer, "a")
    wait_until(lambda: closed_segments(folder))
    writer.close()
    assert stored(folder) == ["a"]


def test_landing_gets_what_a_living_writer_holds_and_it_goes_on(folder: Path) -> None:
    sink = Sink()
    writer = SegmentWriter(folder, sink)
    writer.start()
    for number in range(3):
        append(writer, str(number))
        assert sink.wait(str(number))
        close_open(folder)
        assert stored(folder) == [str(n) for n in range(number + 1)]
    writer.close()


def test_what_a_writer_holds_is_not_taken_for_a_dead_ones(folder: Path) -> None:
    sink = Sink()
    writer = SegmentWriter(folder, sink)
    writer.start()
    append(writer, "a")
    assert sink.wait("a")
    assert recover(folder) == 0
    writer.close()


@pytest.mark.parametrize(
    ("tail", "whole"),
    [
        (b"", 2),
        (b"\0" * 100, 2),
        (b"\0" * (3 << 20), 2),
        (b"x" * (2 << 20) + b"\n" + b"\n" * 5, 2),
        (line("c")[:-1], 2),
        (line("c"), 2),  # whole, but not acknowledged: there is no line break
        (line("c") + b"\n", 3),
        (line("c" * (3 << 20)) + b"\n" + b"\0" * (2 << 20), 3),
        (b"[" * 100_000 + b"\n", 2),
        ("é".encode()[:1] + b"\n", 2),
    ],
)
def test_a_dead_writers_segment_ends_with_its_last_whole_record(
    folder: Path, tail: bytes, whole: int
) -> None:
    folder.mkdir()
    path = folder / f"20260101T000000-{'0' * 16}.part"
    path.write_bytes(line("a") + b"\n" + line("b") + b"\n" + tail)
    assert recover(folder) == 1
    assert len(stored(folder)) == whole
    assert path.with_suffix(".ndjson").read_bytes()[-1:] == b"\n"


def test_a_dead_writers_segment_without_a_record_is_removed(folder: Path) -> None:
    folder.mkdir()
    (folder / f"20260101T000000-{'0' * 16}.part").write_bytes(b"\0" * 70_000)
    assert recover(folder) == 1
    assert list(folder.iterdir()) == []


def test_damage_in_the_middle_is_given_as_bytes_and_costs_no_other_line(
    folder: Path,
) -> None:
    folder.mkdir()
    path = folder / f"20260101T000000-{'0' * 16}.ndjson"
    path.write_bytes(b"\n".join([line("a"), b"\0\xff{", line("b"), b""]))
    first, damaged, last = records(path)
    assert isinstance(first, Record) and isinstance(last, Record)
    assert (first.items, damaged, last.items) == (["a"], b"\0\xff{", ["b"])


def test_two_that_recover_at_once_do_not_disturb_each_other(folder: Path) -> None:
    folder.mkdir()
    for number in range(50):
        path = folder / f"20260101T000000-{number:016x}.part"
        path.write_bytes(line(str(number)) + b"\n" + b'{"torn')
    threads = [threading.Thread(target=recover, args=(folder,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stored(folder) == sorted(str(number) for number in range(50))


@pytest.mark.parametrize("is_empty", [True, False])
def test_a_segment_that_its_writer_closes_at_that_moment_is_not_recovered(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, is_empty: bool
) -> None:
    folder.mkdir()
    path = folder / f"20260101T000000-{'0' * 16}.part"
    path.write_bytes(b"" if is_empty else line("a") + b"\n")
    real = fcntl.flock

    def flock(file: int, operation: int) -> None:
        if is_empty:
            path.unlink(missing_ok=True)
        elif path.exists():
            path.rename(path.with_suffix(".ndjson"))
        real(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    assert recover(folder) == 0
    assert stored(folder) == ([] if is_empty else ["a"])


def test_only_segments_that_are_gone_may_be_forgotten(folder: Path) -> None:
    home = Home(folder.parents[1])
    folder.mkdir()
    name = f"20260101T000000-{'0' * 16}"
    assert may_be_forgotten(home, name)
    (folder / f"{name}.ndjson").touch()
    assert not may_be_forgotten(home, name)
    assert not may_be_forgotten(home, "web-0123-000000")


def test_a_file_that_another_process_locks_is_left_alone(folder: Path) -> None:
    folder.mkdir()
    path = folder / f"20260101T000000-{'0' * 16}.part"
    path.write_bytes(line("a") + b"\n")
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert recover(folder) == 0
    assert recover(folder) == 1
