"""Contracts: the schema of an event's properties, one YAML file each.

They live in `connectors/events/contracts/*.yml`; docs/rules.md describes every key. A
contract's examples are its tests, run every time the file is read.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any, Literal

import jsonschema_rs
import msgspec

from connectors.config_files import ConfigFile
from connectors.events.canonical import Event
from connectors.events.decisions import NotAdmitted
from connectors.events.naming import event_name

__all__ = ["Contract", "OnViolation", "Versions", "read_contract"]

OnViolation = Literal["block", "quarantine", "flag", "drop_property"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_STRICT = jsonschema_rs.Draft202012Validator(
    # JSON Schema ignores a keyword it does not know: `requierd` would require nothing.
    {
        "$schema": _DIALECT,
        "$id": "urn:loomline:contract",
        "$dynamicAnchor": "meta",  # subschemas are checked like the whole
        "$ref": _DIALECT,
        "patternProperties": {"^x-": True},
        "unevaluatedProperties": False,
    },
    offline=True,
)
# Listing every error takes 5 µs each, and an error holds its value: larger properties
# (JSON text) are checked one error at a time.
_MAX_BYTES = 16_384
_MAX_ROUNDS = 20  # of dropping properties
_MAX_LISTED = 20
_MAX_PATH = 200  # characters: the sender chooses the names of properties
_encode = msgspec.json.encode
_NO_PROPERTIES: dict[str, Any] = {}


class _Refused(msgspec.Struct, forbid_unknown_fields=True):
    properties: Any
    because: str


class _Examples(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    accepted: list[Any] = []
    refused: list[_Refused] = []


class _File(msgspec.Struct, forbid_unknown_fields=True):
    event: Annotated[str, msgspec.Meta(min_length=1)]
    schema: dict[str, Any]
    version: Annotated[int, msgspec.Meta(ge=1)] = 1
    consent: list[str] = []
    on_violation: OnViolation = "quarantine"
    retention_days: Annotated[int, msgspec.Meta(ge=1)] | None = None
    examples: _Examples = _Examples()


@dataclass(frozen=True, slots=True)
class Contract:
    """One version of an event's contract."""

    event: str
    version: int
    consent: tuple[str, ...]  # categories the person must have granted
    on_violation: OnViolation
    retention_days: int | None
    schema: dict[str, Any]
    validator: jsonschema_rs.Draft202012Validator

    @property
    def name(self) -> str:
        return f"contract {self.event} v{self.version}"

    def decide(self, event: Event) -> NotAdmitted | None:
        """Return why the event may not pass, else None after listing its violations."""
        properties = event.properties
        if properties is None:
            properties = _NO_PROPERTIES
        if self.validator.is_valid(properties):
            return None
        if self.on_violation == "drop_property" and type(properties) is dict:
            return self._dropping(event, properties)
        failures = self.failures(properties)
        match self.on_violation:
            case "block":
                return NotAdmitted("rejected", self._reason(failures))
            case "quarantine":
                return NotAdmitted("quarantined", self._reason(failures))
        self._list(event, map(str, failures))
        return None

    def _dropping(self, event: Event, properties: dict[str, Any]) -> NotAdmitted | None:
        """Remove the offending properties; list the violations that remain."""
        listed: dict[str, None] = {}
        dropped: set[str] = set()
        for _ in range(_MAX_ROUNDS):
            failures = self.failures(properties)
            owners = {failure.owner for failure in failures} & properties.keys()
            for failure in failures:
                if failure.owner not in dropped:
                    suffix = " (dropped)" if failure.owner in owners else ""
                    listed[f"{failure}{suffix}"] = None
            if not owners:
                break
            dropped |= owners
            properties = {k: v for k, v in properties.items() if k not in owners}
            if self.validator.is_valid(properties):
                break
        else:
            return NotAdmitted("quarantined", self._reason(failures))
        if dropped:
            event.properties = properties
        self._list(event, listed)
        return None

    def _list(self, event: Event, failures: Iterable[str]) -> None:
        texts = dict.fromkeys(f"{self.name}: {failure}" for failure in failures)
        event.violations = [*event.violations, *islice(texts, _MAX_LISTED)]

    def failures(self, properties: Any) -> list["Failure"]:
        """Return the failures of properties; of large ones only the first."""
        if len(_encode(properties)) <= _MAX_BYTES:
            errors = self.validator.iter_errors(properties)
            return [failure for error in errors for failure in _failures(error)]
        try:
            self.validator.validate(properties)
        except jsonschema_rs.ValidationError as error:
            return _failures(error)
        return []

    def _reason(self, failures: Sequence["Failure"]) -> str:
        listed = list(dict.fromkeys(map(str, failures)))
        more = f"; {len(listed) - _MAX_LISTED} more" if listed[_MAX_LISTED:] else ""
        return f"{self.name}: {'; '.join(listed[:_MAX_LISTED])}{more}"


