"""Values that clients send instead of an identifier: `null`, `anonymous`, `0`.

`seeds/blocked_identifiers.csv` lists them; the models read the same file and exclude
such values from identity.
"""

import csv
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from connectors.errors import ConfigError
from connectors.events.canonical import Identifier

__all__ = ["Placeholders"]

_EVERY_TYPE = "*"


class Placeholders:
    """The table of blocked identifiers, compiled; a container of identifiers."""

    def __init__(self, rows: Iterable[Mapping[str, str]] = ()) -> None:
        self._exact: set[tuple[str, str]] = set()
        self._in_any_case: set[tuple[str, str]] = set()
        self._patterns: list[tuple[str, re.Pattern[str]]] = []
        for row in rows:
            type_, value = row["identifier_type"], row["value"]
            match row["match"]:
                case "exact":
                    self._exact.add((type_, value))
                case "casefold":
                    self._in_any_case.add((type_, value.lower()))
                case "regex":
                    self._patterns.append((type_, re.compile(value)))
                case other:
                    raise KeyError(other)

    @classmethod
    def load(cls, project: Path) -> "Placeholders":
        """Read `seeds/blocked_identifiers.csv` below the project folder.

        Raises:
            ConfigError: the file is missing or has an invalid row.
        """
        path = project / "seeds" / "blocked_identifiers.csv"
        try:
            with path.open(newline="", encoding="utf-8") as file:
                return cls(csv.DictReader(file))
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}; restore the file.") from error
        except KeyError as error:
            raise ConfigError(
                f"{path}: {error} is missing or unknown; the columns are "
                "identifier_type, value and match, which is exact, casefold or regex."
            ) from error
        except re.error as error:
            raise ConfigError(
                f"{path}: {error.pattern!r} is not a valid pattern ({error}); fix it."
            ) from error

    def __contains__(self, identifier: Identifier) -> bool:
        value = identifier.value.strip("\"' ")  # clients also send them quoted
        types = (_EVERY_TYPE, identifier.type)
        return any(
            (type_, value) in self._exact or (type_, value.lower()) in self._in_any_case
            for type_ in types
        ) or any(
            type_ in types and pattern.search(value)
            for type_, pattern in self._patterns
        )
