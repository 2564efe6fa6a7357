"""Files as a source: finding them, reading them in chunks, and their rows.

`units` finds what is imported or skipped as a whole, `chunks` streams one unit in
pieces of whole lines that can be sent to another process, `rows` gives each line's
item. Nothing that can be read is lost to damage elsewhere in the same file.
"""

import glob
import hashlib
import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from connectors.errors import SourceError
from connectors.events.decode import Undecodable, decode_item
from connectors.sources.layouts import Layout, Untranslatable, layouts

__all__ = [
    "CHUNK_BYTES",
    "FORMATS",
    "MAX_LINE_BYTES",
    "Broken",
    "Chunk",
    "Unit",
    "chunks",
    "rows",
    "units",
]

LOOMLINE = "loomline"
FORMATS: tuple[str, ...] = ("auto", LOOMLINE, *layouts())

CHUNK_BYTES = 4 << 20
"""Decompressed bytes of a chunk, unless one line alone is longer."""

MAX_LINE_BYTES = 32 << 20
"""A longer line is cut off and becomes one broken row."""

_PAYLOAD_BYTES = 64 << 10
_BLOCK_BYTES = 256 << 10
_SNIFF_BYTES = 64 << 10
_SNIFF_ROWS = 20
_GZIP = b"\x1f\x8b"
_ZIP = b"PK"
_ZIP_HEADER_BYTES = 30
_BOM = b"\xef\xbb\xbf"
_UNREADABLE = {b"PAR1": "Parquet", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2"}
# One of these makes an object an event; which one, and how, admission knows.
_CALL_KEYS = {
    "type",
    "event",
    "event_text",
    "batch",
    "userId",
    "user_id",
    "anonymousId",
    "anonymous_id",
    "distinct_id",
}


@dataclass(frozen=True, slots=True)
class Unit:
    """What is imported or skipped as a whole: a file, a zip member, a folder's tables.

    `sha256` is that of the file; of the zip's and the member's name; or of all the
    folder's (name, sha256) in order.
    """

    label: str
    sha256: str
    format: str
    size_bytes: int  # on disk, compressed
    files: tuple[str, ...]
    member: str | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Whole lines of a unit; with `error`, one item that cannot be read."""

    unit: Unit
    index: int
    first_line: int
    data: bytes
    consumed_bytes: int  # of unit.size_bytes, up to and including this chunk
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Broken:
    """A row that is no item; `reason` names the field or the damage, never a value."""

    line: int
    reason: str
    payload: bytes  # the line as it was, cut off at 64 KiB


class _Damaged(Exception):
    """The rest of a stream cannot be read."""


def units(paths: Iterable[str | Path], format: str = "auto") -> list[Unit]:
    """The units of files, folders and globs, each once, in the order of the names.

    Raises:
        SourceError: an unknown format, a path without files, or, with "auto", content
            of no known format.
    """
    if format not in FORMATS:
        raise SourceError(f"Unknown format {format!r}; known are {', '.join(FORMATS)}.")
    files = list(dict.fromkeys(chain.from_iterable(map(_files, paths))))
    if not files:
        raise SourceError("No files given.")
    found: list[Unit] = []
    for layout in layouts().values():
        if layout.is_export and format in ("auto", layout.format):
            tables = _folders(files, layout.is_export, format != "auto")
            found += (_folder_unit(group, layout.format) for group in tables)
            taken = {file for group in tables for file in group}
            files = [file for file in files if file not in taken]
            if format == layout.format:
                if not tables:
                    raise SourceError(f"No CSV tables found for format {format!r}.")
                files = []
    for file in files:
        found += _file_units(file, format)
    if format == "auto":
        found = _with_formats(found)
    return sorted(found, key=lambda unit: unit.label)


def chunks(unit: Unit) -> Iterator[Chunk]:
    """Stream a unit; memory does not grow with it, borders depend on content only.

    Damage ends the stream with a chunk whose `error` says what and where; a line over
    MAX_LINE_BYTES is such a chunk too, and the stream goes on after it.

    Raises:
        OSError: the file is gone.
    """
    yield from _chunks(unit, CHUNK_BYTES)


def rows(chunk: Chunk) -> Iterator[tuple[int, bytes | dict[str, Any] | Broken]]:
    """The line numbers and items of a chunk; blank lines are none.

    An item is the untouched line for format "loomline", a translated call for a
    vendor's, or a Broken.
    """
    if chunk.error is not None:
        line, payload = chunk.first_line, chunk.data[:_PAYLOAD_BYTES]
        yield line, Broken(line, chunk.error, payload)
        return
    lines = enumerate(chunk.data.split(b"\n"), chunk.first_line)
    if chunk.unit.format == LOOMLINE:
        for number, data in lines:
            if data and not data.isspace():
                yield number, data
        return
    layout = layouts()[chunk.unit.format]
    for number, data in lines:
        if data and not data.isspace():
            try:
                yield number, layout.translate(layout.decode(data))
            except (Undecodable, Untranslatable) as error:
                yield number, Broken(number, str(error), data[:_PAYLOAD_BYTES])


# Finding


def _files(path: str | Path) -> list[Path]:
    """The files of one argument. Only below a folder are hidden ones left out."""
    text = str(path)
    if os.path.exists(text):
        matches = [text]
    else:
        matches = sorted(glob.glob(text, recursive=True))
        if not matches:
            kind = "Nothing matches" if glob.has_magic(text) else "No such file:"
            raise SourceError(f"{kind} {text}")
    found = []
    for match in map(Path, matches):
        found += _below(match) if match.is_dir() else [match]
    if not found:
        raise SourceError(f"No files in {text}")
    return found


def _below(folder: Path) -> list[Path]:
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(file for file in found if file.is_file())


def _folders(
    files: list[Path], is_export: Callable[[list[Path]], bool], is_given: bool
) -> list[list[Path]]:
    """The groups of CSV files of one folder that are an export of tables."""
    groups: dict[Path, list[Path]] = {}
    for file in files:
        if file.name.lower().endswith((".csv", ".csv.gz")):
            groups.setdefault(file.parent, []).append(file)
    return [group for group in groups.values() if is_given or is_export(group)]


def _folder_unit(files: list[Path], format: str) -> Unit:
    hashes = sorted((file.name, _sha256(file)) for file in files)
    return Unit(
        label=str(files[0].parent),
        sha256=hashlib.sha256(repr(hashes).encode()).hexdigest(),
        format=format,
        size_bytes=sum(file.stat().st_size for file in files),
        files=tuple(sorted(map(str, files))),
    )


def _file_units(file: Path, format: str) -> Iterator[Unit]:
    unit = Unit(
        str(file), _sha256(file), format, file.stat().st_size, files=(str(file),)
    )
    with file.open("rb") as stream:
        head = stream.read(4)
    for magic, kind in _UNREADABLE.items():
        if head.startswith(magic):
            raise SourceError(f"{file} is {kind}; JSON lines, plain or gzip, are read.")
    try:
        members = _members(file) if head.startswith(_ZIP) else None
    except (zipfile.BadZipFile, NotImplementedError):
        members = None  # `chunks` says that it is damaged
    if members is None:
        yield unit
        return
    for member in members:
        yield replace(
            unit,
            label=f"{file}!{member.filename}",
            sha256=hashlib.sha256(
                f"{unit.sha256}!{member.filename}".encode(errors="surrogatepass")
            ).hexdigest(),
            size_bytes=member.compress_size,
            member=member.filename,
        )


def _members(file: Path) -> list[zipfile.ZipInfo]:
    with zipfile.ZipFile(file) as archive:
        infos = {info.filename: info for info in archive.infolist()}
    return [
        infos[name]
        for name in sorted(infos)
        if not infos[name].is_dir() and not Path(name).name.startswith(".")
    ]


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# Recognising


def _with_formats(found: list[Unit]) -> list[Unit]:
    """Put the recognised format in place of "auto".

    A unit without a readable row (empty, or damaged from the start) takes the format
    of the units beside it, so that it is counted and stops nothing.
    """
    formats: list[str | None] = [
        unit.format if unit.format != "auto" else _recognised(unit) for unit in found
    ]
    known = Counter(format for format in formats if format)
    usual = known.most_common(1)[0][0] if known else LOOMLINE
    if usual in layouts() and layouts()[usual].read:
        usual = LOOMLINE
    return [
        replace(
            unit, format=format or _by_path(unit.label, layouts().values()) or usual
        )
        for unit, format in zip(found, formats, strict=True)
    ]


def _recognised(unit: Unit) -> str | None:
    """The format most of the first rows have; None when there are no rows.

    Raises:
        SourceError: rows, but of no known format.
    """
    chunk = next(_chunks(unit, _SNIFF_BYTES), None)
    if chunk is None or chunk.error is not None:
        return None
    lines = [line for line in chunk.data.split(b"\n") if line.strip()][:_SNIFF_ROWS]
    if not lines:
        return None
    alike = {
        layout: sum(_is_like(layout, line) for line in lines)
        for layout in layouts().values()
    }
    most = max(alike.values())
    calls = sum(map(_is_call, lines))
    if most and 2 * most > calls:
        best = [layout for layout, count in alike.items() if count == most]
        return _by_path(unit.label, best) or best[0].format
    if calls:
        return _by_path(unit.label, layouts().values()) or LOOMLINE
    raise SourceError(
        f"{unit.label} has no known format; name it with --format if it has one."
    )


def _is_like(layout: Layout, line: bytes) -> bool:
    try:
        return layout.looks_like(layout.decode(line))
    except (Undecodable, Untranslatable):
        return False


def _is_call(line: bytes) -> bool:
    try:
        value = decode_item(line)
    except Undecodable:
        return False
    if isinstance(value, list):
        value = value[0] if value else None
    return isinstance(value, dict) and not _CALL_KEYS.isdisjoint(value)


def _by_path(label: str, candidates: Iterable[Layout]) -> str | None:
    path = label.replace(os.sep, "/")
    matches = (c.format for c in candidates if c.path and c.path.search(path))
    return next(matches, None)


# Reading


class _Raw:
    """A file's bytes from one place on, counting what was taken."""

    def __init__(self, path: str, start: int = 0, length: int | None = None) -> None:
        self._path, self._start, self._left = path, start, length
        self.consumed = 0

    def blocks(self) -> Iterator[bytes]:
        with open(self._path, "rb") as stream:
            stream.seek(self._start)
            while block := stream.read(self._take()):
                self.consumed += len(block)
                yield block

    def _take(self) -> int:
        if self._left is None:
            return _BLOCK_BYTES
        return max(0, min(_BLOCK_BYTES, self._left - self.consumed))


def _chunks(unit: Unit, target_bytes: int) -> Iterator[Chunk]:
    layout = layouts().get(unit.format)
    if layout and layout.read:
        files = [Path(file) for file in unit.files]
        raw, blocks = None, layout.read(files)
    else:
        raw, blocks = _open(unit)
    for index, (first_line, data, error) in enumerate(_cut(blocks, target_bytes)):
        consumed = raw.consumed if raw else unit.size_bytes
        yield Chunk(unit, index, first_line, data, consumed, error)


def _open(unit: Unit) -> tuple[_Raw, Iterator[bytes]]:
    """The unit's bytes on disk, and its content as blocks; these raise _Damaged."""
    (path,) = unit.files
    if unit.member is None:
        raw = _Raw(path)
        return raw, _content(raw.blocks(), is_member=False)
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(unit.member)
    with open(path, "rb") as stream:
        stream.seek(info.header_offset)
        header = stream.read(_ZIP_HEADER_BYTES)
    lengths = (header[26:28], header[28:30])  # of the name and of the extra field
    start = _ZIP_HEADER_BYTES + sum(int.from_bytes(n, "little") for n in lengths)
    raw = _Raw(path, info.header_offset + start, info.compress_size)
    return raw, _content(_member(raw, info, header), is_member=True)


def _member(raw: _Raw, info: zipfile.ZipInfo, header: bytes) -> Iterator[bytes]:
    # zipfile's own reader gives up a whole block where damage begins.
    if header[:4] != b"PK\x03\x04":
        raise _Damaged("zip member is damaged")
    if info.flag_bits & 1:
        raise _Damaged("zip member is encrypted")
    if info.compress_type == zipfile.ZIP_DEFLATED:
        blocks = _inflated(raw.blocks(), -zlib.MAX_WBITS, "zip member")
    elif info.compress_type == zipfile.ZIP_STORED:
        blocks = raw.blocks()
    else:
        raise _Damaged("zip member is compressed in an unknown way")
    crc = 0
    for block in blocks:
        crc = zlib.crc32(block, crc)
        yield block
    if crc != info.CRC:
        raise _Damaged("zip member is damaged")


def _content(blocks: Iterator[bytes], is_member: bool) -> Iterator[bytes]:
    head = b""
    for block in blocks:
        head += block
        if len(head) >= len(_GZIP):
            break
    if head.startswith(_ZIP) and not is_member:
        raise _Damaged("zip directory is damaged")
    blocks = chain([head], blocks) if head else blocks
    if head.startswith(_GZIP):
        blocks = _inflated(blocks, zlib.MAX_WBITS | 16, "gzip stream")
    yield from blocks


def _inflated(blocks: Iterator[bytes], wbits: int, what: str) -> Iterator[bytes]:
    """Decompressed blocks, all that can be had before _Damaged is raised."""
    stream = zlib.decompressobj(wbits)
    for block in blocks:
        while block:
            if stream.eof:  # gzip files may hold several streams, padded with zeros
                block = block.lstrip(b"\0")
                if not block:
                    break
                stream = zlib.decompressobj(wbits)
            before = stream.copy()
            try:
                data = stream.decompress(block, _BLOCK_BYTES)
            except zlib.error:
                yield from _readable(before, block)
                raise _Damaged(f"{what} is damaged") from None
            if data:
                yield data
            block = stream.unused_data if stream.eof else stream.unconsumed_tail
    if data := stream.flush():
        yield data
    if not stream.eof:
        raise _Damaged(f"{what} ends early")


def _readable(stream: Any, block: bytes) -> Iterator[bytes]:
    """What a block holds before the byte that cannot be decompressed."""
    for place in range(len(block)):
        try:
            data = stream.decompress(block[place : place + 1])
        except zlib.error:
            return
        if data:
            yield data


def _cut(
    blocks: Iterator[bytes], target_bytes: int
) -> Iterator[tuple[int, bytes, str | None]]:
    """(first line, whole lines, error) of about target_bytes each.

    Each cut looks only at what follows the last one, so it does not matter in which
    blocks, or how compressed, the same content came.
    """
    source = _Source(blocks)
    buffer = source.buffer
    line = 1
    source.fill(target_bytes)
    if buffer.startswith(_BOM):
        del buffer[: len(_BOM)]
    while source.fill(target_bytes):
        is_last = len(buffer) < target_bytes and source.damage is None
        end = len(buffer) if is_last else buffer.rfind(b"\n", 0, target_bytes) + 1
        if not end:
            end = source.find_newline(MAX_LINE_BYTES) + 1
        if not end and len(buffer) >= MAX_LINE_BYTES:
            head = bytes(buffer[:_PAYLOAD_BYTES])
            source.skip_line()
            yield line, head, f"line is longer than {MAX_LINE_BYTES} bytes"
            line += 1
            continue
        if not end:  # the last line has no newline; after damage it may lack more
            if source.damage is not None:
                break
            end = len(buffer)
        with memoryview(buffer) as view:
            data = bytes(view[:end])
        del buffer[:end]
        yield line, data, None
        line += data.count(b"\n")
    if source.damage is not None:
        yield line, bytes(buffer), f"{source.damage} after line {line - 1}"


class _Source:
    """A buffer over blocks that remembers how they ended."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self.buffer = bytearray()
        self.damage: str | None = None

    def fill(self, size: int) -> bool:
        """Hold at least `size` bytes, or all that is left; False when there is none."""
        while len(self.buffer) < size and self._more():
            pass
        return bool(self.buffer)

    def find_newline(self, limit: int) -> int:
        """Where the first newline within `limit` bytes is, or -1."""
        seen = 0
        while (found := self.buffer.find(b"\n", seen, limit)) < 0:
            seen = len(self.buffer)
            if seen >= limit or not self._more():
                return -1
        return found

    def skip_line(self) -> None:
        """Drop everything up to and including the next newline."""
        while (found := self.buffer.find(b"\n")) < 0:
            self.buffer.clear()
            if not self._more():
                return
        del self.buffer[: found + 1]

    def _more(self) -> bool:
        try:
            self.buffer += next(self._blocks)
        except StopIteration:
            return False
        except _Damaged as damage:
            self.damage = str(damage)
            return False
        return True
