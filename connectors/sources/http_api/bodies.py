"""Reads request bodies as real SDKs compress, encode and label them.

Labels can be wrong: one SDK sends gzip as form data, another as plain text without any
header, so the first bytes take precedence over the headers.
"""

import base64
import binascii
import re
import zlib
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice
from typing import Any
from urllib.parse import parse_qs

import zstandard

from connectors.events.decode import Undecodable, decode_item

__all__ = [
    "KEY_FIELDS",
    "Budget",
    "Crowded",
    "TooLarge",
    "decoded",
    "inflated",
    "keys_within",
    "read_body",
]

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_MAX_MEMBERS = 100

KEY_FIELDS = ("writeKey", "write_key", "api_key", "token")
"""Fields of bodies, items and queries that may carry a write key."""

_KEY_FIELD = re.compile(
    rb'"(?:%b)"\s*:\s*"([^"\\]{1,512})"' % "|".join(KEY_FIELDS).encode()
)
_ZSTD_PIECE_BYTES = 256


class TooLarge(Exception):
    """The body exceeds the limit of the write key or the collector."""


class Crowded(Exception):
    """There is no memory left for another large body."""


class Budget:
    """Bytes of unfinished bodies one worker may hold at a time."""

    def __init__(self, limit: int) -> None:
        self._left = limit

    def take(self, size: int) -> None:
        """Reserve bytes; raises Crowded if there is no room."""
        if size > self._left:
            raise Crowded
        self._left -= size

    def give_back(self, size: int) -> None:
        self._left += size


async def read_body(
    receive: Callable[[], Awaitable[Any]],
    announced: bytes | None,
    limit: int,
    budget: Budget,
) -> bytes | None:
    """Return the request's raw bytes, or None if the client disconnected.

    Raises:
        TooLarge: more than `limit` bytes, announced or sent.
        Crowded: too many large bodies are arriving at once.
    """
    if announced is not None and announced.isdigit() and int(announced[:20]) > limit:
        raise TooLarge
    message = await receive()
    if message["type"] == "http.disconnect":
        return None
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        if len(body) > limit:
            raise TooLarge
        return body
    parts, size = [body], len(body)
    held = 0
    try:
        while message.get("more_body"):
            budget.take(size - held)
            held = size
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                raise TooLarge
    finally:
        budget.give_back(held)
    return b"".join(parts)


def inflated(body: bytes, encoding: bytes | None, limit: int) -> bytes:
    """Decompress the body by its first bytes, whatever its label says.

    Raises:
        TooLarge: the result would exceed `limit` bytes; no more than that is held.
        Undecodable: it begins as compressed data but is damaged.
    """
    head = body[:4]
    if head[:2] == _GZIP:
        return _unzipped(body, 31, limit)
    if head == _ZSTD:
        return _unzstd(body, limit)
    if head[:2] in _ZLIB:
        return _unzipped(body, 15, limit)
    if encoding == b"deflate" and body[:1] not in b"{[":
        return _unzipped(body, -15, limit)  # raw, without the zlib header
    if len(body) > limit:
        raise TooLarge
    return body


def _unzipped(body: bytes, wbits: int, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while body:  # a gzip file may have several members
        if len(parts) == _MAX_MEMBERS:  # each member copies the remaining bytes
            raise Undecodable("too_many_gzip_members")
        stream = zlib.decompressobj(wbits)
        try:
            part = stream.decompress(body, limit + 1 - size)
        except zlib.error:
            raise Undecodable("not_compressed_as_said") from None
        parts.append(part)
        size += len(part)
        if size > limit:
            raise TooLarge
        if not stream.eof:
            raise Undecodable("compressed_data_cut_off")
        body = stream.unused_data.lstrip(b"\0") if wbits == 31 else b""
    return b"".join(parts)


def _unzstd(body: bytes, limit: int) -> bytes:
    stream = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
    parts, size = [], 0
    try:
        # In pieces: four bytes can expand to 128 KiB, and nothing else limits output.
        for start in range(0, len(body), _ZSTD_PIECE_BYTES):
            part = stream.decompress(body[start : start + _ZSTD_PIECE_BYTES])
            parts.append(part)
            size += len(part)
            if size > limit:
                raise TooLarge
    except zstandard.ZstdError:
        raise Undecodable("not_compressed_as_said") from None
    if not stream.eof:
        raise Undecodable("compressed_data_cut_off")
    return b"".join(parts)


def decoded(data: bytes) -> Any:
    """Return the JSON value of a body, or of a form's `data` field.

    Raises:
        Undecodable: it is neither.
    """
    if data[:5] == b"data=":
        data = _form_data(data)
    return decode_item(data)


def keys_within(data: bytes) -> Iterator[str]:
    """Yield candidates for the write key in a body, without decoding it."""
    for match in islice(_KEY_FIELD.finditer(data), 100):
        yield match[1].decode("utf-8", "replace")


def _form_data(data: bytes) -> bytes:
    try:
        (value,) = parse_qs(data.decode(), max_num_fields=100)["data"]
    except (UnicodeDecodeError, ValueError, KeyError):
        raise Undecodable("not_a_form") from None
    if value.lstrip()[:1] in ("{", "["):
        return value.encode()
    try:
        return base64.b64decode(value.replace(" ", "+"), validate=True)
    except (binascii.Error, ValueError):
        raise Undecodable("not_base64") from None
