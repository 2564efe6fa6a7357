"""Layouts of vendors' export files, one module per format.

A module of this package is a layout: its name, with dashes for underscores, is the
format's public name. It has

- `translate(row)`: converts one decoded row to a call; raises `Untranslatable`
- `looks_like(row)`: returns whether a decoded row is this vendor's
- `PATH` (optional): a pattern over the paths this vendor writes, used as a tie-break
- `decode(line)` (optional): for lines that are not JSON; raises `Untranslatable`
- `is_export(files)` and `read(files)` (optional, both): for an export that is a folder
  of tables; `read` yields JSON lines

A call is a dict in Segment's shape holding JSON types; absent keys are absent.
"""

import importlib
import math
import pkgutil
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from connectors.events.decode import decode_item

__all__ = [
    "Layout",
    "Untranslatable",
    "compact",
    "instant",
    "layouts",
    "moment",
    "number",
    "text",
]


class Untranslatable(Exception):
    """A row does not match its format; the message names the field, not the value."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The functions of one vendor's module; see the module docstring."""

    format: str
    translate: Callable[[Any], dict[str, Any]]
    looks_like: Callable[[Any], bool]
    decode: Callable[[bytes], Any]
    path: re.Pattern[str] | None
    is_export: Callable[[Sequence[Path]], bool] | None
    read: Callable[[Sequence[Path]], Iterator[bytes]] | None


@cache
def layouts() -> dict[str, Layout]:
    """Return every layout of this package by format name, sorted."""
    result = {}
    for name in sorted(module.name for module in pkgutil.iter_modules(__path__)):
        module = importlib.import_module(f"{__name__}.{name}")
        format_ = name.replace("_", "-")
        result[format_] = Layout(
            format=format_,
            translate=module.translate,
            looks_like=module.looks_like,
            decode=getattr(module, "decode", decode_item),
            path=getattr(module, "PATH", None),
            is_export=getattr(module, "is_export", None),
            read=getattr(module, "read", None),
        )
    return result


def compact(call: dict[str, Any]) -> dict[str, Any]:
    """Drop missing keys from the call, and missing or empty ones from its context."""
    context = {
        key: _present(value) if isinstance(value, dict) else value
        for key, value in call.get("context", {}).items()
    }
    context = {key: value for key, value in context.items() if value != {}}
    return _present({**call, "context": _present(context) or None})


def _present(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def text(value: Any) -> str | None:
    """Return an id or a name as text; numbers become text, other values None."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return None


def instant(row: dict[str, Any], field: str) -> str | None:
    """Return a time as ISO 8601 with its zone; UTC if the vendor writes none.

    Raises:
        Untranslatable: the field is set but is not a time.
    """
    value = row.get(field)
    if value is None or value == "":
        return None
    try:
        parsed = datetime.fromisoformat(value.removesuffix(" UTC"))
    except (AttributeError, ValueError):
        raise Untranslatable(f"{field} is not a time") from None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).isoformat()


def moment(value: Any, field: str, per_second: int) -> str | None:
    """Return an epoch number, or its digits as text, as ISO 8601 in UTC.

    Raises:
        Untranslatable: not a number, or outside the years 1 to 9999.
    """
    if value is None or value == "":
        return None
    count = number(value, field)
    try:
        whole, rest = divmod(count, per_second)
        parsed = datetime.fromtimestamp(whole, UTC)
        micros = min(int(rest * 1_000_000 // per_second), 999_999)
    except (OSError, OverflowError, ValueError):
        raise Untranslatable(f"{field} is not a time") from None
    return parsed.replace(microsecond=micros).isoformat()


def number(value: Any, field: str) -> int | float:
    """Return a number that may be written as text.

    Raises:
        Untranslatable: it is not a finite number.
    """
    if isinstance(value, str):
        try:
            value = int(value) if value.lstrip("-").isdecimal() else float(value)
        except ValueError:
            value = None
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise Untranslatable(f"{field} is not a number")
