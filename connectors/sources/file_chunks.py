"""Reads a file, an archive member or a folder of tables in chunks of lines."""

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from connectors.sources.layouts import layouts

__all__ = ["CHUNK_BYTES", "MAX_LINE_BYTES", "Chunk", "Unit", "chunks"]

LOOMLINE = "loomline"

CHUNK_BYTES = 4 << 20
"""Decompressed bytes per chunk, unless a single line is longer."""

MAX_LINE_BYTES = 32 << 20
"""A longer line is truncated and becomes one broken row."""

PAYLOAD_BYTES = 64 << 10
"""How much of an unreadable line is kept."""

_BLOCK_BYTES = 256 << 10
_GZIP = b"\x1f\x8b"
ZIP = b"PK"
_ZIP_HEADER_BYTES = 30
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Unit:
    """What is imported or skipped as a whole: a file, a zip member, a folder's tables.

    `sha256` is that of the file; of the zip's hash and the member's name; or of the
    folder's (name, sha256) pairs in order.
    """

    label: str
    sha256: str
    format: str
    size_bytes: int  # on disk, compressed
    files: tuple[str, ...]
    member: str | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Whole lines of a unit; with `error`, one unreadable item."""

    unit: Unit
    index: int
    first_line: int
    data: bytes
    consumed_bytes: int  # of unit.size_bytes, up to and including this chunk
    error: str | None = None


class _Damaged(Exception):
    """The rest of a stream cannot be read."""


def chunks(unit: Unit, target_bytes: int = CHUNK_BYTES) -> Iterator[Chunk]:
    """Stream a unit in constant memory; chunk borders depend only on the content.

    Damage ends the stream with a chunk whose `error` says what and where. A line over
    MAX_LINE_BYTES is such a chunk too, and the stream continues after it.

    Raises:
        OSError: the file is gone.
    """
    layout = layouts().get(unit.format)
    if layout and layout.read:
        files = [Path(file) for file in unit.files]
        raw, blocks = None, layout.read(files)
    else:
        raw, blocks = _open(unit)
    for index, (first_line, data, error) in enumerate(_cut(blocks, target_bytes)):
        consumed = raw.consumed if raw else unit.size_bytes
        yield Chunk(unit, index, first_line, data, consumed, error)


class _Raw:
    """A file's bytes from an offset, counting those read."""

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


def _open(unit: Unit) -> tuple[_Raw, Iterator[bytes]]:
    """Return the unit's bytes on disk, and its content as blocks, which may raise."""
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
    # zipfile's own reader discards the whole block in which damage begins.
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
    if head.startswith(ZIP) and not is_member:
        raise _Damaged("zip directory is damaged")
    blocks = chain([head], blocks) if head else blocks
    if head.startswith(_GZIP):
        blocks = _inflated(blocks, zlib.MAX_WBITS | 16, "gzip stream")
    yield from blocks


def _inflated(blocks: Iterator[bytes], wbits: int, what: str) -> Iterator[bytes]:
    """Yield decompressed blocks, everything readable before _Damaged is raised."""
    stream = zlib.decompressobj(wbits)
    for block in blocks:
        while block:
            if stream.eof:  # gzip files may have several streams, padded with zeros
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
    """Yield what a block contains before the byte that does not decompress."""
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
    """Yield (first line, whole lines, error), about target_bytes each.

    A cut depends only on the content after the previous one, not on how the content
    was split into blocks or compressed.
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
            head = bytes(buffer[:PAYLOAD_BYTES])
            source.skip_line()
            yield line, head, f"line is longer than {MAX_LINE_BYTES} bytes"
            line += 1
            continue
        if not end:  # the last line has no newline; after damage it may be truncated
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
        """Buffer `size` bytes, or all that remain; return False if none do."""
        while len(self.buffer) < size and self._more():
            pass
        return bool(self.buffer)

    def find_newline(self, limit: int) -> int:
        """Return the position of the first newline within `limit` bytes, or -1."""
        seen = 0
        while (position := self.buffer.find(b"\n", seen, limit)) < 0:
            seen = len(self.buffer)
            if seen >= limit or not self._more():
                return -1
        return position

    def skip_line(self) -> None:
        """Drop everything up to and including the next newline."""
        while (position := self.buffer.find(b"\n")) < 0:
            self.buffer.clear()
            if not self._more():
                return
        del self.buffer[: position + 1]

    def _more(self) -> bool:
        try:
            self.buffer += next(self._blocks)
        except StopIteration:
            return False
        except _Damaged as damage:
            self.damage = str(damage)
            return False
        return True
