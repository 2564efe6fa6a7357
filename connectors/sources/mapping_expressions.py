"""Expressions of mapping files: paths, text with paths in it, and constants.

$                    the payload            $.data.items[0]['a name']
$item                the member of `each` the event is made from, otherwise as $
$header.x-event      a header of the request
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec import UNSET

from connectors.events.naming import as_text

__all__ = [
    "Delivery",
    "Expression",
    "constant",
    "item_of",
    "numbered",
    "read_path",
    "read_text",
    "read_value",
    "read_varying",
]

_STEP = re.compile(r"\.([^.\[\]{}\s]+)|\[(-?\d+)\]|\['([^']*)'\]")
_PATH = re.compile(rf"\$(item|header)?((?:{_STEP.pattern})*)")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


class Delivery(NamedTuple):
    """One request; with `each`, from the point of view of one member of the list."""

    body: Any
    headers: Mapping[str, str]
    item: Any
    place: int | None = None  # of the member in the list


Expression = Callable[[Delivery], Any]
"""Returns a value; UNSET if it is missing, unlike null."""


def read_path(value: Any) -> Expression:
    match = _PATH.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(
            "must be a path such as $.data.items[0].id, $item.id, $header.x-event"
        )
    steps: list[str | int] = [
        int(step[2]) if step[2] else step[1] or step[3] or ""
        for step in _STEP.finditer(match[2])
    ]
    if match[1] != "header":
        return _body_path(match[1] == "item", steps)
    if len(steps) != 1 or isinstance(steps[0], int):
        raise ValueError("must name one header, as $header.webhook-id does")
    name = steps[0].lower()
    return lambda delivery: delivery.headers.get(name, UNSET)


def _body_path(is_item: bool, steps: Sequence[str | int]) -> Expression:
    def select(delivery: Delivery) -> Any:
        value = delivery.item if is_item else delivery.body
        for step in steps:
            try:
                # Lists have no names, and objects here have no numbers.
                value = value[step] if type(value) in (dict, list) else UNSET
            except (LookupError, TypeError):
                return UNSET
        return value

    return select


def _template(text: str) -> Expression:
    """Parse text with paths in braces; UNSET if one of their values is missing."""
    parts = _PLACEHOLDER.split(text)  # text and path in turn
    if "{" in "".join(parts[::2]) or "}" in "".join(parts[::2]):
        raise ValueError("has a brace without its counterpart")
    literals, paths = parts[::2], [read_path(part) for part in parts[1::2]]

    def made(delivery: Delivery) -> Any:
        values = [_as_text(path(delivery)) for path in paths]
        if None in values:
            return UNSET
        return literals[0] + "".join(
            f"{value}{literal}"
            for value, literal in zip(values, literals[1:], strict=True)
        )

    return made


def read_text(value: Any) -> Expression:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be text, a path, or text with paths in {braces}")
    if value.startswith("$"):
        return read_path(value)
    return _template(value) if "{" in value or "}" in value else constant(value)


def read_varying(value: Any) -> Expression:
    if not isinstance(value, str) or "$" not in value:
        raise ValueError(
            "must contain a path that begins with $: with a fixed value all events"
            " would be the same one"
        )
    return read_text(value)


def read_value(value: Any) -> Expression:
    if isinstance(value, dict):
        return constant(value["value"])
    if not isinstance(value, str) or not (value.startswith("$") or "{" in value):
        raise ValueError("must be a path, or {value: …} for a fixed value")
    return read_text(value)


def constant(value: Any) -> Expression:
    return lambda _: value


def item_of(delivery: Delivery) -> Any:
    return delivery.item


def numbered(expression: Expression) -> Expression:
    """Make the request's id unique per member by adding its place in the list."""

    def made(delivery: Delivery) -> Any:
        text = _as_text(expression(delivery))
        if text is None or delivery.place is None:
            return text
        return f"{text}:{delivery.place}"

    return made


def _as_text(value: Any) -> str | None:
    return None if value is UNSET else as_text(value)
