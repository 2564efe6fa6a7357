"""Names and ids: what people type and send becomes text of one form."""

import re
from functools import lru_cache
from typing import Any

import msgspec

__all__ = ["as_text", "snake_case"]

_BORDERS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_SEPARATORS = re.compile(r"[^\w$]+")
_encode_sorted = msgspec.json.Encoder(order="sorted").encode
_CACHED_LENGTH = 200  # a longer name is worked out each time: the cache stays small


def snake_case(text: str) -> str | None:
    """`Order Completed`, `orderCompleted`, `order-completed` → `order_completed`.

    A leading `$` stays: it marks a system name. None when no letter or digit is left.
    """
    return (_cached if len(text) <= _CACHED_LENGTH else _snake_case)(text)


def _snake_case(text: str) -> str | None:
    words = _SEPARATORS.sub("_", _BORDERS.sub("_", text)).strip("_")
    return re.sub("_+", "_", words).lower() or None


_cached = lru_cache(maxsize=4096)(_snake_case)


def as_text(value: Any) -> str | None:
    """An id or a name as text; blank text and empty lists or objects are none at all.

    Numbers are common (`12345`, `12345.5`); anything else is kept as its JSON.
    """
    if type(value) is str:
        return value if value and not value.isspace() else None
    if value is None or value == [] or value == {}:
        return None
    if type(value) in (int, float):
        return str(value)
    return _encode_sorted(value).decode()
