"""Reads YAML configuration files and reports faults with file and line."""

import math
import re
from collections.abc import Collection, Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec
import yaml

from connectors.errors import ConfigError

__all__ = ["ConfigFile", "nearest"]

_Model = TypeVar("_Model", bound=msgspec.Struct)
_WHERE = re.compile(r" - at `\$(.*)`$")
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")


class _AsJson(yaml.SafeLoader):
    """Reads YAML as JSON values: a date stays the text that was written."""


_AsJson.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in forms if tag != "tag:yaml.org,2002:timestamp"]
    for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def nearest(name: str, known: Collection[str]) -> str:
    """Return ` Did you mean …?` with the closest match, or nothing if none is close."""
    near = get_close_matches(name, known, n=1)
    return f" Did you mean `{near[0]}`?" if near else ""


class ConfigFile:
    """One YAML file: its `content`, and the line of every entry.

    With `as_json` only JSON values are allowed, and dates are read as text.

    Raises:
        ConfigError: the file is not valid YAML, or repeats a key.
    """

    def __init__(self, path: Path, *, as_json: bool = False) -> None:
        self.path = path
        loader = _AsJson if as_json else yaml.SafeLoader
        try:
            text = path.read_text(encoding="utf-8")
            self.content: Any = yaml.load(text, Loader=loader)
            self._root = yaml.compose(text, Loader=loader)
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            mark = getattr(error, "problem_mark", None)
            line = "" if mark is None else f", line {mark.line + 1}"
            raise ConfigError(
                f"{path}{line}: not readable as YAML ({type(error).__name__})."
            ) from error
        faults = [
            f"{path}, line {key.start_mark.line + 1}: `{key.value}` is set twice;"
            " remove one."
            for key in _repeated(self._root)
        ]
        if as_json:
            faults += (
                f"{self.place(*keys)}: {reason}."
                for keys, reason in _non_json(self.content, ())
            )
        if faults:
            raise ConfigError("\n".join(faults))

    def line(self, keys: Iterable[str | int]) -> int:
        """Return the line of the entry at `keys`, else of its nearest ancestor."""
        node, line = self._root, 1
        for key in keys:
            if isinstance(node, yaml.MappingNode):
                for name, value in node.value:
                    if name.value == str(key):
                        node, line = value, name.start_mark.line + 1
                        break
                else:
                    break
            elif (
                isinstance(node, yaml.SequenceNode)
                and isinstance(key, int)
                and key < len(node.value)
            ):
                node = node.value[key]
                line = node.start_mark.line + 1
            else:
                break
        return line

    def place(self, *keys: str | int) -> str:
        """Return `path, line N`, the beginning of a message."""
        return f"{self.path}, line {self.line(keys)}"

    def unknown(self, known: Collection[str], *keys: str | int) -> str:
        """Return the message for a key not in `known`; suggests the closest match."""
        allowed = ", ".join(sorted(known))
        return (
            f"{self.place(*keys)}: `{keys[-1]}` is not a key here; allowed are: "
            f"{allowed}.{nearest(str(keys[-1]), known)}"
        )

    def read(
        self, model: type[_Model], value: Any, faults: list[str], *keys: str | int
    ) -> _Model | None:
        """Convert the `value` at `keys` to a model.

        Returns None if that fails, and adds one fault per key to `faults`.
        """
        fields = {field.encode_name: field for field in msgspec.structs.fields(model)}
        if not isinstance(value, dict):
            allowed = ", ".join(sorted(fields))
            faults.append(f"{self.place(*keys)}: must be a mapping with: {allowed}.")
            return None
        count_before = len(faults)
        for key in value:
            if key not in fields:
                faults.append(self.unknown(fields, *keys, key))
        fields_read: dict[str, Any] = {}
        for key, field in fields.items():
            if key in value:
                try:
                    fields_read[field.name] = msgspec.convert(value[key], field.type)
                except msgspec.ValidationError as error:
                    steps, message = _explain(error, field.type)
                    place = self.place(*keys, key, *steps)
                    name = ".".join(str(step) for step in (key, *steps))
                    faults.append(f"{place}: `{name}`: {message}.")
            elif field.required:
                faults.append(f"{self.place(*keys)}: `{key}` is missing.")
        return model(**fields_read) if len(faults) == count_before else None


def _explain(
    error: msgspec.ValidationError, expected: Any
) -> tuple[list[str | int], str]:
    """Return the error's path below its key, and the message."""
    text = str(error)
    where = _WHERE.search(text)
    steps: list[str | int] = [
        int(index) if index else name
        for name, index in (_STEP.findall(where[1]) if where else ())
    ]
    if get_origin(expected) is Literal:
        return steps, f"must be one of: {', '.join(get_args(expected))}"
    return steps, text[: where.start()] if where else text


def _repeated(node: yaml.Node | None) -> Iterator[yaml.ScalarNode]:
    """Yield keys repeated within one mapping; YAML would keep the last."""
    if isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _repeated(value)
    elif isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    yield key
                seen.add(key.value)
            yield from _repeated(value)


def _non_json(
    value: Any, keys: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if isinstance(value, dict):
        for key, member in value.items():
            if isinstance(key, str):
                yield from _non_json(member, (*keys, key))
            else:
                yield keys, f"the key {key!r} is not text; put it in quotes"
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from _non_json(member, (*keys, index))
    elif isinstance(value, float) and not math.isfinite(value):
        yield keys, "JSON has no such number"
    elif not (value is None or isinstance(value, str | int | float)):
        yield keys, f"JSON has no {type(value).__name__}; put it in quotes"
