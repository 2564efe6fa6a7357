"""Reads an event's identifiers, normalized at admission by the rules in the seeds.

`seeds/identifier_types.csv` lists the types, where each is read from and how it is
normalized; the models read the same file for classes and limits.
"""

import csv
import hashlib
import re
from collections.abc import Callable
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import phonenumbers

from connectors.errors import ConfigError
from connectors.events.canonical import Event, Identifier
from connectors.events.naming import as_text

__all__ = [
    "LONGEST_VALUE",
    "MENTIONED",
    "MOST_IDENTIFIERS",
    "PERSONLESS",
    "RULE_VERSION",
    "IdentifierRules",
]

RULE_VERSION = 2
"""Increase it whenever a normalization below changes its results."""

MOST_IDENTIFIERS = 100
"""Identifiers per event that count, in the order of the places they are read from. A
run compares the identifiers of a message in pairs."""

LONGEST_VALUE = 1_024
"""Characters of an identifier. A longer one is replaced with its digest, which keeps it
out of the identity joins; the event keeps the original value."""

PERSONLESS = "personless_id"
"""Type of the ids of an event with `$process_person_profile: false`: it belongs to no
profile, not even to a known one with these ids."""

MENTIONED = "mentioned_id"
"""Type of an id sent with a group's description: it belongs to the profile that other
events know by it, otherwise to none. PostHog's server SDKs invent such ids."""

_PHONE_LENGTH = 64  # with spaces, brackets and an extension; longer is not a number
_EMAIL_LENGTH = 320  # RFC 3696, section 3
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


def _trim(value: str) -> str | None:
    return value.strip() or None


def _email(value: str) -> str | None:
    value = value.strip().lower()
    is_address = len(value) <= _EMAIL_LENGTH and _EMAIL.fullmatch(value)
    return value if is_address else None


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


class _Place(NamedTuple):
    """One place an identifier type is read from."""

    name: str  # of the member that holds it
    type: str
    rank: int  # 0 for the first place of its type
    rule: Rule


_ValueRead = tuple[str, int, Rule, Any]
"""A value read from an event: type, rank of its place, rule, value."""


