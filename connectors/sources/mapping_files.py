"""Reads mapping files of webhooks and forms; reports each fault with its line."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from connectors.config_files import ConfigFile
from connectors.errors import ConfigError

__all__ = ["Section", "choice", "read_folder", "variable"]

T = TypeVar("T")

_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")


class Section:
    """A mapping in a file, read key by key; faults are added to `faults`."""

    def __init__(
        self, file: ConfigFile, content: Any, faults: list[str], *keys: str | int
    ) -> None:
        self._file = file
        self._keys = keys
        self._faults = faults
        self._taken: dict[str, None] = {}
        self.content: dict[Any, Any] = content if isinstance(content, dict) else {}
        if not isinstance(content, dict):
            self.fault("must be a mapping")

    def fault(self, text: str, *keys: str | int) -> None:
        path = (*self._keys, *keys)
        what = f"`{'.'.join(map(str, path))}` " if path else ""
        self._faults.append(f"{self._file.place(*path)}: {what}{text}.")

    def has(self, key: str) -> bool:
        self._taken[key] = None
        return key in self.content

    def take(self, key: str, parse: Callable[[Any], T], default: T) -> T:
        """Return `parse` of a key's value; its ValueError becomes a fault."""
        if not self.has(key):
            return default
        try:
            return parse(self.content[key])
        except ValueError as error:
            self.fault(str(error), key)
            return default

    def inner(self, key: str) -> "Section":
        self._taken[key] = None
        return Section(
            self._file, self.content.get(key), self._faults, *self._keys, key
        )

    def members(self, key: str) -> "list[Section]":
        """Return the mappings in a list; none if the key is absent."""
        self._taken[key] = None
        members = self.content.get(key, [])
        if not isinstance(members, list):
            self.fault("must be a list", key)
            return []
        return [
            Section(self._file, member, self._faults, *self._keys, key, index)
            for index, member in enumerate(members)
        ]

    def end(self) -> None:
        """Report every key that was not read."""
        for key in self.content:
            if key not in self._taken:
                allowed = ", ".join(self._taken)
                self.fault(f"is not a key here; allowed are: {allowed}", str(key))


def read_folder(folder: Path, faults: list[str]) -> Iterator[tuple[str, Section]]:
    """Yield name and content of each file; unreadable files are added to `faults`."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.suffix not in (".yml", ".yaml") or path.name.startswith("."):
            continue
        if path.suffix == ".yaml" or not _NAME.fullmatch(path.stem):
            faults.append(
                f"{path}: must be named <name>.yml; a name is lower case letters,"
                " digits, _ and -, and begins with a letter."
            )
            continue
        try:
            file = ConfigFile(path, as_json=True)
        except ConfigError as error:
            faults.append(str(error))
        else:
            yield path.stem, Section(file, file.content, faults)


def choice(*allowed: str) -> Callable[[Any], Any]:
    """Return a parser that accepts one of these words."""

    def parse(value: Any) -> Any:
        if value not in allowed:
            raise ValueError(f"must be one of: {', '.join(allowed)}")
        return value

    return parse


def variable(value: Any) -> str:
    """Return the name of an environment variable.

    Raises:
        ValueError: not one in upper case, such as a secret pasted instead of its name.
    """
    if not isinstance(value, str) or not _VARIABLE.fullmatch(value):
        raise ValueError(
            "must be the name of an environment variable: A to Z, 0 to 9 and _"
        )
    return value