@dataclass(frozen=True, slots=True)
class Failure:
    """One property that breaks its contract, without its value."""

    path: tuple[str | int, ...]
    keyword: str

    @property
    def owner(self) -> str:
        """The top-level property it is in; empty if it concerns all of them."""
        return str(self.path[0]) if self.path else ""

    def __str__(self) -> str:
        parts = ("[]" if type(step) is int else f".{step}" for step in self.path)
        path = "".join(parts).removeprefix(".") or "properties"
        return f"{path[:_MAX_PATH]}: {self.keyword}"


def _failures(error: jsonschema_rs.ValidationError) -> list[Failure]:
    path, keyword = tuple(error.instance_path), error.kind.name
    match error.kind:
        case jsonschema_rs.ValidationErrorKind.Required(property=name):
            return [Failure((*path, str(name)), keyword)]
        case (
            jsonschema_rs.ValidationErrorKind.AdditionalProperties(unexpected=names)
            | jsonschema_rs.ValidationErrorKind.UnevaluatedProperties(unexpected=names)
        ):
            return [Failure((*path, name), keyword) for name in names]
    return [Failure(path, keyword)]


class Versions:
    """The contracts of one event."""

    def __init__(self, contracts: Iterable[Contract]) -> None:
        self._by_version = {contract.version: contract for contract in contracts}
        self.highest = self._by_version[max(self._by_version)]

    def of(self, event: Event) -> tuple[Contract, bool]:
        """Return the contract for an event, and whether it is the requested version.

        Events request one with `context.protocols.event_version`.
        """
        context = event.context
        protocols = context.get("protocols") if type(context) is dict else None
        if type(protocols) is not dict:
            return self.highest, True
        asked: Any = protocols.get("event_version")
        if asked is None:
            return self.highest, True
        if type(asked) is str and asked.isascii() and asked.isdigit():
            asked = int(asked) if len(asked) < 10 else None
        is_number = isinstance(asked, int | float) and type(asked) is not bool
        contract = self._by_version.get(asked) if is_number else None
        return (self.highest, False) if contract is None else (contract, True)


def read_contract(file: ConfigFile, faults: list[str]) -> Contract | None:
    """Return the contract in a file; None, with `faults` added, if it has none."""
    content = file.read(_File, file.content, faults)
    if content is None:
        return None
    dialect = content.schema.get("$schema", _DIALECT)
    if dialect != _DIALECT:
        faults.append(
            f"{file.place('schema', '$schema')}: contracts are JSON Schema 2020-12;"
            f" write {_DIALECT} or leave it out."
        )
        return None
    flaws = list(_flaws(file, content.schema))
    if flaws:
        faults += flaws
        return None
    try:
        validator = jsonschema_rs.Draft202012Validator(
            content.schema,
            validate_formats=True,
            ignore_unknown_formats=False,
            offline=True,  # a contract stands alone in its file: nothing is fetched
        )
    except ValueError as error:
        faults.append(_flaw(file, [], error))
        return None
    contract = Contract(
        event=event_name(content.event),
        version=content.version,
        consent=tuple(dict.fromkeys(content.consent)),
        on_violation=content.on_violation,
        retention_days=content.retention_days,
        schema=content.schema,
        validator=validator,
    )
    faults += _failed_examples(file, contract, content.examples)
    return contract


def _flaws(file: ConfigFile, schema: dict[str, Any]) -> Iterator[str]:
    """Yield everything in the schema that is not valid JSON Schema."""
    errors = list(_STRICT.iter_errors(schema))
    paths = [error.instance_path for error in errors]
    for error in errors:
        match error.kind:
            case jsonschema_rs.ValidationErrorKind.UnevaluatedProperties(
                unexpected=names
            ):
                for name in names:
                    path = [*error.instance_path, name]
                    # A keyword whose value is wrong counts as unknown, too.
                    if not any(other[: len(path)] == path for other in paths):
                        yield (
                            f"{file.place('schema', *path)}: `{name}` is not a keyword"
                            " of JSON Schema 2020-12; your own names begin with `x-`."
                        )
            case _:
                yield _flaw(file, error.instance_path, error)


def _flaw(file: ConfigFile, path: Sequence[str | int], error: ValueError) -> str:
    what = str(error).partition("\n")[0].removesuffix(".")
    return f"{file.place('schema', *path)}: not valid JSON Schema: {what}."


def _failed_examples(
    file: ConfigFile, contract: Contract, examples: _Examples
) -> Iterator[str]:
    """Yield a message for each example that does not hold."""
    for index, properties in enumerate(examples.accepted):
        failures = contract.failures(properties)
        if failures:
            what = "; ".join(dict.fromkeys(map(str, failures)))
            place = file.place("examples", "accepted", index)
            yield f"{place}: this example is refused ({what}); fix it or the schema."
    for index, refused in enumerate(examples.refused):
        failures = contract.failures(refused.properties)
        place = file.place("examples", "refused", index)
        if not failures:
            yield f"{place}: this example is accepted; fix it or the schema."
        elif all(
            refused.because not in (failure.owner, str(failure).rpartition(": ")[0])
            for failure in failures
        ):
            what = "; ".join(dict.fromkeys(map(str, failures)))
            yield (
                f"{place}: this example is refused, but not because of"
                f" `{refused.because}` ({what})."
            )
