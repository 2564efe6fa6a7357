"""Reads a request's headers and query, and the write keys it presents."""

import base64
import binascii
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs

from connectors.sources.http_api.bodies import KEY_FIELDS
from connectors.sources.write_keys import KeyRing, WriteKey

__all__ = ["Presented", "Receive", "Request", "in_body", "in_headers", "presented"]

Receive = Callable[[], Awaitable[Any]]

Presented = tuple[WriteKey, str]
"""A live key, and its text."""


@dataclass(frozen=True, slots=True)
class Request:
    """The parts of one request that are read."""

    scope: Any
    receive: Receive
    headers: dict[bytes, bytes]

    @property
    def query(self) -> dict[str, list[str]]:
        text = self.scope["query_string"]
        if not text:
            return {}
        try:
            return parse_qs(text.decode("latin-1"), max_num_fields=100)
        except ValueError:  # more fields than any client sends
            return {}

    @property
    def wants_receipts(self) -> bool:
        if self.headers.get(b"x-loomline-receipts") == b"1":
            return True
        return b"receipts=1" in self.scope["query_string"].split(b"&")


def in_headers(request: Request, *, and_query: bool = True) -> Iterator[str]:
    """Yield candidates for the write key in headers and, by default, the query.

    HTTP Basic carries it as the user with an empty password; a key made of both parts
    (Jitsu's `id:secret`) is yielded as a whole first.
    """
    headers = request.headers
    authorization = headers.get(b"authorization")
    if authorization is not None:
        yield from _authorized(authorization)
    if b"x-write-key" in headers:
        yield from _with_parts(headers[b"x-write-key"].decode("latin-1"))
    if and_query and request.scope["query_string"]:
        query = request.query
        for name in KEY_FIELDS:
            if name in query:
                yield query[name][0]


@lru_cache  # all requests of a source send the same value
def _authorized(authorization: bytes) -> tuple[str, ...]:
    scheme, _, rest = authorization.partition(b" ")
    match scheme.lower():
        case b"basic":
            with suppress(binascii.Error, UnicodeDecodeError):
                return tuple(_with_parts(base64.b64decode(rest).decode()))
        case b"bearer":
            return (rest.strip().decode("latin-1"),)
    return ()


def _with_parts(text: str) -> Iterator[str]:
    first, _, second = text.partition(":")
    if second:
        yield text
    yield first


def in_body(value: Any) -> Iterator[str]:
    """Yield candidates for the write key in a body: its own, or its first item's."""
    candidates = [value]
    if type(value) is dict and type(value.get("batch")) is list:
        candidates += value["batch"][:1]
    elif type(value) is list:
        candidates = value[:1]
    for candidate in candidates:
        if type(candidate) is not dict:
            continue
        properties = candidate.get("properties")
        for owner in (candidate, properties):
            if type(owner) is dict:
                for name in KEY_FIELDS:
                    if type(owner.get(name)) is str:
                        yield owner[name]


def presented(keys: KeyRing, texts: Iterator[str]) -> Presented | None:
    """Return the first live key among the texts."""
    for text in texts:
        key = keys.find(text)
        if key is not None:
            return key, text
    return None
