"""Normalizes names and ids to text of one form."""

import re
from functools import lru_cache
from typing import Any

import msgspec

from connectors.events.policy import Convention

__all__ = ["as_text", "event_name", "in_convention", "is_object_action", "snake_case"]

_BORDERS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_SEPARATORS = re.compile(r"[^\w$]+")
_encode_sorted = msgspec.json.Encoder(order="sorted").encode
_CACHED_LENGTH = 200  # longer names are not cached, which bounds the cache's memory

# Past tenses that do not end in -ed.
_PAST = """
agreed became begun bound broken brought built caught chosen cut done drawn driven
fallen fed felt forgotten found freed frozen given gone got grown guaranteed heard held
hidden hit kept known laid led left lent lost made met overridden overwritten paid put
quit read rebuilt redone repaid resent reset rewritten run said seen sent set shown shut
sold spent split spoken stolen swept taken taught thrown told undone understood unsent
upheld withdrawn won woken written
"""
_IRREGULAR = frozenset(_PAST.split())


def snake_case(text: str) -> str | None:
    """Convert a name to snake_case: `Order Completed` to `order_completed`.

    Keeps a leading `$`, which marks a system name. Returns None if no letter or digit
    is left.
    """
    return (_cached if len(text) <= _CACHED_LENGTH else _snake_case)(text)


def _snake_case(text: str) -> str | None:
    words = _SEPARATORS.sub("_", _BORDERS.sub("_", text)).strip("_")
    return re.sub("_+", "_", words).lower() or None


_cached = lru_cache(maxsize=4096)(_snake_case)


def event_name(text: str) -> str:
    """Return the name of an event sent as `text`: snake_case, without white space.

    A name of symbols only (`!`, an emoji) stays as it is.
    """
    return snake_case(text) or "_".join(text.split())


def in_convention(name: str, convention: Convention) -> str:
    """Convert a snake_case name to the convention.

    A system name (`$…`) stays as it is. Every name has exactly one spelling:
    `HttpRequest`, not `HTTPRequest`.
    """
    if convention == "snake_case" or name[:1] == "$":
        return name
    first, *rest = name.split("_")
    if convention == "TitleCase":
        first = first[:1].upper() + first[1:]
    # A name made of underscores has no words.
    return first + "".join(word[:1].upper() + word[1:] for word in rest) or name


def is_object_action(name: str) -> bool:
    """Return whether a snake_case name is object and action: `order_completed`."""
    *objects, action = name.split("_")
    if not any(objects):
        return False
    is_regular = action.endswith("ed") and len(action) > 3 and action[-3] != "e"
    return is_regular or action in _IRREGULAR


def as_text(value: Any) -> str | None:
    """Return an id or a name as text; None for blank text, empty lists and objects.

    Numbers are common (`12345`, `12345.5`); any other value becomes its JSON.
    """
    if type(value) is str:
        return value if value and not value.isspace() else None
    if value is None or value == [] or value == {}:
        return None
    if type(value) in (int, float):
        return str(value)
    return _encode_sorted(value).decode()