class IdentifierRules:
    """The table of identifier types, compiled."""

    def __init__(self, rows: list[dict[str, str]]) -> None:
        # Grouped by where a value is read from: most events lack most places.
        self._fields: list[_Place] = []  # of the event itself
        self._system: list[_Place] = []  # `$` fields
        self._traits: list[_Place] = []  # of the person
        self._context_traits: list[_Place] = []
        self._once: list[_Place] = []  # traits set once
        self._context: dict[str, list[tuple[tuple[str, ...], _Place]]] = {}
        self.strong = frozenset(
            r["identifier_type"] for r in rows if r["class"] == "strong"
        )
        for row in rows:
            rule = _NORMALISE[row["normalisation"]]
            for rank, path in enumerate(row["read_from"].split("|")):
                self._add(path.strip(), row["identifier_type"], rank, rule)
        for type_ in ("distinct_id", "previous_id"):
            self._fields.append(_Place(type_, type_, 0, _trim))
        self._values_of = attrgetter(*(place.name for place in self._fields))
        last = max(len(row["read_from"].split("|")) for row in rows)
        self._once = [
            place._replace(rank=place.rank + last)
            for place in (*self._system, *self._traits)
        ]

    @classmethod
    def load(cls, project: Path) -> "IdentifierRules":
        """Read `seeds/identifier_types.csv` below the project folder.

        Raises:
            ConfigError: the file is missing or names an unknown normalization.
        """
        path = project / "seeds" / "identifier_types.csv"
        try:
            with path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            if not rows:
                raise ConfigError(f"{path}: no identifier types; restore the file")
            return cls(rows)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}; restore the file") from error
        except KeyError as error:
            raise ConfigError(f"{path}: {error} is missing or unknown") from error

    def of(self, event: Event) -> list[Identifier]:
        """Return every identifier of the event once, each type from its first place.

        `distinct_id` and `previous_id` keep their own names: only the whole history, in
        SQL, tells whether they are a user id or a cookie. So do PERSONLESS and
        MENTIONED, which mark an event without a person and make no profile. Members of
        lists come last, so that too many of them displace no other identifier.
        """
        context = event.context
        if type(context) is dict and "posthog" in context:
            posthog = context["posthog"]
            if type(posthog) is dict:
                mentioned = as_text(posthog.get("$distinct_id"))
                wants_profile = posthog.get("$process_person_profile")
                if wants_profile in (False, "false", "False"):
                    return _personless(event, mentioned)
                if mentioned is not None and event.type == "group":
                    return _without(mentioned, self.carried(event)) or [
                        Identifier(MENTIONED, _bounded(mentioned), RULE_VERSION)
                    ]
        return self.carried(event)

    def carried(self, event: Event) -> list[Identifier]:
        """Return every identifier of the event, even if it belongs to no profile."""
        values_read: list[_ValueRead] = []
        values = self._values_of(event)
        for value, (_, type_, rank, rule) in zip(values, self._fields, strict=True):
            if value is not None:
                values_read.append((type_, rank, rule, value))
        context, traits = event.context, event.traits
        # The traits of a group call are the group's, and so are their `$` fields; the
        # `$` fields of other calls' properties describe the event.
        if event.type != "group" and type(traits) is dict:
            _read(values_read, traits, self._system)
            _read(values_read, traits, self._traits)
            if "$set_once" in traits:  # may be set already: ranks after the others
                _read(values_read, traits["$set_once"], self._once)
        if event.type == "identify":
            _read(values_read, event.properties, self._system)
        if type(context) is dict:
            if "traits" in context:
                _read(values_read, context["traits"], self._context_traits)
            listed: list[_ValueRead] = []
            for first, places in self._context.items():
                if first in context:
                    for path, (_, type_, rank, rule) in places:
                        value = _at(context[first], path)
                        if isinstance(value, list):
                            members = (m for m in value if isinstance(m, dict))
                            ids = map(_external_id, members)
                            listed += ((type_, rank, rule, id_) for id_ in ids)
                        else:
                            values_read.append((type_, rank, rule, value))
            values_read += listed
        return _normalised(values_read)

    def _add(self, path: str, type_: str, rank: int, rule: Rule) -> None:
        match path.split("."):
            case [name] if name.startswith("$"):
                self._system.append(_Place(name, type_, rank, rule))
            case ["traits", name]:
                self._traits.append(_Place(name, type_, rank, rule))
            case ["context", "traits", name]:
                self._context_traits.append(_Place(name, type_, rank, rule))
            case ["context", first, *rest]:
                place = _Place(first, type_, rank, rule)
                self._context.setdefault(first, []).append((tuple(rest), place))
            case [name] if name in Event.__struct_fields__:
                self._fields.append(_Place(name, type_, rank, rule))
            case _:
                raise KeyError(path)


def _read(values_read: list[_ValueRead], owner: Any, places: list[_Place]) -> None:
    if type(owner) is dict:
        for name, type_, rank, rule in places:
            if name in owner:
                values_read.append((type_, rank, rule, owner[name]))


def _without(mentioned: str, identifiers: list[Identifier]) -> list[Identifier]:
    value = _bounded(mentioned.strip())
    return [
        identifier
        for identifier in identifiers
        if identifier.type != "distinct_id" or identifier.value != value
    ]


def _personless(event: Event, mentioned: str | None) -> list[Identifier]:
    """Return the ids of an event that its sender keeps apart from profiles."""
    ids = (event.distinct_id, event.user_id, event.anonymous_id, mentioned)
    return [
        Identifier(PERSONLESS, _bounded(id_), RULE_VERSION)
        for id_ in dict.fromkeys(ids)
        if id_ is not None
    ]


def _normalised(values_read: list[_ValueRead]) -> list[Identifier]:
    kept: dict[tuple[str, str], Identifier] = {}
    ranks: dict[str, int] = {}
    for type_, rank, rule, value in values_read:
        if type(value) is not str:
            if type(value) not in (int, float):
                continue
            value = str(value)
        text = rule(value)
        if text is None:
            continue
        text = _bounded(text)
        best = ranks.get(type_)
        if best is None or rank < best:
            ranks[type_] = rank
            if best is not None:
                kept = {key: one for key, one in kept.items() if key[0] != type_}
        elif rank > best:
            continue
        kept[type_, text] = Identifier(type_, text, RULE_VERSION)
    return list(kept.values())


def _bounded(text: str) -> str:
    """Return the value, or its digest if it is too long."""
    if len(text) <= LONGEST_VALUE:
        return text
    return "sha256:" + hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def _external_id(member: dict[str, Any]) -> str | None:
    """Return the id in `{"id", "type"}`."""
    value, type_ = as_text(member.get("id")), as_text(member.get("type"))
    return f"{type_}:{value}" if value and type_ else value
