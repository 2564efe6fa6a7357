"""The operations of transformations.

They never mutate an event's original values: fields are replaced with new ones.
"""

import logging
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import lru_cache
from hashlib import sha256
from typing import Any, Literal

import msgspec

from connectors.events.canonical import Event
from connectors.events.clock import instant, isoformat
from connectors.events.decisions import NotAdmitted
from connectors.events.lookups import Lookup, Unanswered, UnsafeKey
from connectors.events.naming import as_text, event_name

__all__ = [
    "OBJECTS",
    "TEXTS",
    "Kind",
    "Operation",
    "Place",
    "call",
    "cast",
    "drop_if",
    "hash_",
    "look_up",
    "remove",
    "rename",
    "set_",
]

Operation = Callable[[Event], NotAdmitted | None]
"""One change to an event; None lets the event pass."""

Kind = Literal["integer", "number", "boolean", "string", "timestamp"]

TEXTS = ("event", "name", "user_id", "anonymous_id", "group_id")
OBJECTS = ("properties", "traits", "context")

_CHANGEABLE = (*TEXTS, *OBJECTS)
_SHOWN = ("type", "source", "event_text", *_CHANGEABLE)  # passed to a function
_MISSING: Any = msgspec.UNSET
_INT64 = range(-(2**63), 2**63)
_INTEGER = re.compile(r"([+-]?\d{1,19})(?:\.0*)?", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_BOOLEANS = {"true": True, "yes": True, "1": True}
_BOOLEANS |= {"false": False, "no": False, "0": False}
_encode = msgspec.json.encode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.decode
_log = logging.getLogger(__name__)


class Place:
    """A place in an event: a text field, or a path below one of its objects."""

    __slots__ = ("_holders", "_last", "root", "text")

    def __init__(self, text: str) -> None:
        """Parse `properties.plan.type` or `user_id`.

        Raises:
            ValueError: no such place exists.
        """
        self.text = text
        self.root, *keys = text.split(".")
        is_object = self.root in OBJECTS and all(keys) and keys
        if not (is_object or (self.root in TEXTS and not keys)):
            raise ValueError(
                f"`{text}` is not a place in an event; write {', '.join(TEXTS)}, or"
                " properties.…, traits.… or context.…"
            )
        self._holders = tuple(keys[:-1])
        self._last = keys[-1] if keys else ""

    def get(self, event: Event) -> Any:
        value = getattr(event, self.root)
        if not self._last:
            return _MISSING if value is None else value
        for key in self._holders:
            value = value.get(key) if type(value) is dict else None
        return value.get(self._last, _MISSING) if type(value) is dict else _MISSING

    def put(self, event: Event, value: Any) -> bool:
        """Set a value; return False if the event cannot hold it there."""
        if not self._last:
            text = as_text(value)
            if self.root == "event":
                if text is None or event.type != "track":
                    return False
                text = event_name(text)
            setattr(event, self.root, text)
            return True
        top = _copied(getattr(event, self.root))
        holder = top
        for key in self._holders:
            if holder is None:
                return False
            inner = _copied(holder.get(key))
            holder[key] = inner
            holder = inner
        if holder is None:
            return False
        holder[self._last] = value
        setattr(event, self.root, top)
        return True

    def remove(self, event: Event) -> None:
        """Remove an existing value."""
        if not self._last:
            setattr(event, self.root, None)
            return
        top = holder = getattr(event, self.root).copy()
        for key in self._holders:
            inner = holder[key].copy()
            holder[key] = inner
            holder = inner
        del holder[self._last]
        setattr(event, self.root, top)


def _copied(value: Any) -> Any:
    """Return a copy of an object; None if the value is not an object."""
    if type(value) is dict:
        return value.copy()
    return {} if value is None else None


def _violate(event: Event, text: str) -> None:
    event.violations = [*event.violations, text]


def rename(source: Place, target: Place) -> Operation:
    """Move a value, replacing the target's; does nothing if it is missing."""

    def apply(event: Event) -> None:
        value = source.get(event)
        if value is not _MISSING:
            before = getattr(event, source.root)
            source.remove(event)
            if not target.put(event, value):
                setattr(event, source.root, before)
                _violate(event, f"rename: {target.text}")

    return apply


def cast(path: Place, kind: Kind) -> Operation:
    """Convert a value to another type; null and unconvertible values stay."""
    convert = _CASTS[kind]

    def apply(event: Event) -> None:
        value = path.get(event)
        if value is not None and value is not _MISSING:
            new = convert(value)
            if new is _MISSING:
                _violate(event, f"cast: {path.text}")
            elif new is not value:
                path.put(event, new)

    return apply


def set_(path: Place, value: Any) -> Operation:
    """Set a value, replacing any other."""

    def apply(event: Event) -> None:
        if not path.put(event, value):
            _violate(event, f"set: {path.text}")

    return apply


def remove(path: Place) -> Operation:
    """Remove a value."""

    def apply(event: Event) -> None:
        if path.get(event) is not _MISSING:
            path.remove(event)

    return apply


def hash_(path: Place) -> Operation:
    """Replace a value with the hexadecimal SHA-256 of its text."""

    def apply(event: Event) -> None:
        value = path.get(event)
        if value is not None and value is not _MISSING:
            text = value if type(value) is str else _string(value)
            path.put(event, sha256(text.encode()).hexdigest())

    return apply


def drop_if(wanted: Sequence[tuple[Place, Any]], name: str) -> Operation:
    """Drop events that have all of these values; a missing value is null."""
    outcome = _dropped(name)

    def apply(event: Event) -> NotAdmitted | None:
        for path, value in wanted:
            if not _is_same(path.get(event), value):
                return None
        return outcome

    return apply


def look_up(
    lookup: Lookup,
    key_path: Place,
    targets: Sequence[Place],
    fallback: Sequence[tuple[Place, Any]],
    name: str,
) -> Operation:
    """Set the values looked up for a key, or the fallback if it is unknown."""

    def apply(event: Event) -> None:
        value = key_path.get(event)
        key = None if value is _MISSING else as_text(value)
        row = None
        if key is not None:
            try:
                row = lookup.find(key)
            except Unanswered:
                _violate(event, f"lookup_failed: {name}")
            except UnsafeKey:
                _violate(event, f"lookup_key_refused: {name}")
        values = fallback if row is None else zip(targets, row, strict=True)
        for path, new in values:
            if new is not None and not path.put(event, new):
                _violate(event, f"lookup: {path.text}")

    return apply


def call(function: Callable[[dict[str, Any]], Any], name: str) -> Operation:
    """Set the fields a function returns; None drops the event, errors quarantine it."""

    def apply(event: Event) -> NotAdmitted | None:
        before = {field: getattr(event, field) for field in _SHOWN}
        try:
            result = function(_decode(_encode(before)))
            if result is None:
                return _dropped(name)
            if type(result) is not dict:
                raise TypeError("neither an event nor None")
            # Through JSON: the result is JSON, and the function keeps no reference.
            result = _decode(
                _encode({f: result[f] for f in _CHANGEABLE if f in result})
            )
        except Exception as error:  # noqa: BLE001, it is the user's code
            inner = error.__traceback__ and error.__traceback__.tb_next
            _tell(name, type(error).__name__, inner.tb_lineno if inner else None)
            return NotAdmitted("quarantined", f"transformation {name} failed")
        for field, value in result.items():
            if _encode(value) != _encode(before[field]):
                if field in OBJECTS:
                    setattr(event, field, value)
                elif not Place(field).put(event, value):
                    _violate(event, f"call: {field}")
        return None

    return apply


@lru_cache(maxsize=256)
def _tell(name: str, kind: str, line: int | None) -> None:
    """Log once, not once per event, where a function fails."""
    _log.warning("transformation %s failed: %s in line %s", name, kind, line)


def _dropped(name: str) -> NotAdmitted:
    return NotAdmitted("dropped", f"transformation {name}")


def _is_same(value: Any, wanted: Any) -> bool:
    """Return whether two values are equal in JSON: true is not 1, missing is null."""
    if value is _MISSING:
        return wanted is None
    return value == wanted and isinstance(value, bool) is isinstance(wanted, bool)


# Casts return the new value, the same one, or _MISSING if the cast would lose data.


def _integer(value: Any) -> Any:
    if type(value) is int:
        return value
    if type(value) is float:
        is_whole = value.is_integer() and abs(value) < 2**63
        return int(value) if is_whole else _MISSING
    match = _INTEGER.fullmatch(value.strip()) if type(value) is str else None
    number = int(match[1]) if match else 2**63
    return number if number in _INT64 else _MISSING


def _number(value: Any) -> Any:
    if type(value) in (int, float):
        return value
    text = value.strip() if type(value) is str else ""
    whole = _MISSING if "." in text else _integer(text)
    if whole is not _MISSING or not _NUMBER.fullmatch(text):
        return whole
    number = float(text)
    is_finite = number - number == 0
    return number if is_finite and Decimal(text) == Decimal(repr(number)) else _MISSING


def _boolean(value: Any) -> Any:
    if type(value) is bool:
        return value
    if type(value) is int:
        return bool(value) if value in (0, 1) else _MISSING
    text = value.strip().lower() if type(value) is str else ""
    return _BOOLEANS.get(text, _MISSING)


def _string(value: Any) -> str:
    return value if type(value) is str else _encode_sorted(value).decode()


def _timestamp(value: Any) -> Any:
    micros = instant(value)
    return _MISSING if micros is None else isoformat(micros).replace("+00:00", "Z")


_CASTS: dict[str, Callable[[Any], Any]] = {
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "string": _string,
    "timestamp": _timestamp,
}
