"""Identifiers an event carries, normalised at the door by the rules in the seeds.

Which kinds exist, where each is read from and how it is normalised stands in
`seeds/identifier_types.csv`; the models read the same file for classes and limits.
"""

import csv
import re
from collections.abc import Callable
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from typing import Any

import phonenumbers

from connectors.errors import ConfigError
from connectors.events.canonical import Event, Identifier
from connectors.events.naming import as_text

__all__ = ["RULE_VERSION", "IdentifierRules"]

RULE_VERSION = 1
"""Raised whenever a normalisation below gives other values than before."""

_PHONE_LENGTH = 64  # with blanks, brackets and an extension; longer is no number
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


def _trim(value: str) -> str | None:
    return value.strip() or None


def _email(value: str) -> str | None:
    value = value.strip().lower()
    return value if _EMAIL.fullmatch(value) else None


def _e164(value: str) -> str | None:
    return _parsed_e164(value) if len(value) <= _PHONE_LENGTH else None


@lru_cache(maxsize=65_536)
def _parsed_e164(value: str) -> str | None:
    try:
        number = phonenumbers.parse(value, None)  # without a country: only +…
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(number):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


_NORMALISE: dict[str, Callable[[str], str | None]] = {
    "trim": _trim,
    "email": _email,
    "e164": _e164,
}


Rule = Callable[[str], str | None]


class IdentifierRules:
    """The table of identifier kinds, compiled."""

    def __init__(self, rows: list[dict[str, str]]) -> None:
        # Sorted by where a value is read from: most events lack most places.
        self._fields: list[tuple[str, str, Rule]] = []  # of the event itself
        self._system: list[tuple[str, str, Rule]] = []  # `$` fields
        self._traits: list[tuple[str, str, Rule]] = []  # of the person
        self._context: dict[str, list[tuple[tuple[str, ...], str, Rule]]] = {}
        self.strong = frozenset(r["kind"] for r in rows if r["class"] == "strong")
        for row in rows:
            for path in row["read_from"].split("|"):
                self._add(path.strip(), row["kind"], _NORMALISE[row["normalisation"]])
        for kind in ("distinct_id", "previous_id"):
            self._fields.append((kind, kind, _trim))
        self._values_of = attrgetter(*(name for name, _, _ in self._fields))

    @classmethod
    def load(cls, project: Path) -> "IdentifierRules":
        """From `seeds/identifier_types.csv` below the project folder.

        Raises:
            ConfigError: the file is missing or names an unknown normalisation.
        """
        path = project / "seeds" / "identifier_types.csv"
        try:
            with path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            if not rows:
                raise ConfigError(f"{path}: names no identifier; restore the file")
            return cls(rows)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}; restore the file") from error
        except KeyError as error:
            raise ConfigError(f"{path}: {error} is missing or not known") from error

    def of(self, event: Event) -> list[Identifier]:
        """Every identifier of the event once.

        `distinct_id` and `previous_id` come under their own names: whether they are a
        user or a cookie is known only with the whole history, in SQL.
        """
        given: list[tuple[str, Rule, Any]] = []
        values = self._values_of(event)
        for value, (_, kind, rule) in zip(values, self._fields, strict=True):
            if value is not None:
                given.append((kind, rule, value))
        context, traits = event.context, event.traits
        for owner in (traits, event.properties):
            if type(owner) is dict:
                for name, kind, rule in self._system:
                    if name in owner:
                        given.append((kind, rule, owner[name]))
        # A group call's own traits are the group's: its e-mail is nobody's.
        if type(traits) is dict and event.type != "group":
            for name, kind, rule in self._traits:
                if name in traits:
                    given.append((kind, rule, traits[name]))
        if type(context) is dict:
            about = context.get("traits")
            if type(about) is dict:
                for name, kind, rule in self._traits:
                    if name in about:
                        given.append((kind, rule, about[name]))
            for first, paths in self._context.items():
                if first in context:
                    for path, kind, rule in paths:
                        for value in _walk(context[first], path):
                            given.append((kind, rule, value))
        return _normalised(given)

    def _add(self, path: str, kind: str, rule: Rule) -> None:
        match path.split("."):
            case [name] if name.startswith("$"):
                self._system.append((name, kind, rule))
            case ["traits", name] | ["context", "traits", name]:
                if (name, kind, rule) not in self._traits:
                    self._traits.append((name, kind, rule))
            case ["context", first, *rest]:
                self._context.setdefault(first, []).append((tuple(rest), kind, rule))
            case [name] if name in Event.__struct_fields__:
                self._fields.append((name, kind, rule))
            case _:
                raise KeyError(path)


def _normalised(given: list[tuple[str, Rule, Any]]) -> list[Identifier]:
    found: dict[tuple[str, str], Identifier] = {}
    for kind, rule, value in given:
        if type(value) is not str:
            if type(value) not in (int, float):
                continue
            value = str(value)
        text = rule(value)
        if text is not None:
            found[kind, text] = Identifier(kind, text, RULE_VERSION)
    return list(found.values())


def _walk(value: Any, path: tuple[str, ...]) -> list[Any]:
    for key in path:
        if not isinstance(value, dict):
            return []
        value = value.get(key)
    if isinstance(value, list):  # externalIds: [{"id", "type"}]
        return [_external_id(member) for member in value if isinstance(member, dict)]
    return [value]


def _external_id(member: dict[str, Any]) -> str | None:
    value, type_ = as_text(member.get("id")), as_text(member.get("type"))
    return f"{type_}:{value}" if value and type_ else value
