"""The compiled rules of a project, applied to an event between decode and its row.

The key's permissions, naming, consent, transformations before the contract, the
contract, transformations after it; in this order, for every channel.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from operator import attrgetter, is_
from pathlib import Path
from typing import Any

from connectors.config_files import ConfigFile
from connectors.errors import ConfigError
from connectors.events.canonical import TYPES, Event
from connectors.events.consent import ALWAYS_KEPT, denied, stated
from connectors.events.contract_rules import Contract, Versions, read_contract
from connectors.events.decisions import NotAdmitted
from connectors.events.naming import (
    as_text,
    event_name,
    in_convention,
    is_object_action,
)
from connectors.events.operations import OBJECTS, TEXTS
from connectors.events.policy import Policy
from connectors.events.transforming import Transformation, read_transformation

__all__ = ["Concern", "Rulebook"]

FOLDERS = ("connectors/events/contracts", "connectors/events/transformations")

_MAX_CACHED = 10_000  # kinds of events; senders choose their names
_MAX_NAME = 200  # characters of a name that is cached
_fields_of = attrgetter(*TEXTS, *OBJECTS)

_Key = tuple[int, str, str, str | None]


class Concern(IntEnum):
    """The rules' possible effect on a kind of event."""

    NONE = 0  # no effect, whatever the event's content
    QUICK = 1
    WAITS = 2  # may make a network call


@dataclass(frozen=True, slots=True)
class _Course:
    """The rules for events of one name."""

    before: tuple[Transformation, ...]
    contracts: Versions | None
    after: tuple[Transformation, ...]
    concern: Concern


@dataclass(frozen=True, slots=True)
class _Kind:
    """The rules' result for a kind of event, before seeing its content."""

    concern: Concern
    policy: Policy  # kept alive: its id is in the cache key
    outcome: NotAdmitted | None  # of every such event
    violations: tuple[str, ...]
    course: _Course
    contract: Contract | None  # if it is the only rule, and no version is requested


class Rulebook:
    """Contracts and transformations of one project.

    Thread-safe.
    """

    def __init__(
        self,
        contracts: Iterable[Contract] = (),
        transformations: Iterable[Transformation] = (),
    ) -> None:
        self.contracts = tuple(contracts)
        self.transformations = tuple(sorted(transformations, key=lambda t: t.order))
        by_event: dict[str, list[Contract]] = {}
        for contract in self.contracts:
            by_event.setdefault(contract.event, []).append(contract)
        self._versions = {
            name: Versions(versions) for name, versions in by_event.items()
        }
        self._kinds: dict[_Key, _Kind] = {}
        self._courses: dict[tuple[str, str, str | None], _Course] = {}

    @classmethod
    def load(cls, project: Path, env: Mapping[str, str] = os.environ) -> "Rulebook":
        """Read every file of the project and run its examples.

        Raises:
            ConfigError: lists every fault of every file.
        """
        faults: list[str] = []
        contracts: dict[tuple[str, int], Contract] = {}
        transformations = []
        for file in _files(project / FOLDERS[0], faults):
            contract = read_contract(file, faults)
            if contract is None:
                continue
            key = (contract.event, contract.version)
            if key in contracts:
                faults.append(
                    f"{file.place('version')}: another file already has"
                    f" {contract.name}; raise `version`."
                )
            contracts[key] = contract
        for order, file in enumerate(_files(project / FOLDERS[1], faults)):
            transformation = read_transformation(
                file, faults, order=order, project=project, env=env
            )
            if transformation is not None:
                transformations.append(transformation)
        if faults:
            raise ConfigError("\n".join(faults))
        return cls(contracts.values(), transformations)

    def concerns(
        self, policy: Policy, source: str, type: str, event_text: str | None
    ) -> Concern:
        """Return the possible effect on such events; NONE: `decide` can be skipped.

        `type` is one of `canonical.TYPES`; `event_text` matters for track events only.
        """
        try:
            return self._kinds[id(policy), source, type, event_text].concern
        except (KeyError, TypeError):  # TypeError: a list where a name should be
            return self._kind(policy, source, type, event_text).concern

    def keeps(
        self,
        policy: Policy,
        source: str,
        event_text: str,
        properties: Any,
        context: Any,
        *,
        gpc: bool = False,
    ) -> int | None:
        """Return the contract version a track event satisfies; None: call `decide`.

        For most events with a contract this replaces `decide` without an Event, in a
        third of the time.
        """
        kind = self._kinds.get((id(policy), source, "track", event_text))
        contract = kind.contract if kind else None
        if contract is None or (type(context) is dict and "protocols" in context):
            return None
        if contract.consent and denied(
            contract.consent,
            stated(context),
            context,
            no_consent=policy.no_consent,
            gpc=gpc,
        ):
            return None
        is_kept = contract.validator.is_valid({} if properties is None else properties)
        return contract.version if is_kept else None

    def decide(
        self,
        event: Event,
        policy: Policy,
        *,
        gpc: bool = False,
        applied: list[str] | None = None,
    ) -> NotAdmitted | None:
        """Return why an event is not admitted; None lets it pass, altered or not.

        `gpc` is set if the request carried `Sec-GPC: 1`. `applied` collects the names
        of the transformations that altered the event. Its fields are replaced with new
        values; the original values are never mutated.
        """
        text = event.event if event.event_text is None else event.event_text
        try:
            kind = self._kinds[id(policy), event.source, event.type, text]
        except KeyError:
            kind = self._kind(policy, event.source, event.type, text)
        if kind.concern == 0:
            return None
        if kind.outcome is not None:
            return kind.outcome
        if kind.violations:
            event.violations = [*event.violations, *kind.violations]
        return self._apply_rules(event, policy, kind.course, gpc, applied)

    def _apply_rules(
        self,
        event: Event,
        policy: Policy,
        course: _Course,
        gpc: bool,
        applied: list[str] | None,
    ) -> NotAdmitted | None:
        outcome = _consent(event, policy, course.contracts, gpc)
        if outcome is not None:
            return outcome
        if course.before:
            name = event.event
            outcome = self._transformed(event, course.before, applied)
            if outcome is not None:
                return outcome
            if event.event != name:  # the new name's consent is still to be checked
                course = self._course(event.source, event.type, event.event)
                outcome = _consent(event, policy, course.contracts, gpc)
                if outcome is not None:
                    return outcome
        outcome = _contract(event, policy, course.contracts)
        if outcome is not None or not course.after:
            return outcome
        name = event.event
        outcome = self._transformed(event, course.after, applied)
        if outcome is not None or event.event == name:
            return outcome
        course = self._course(event.source, event.type, event.event)
        outcome = _consent(event, policy, course.contracts, gpc)
        return outcome or _contract(event, policy, course.contracts)

    def _transformed(
        self,
        event: Event,
        steps: Sequence[Transformation],
        applied: list[str] | None,
    ) -> NotAdmitted | None:
        name = event.event
        for step in steps:
            if applied is None:
                outcome = step.apply(event)
            else:
                before = _fields_of(event)
                outcome = step.apply(event)
                if not all(map(is_, before, _fields_of(event))):
                    applied.append(step.name)
            if outcome is not None:
                return outcome
            if event.event != name:  # continue with those for the new name
                course = self._course(event.source, event.type, event.event)
                phase = (
                    course.before if step.phase == "before_contract" else course.after
                )
                rest = [other for other in phase if other.order > step.order]
                return self._transformed(event, rest, applied)
        return None

    def _kind(
        self, policy: Policy, source: str, type: str, event_text: object
    ) -> _Kind:
        """Compute and cache the rules' result for a kind of event."""
        is_track = type == "track" or type not in TYPES
        text = as_text(event_text) if is_track else None
        name = event_name(text) if text else None
        course = self._course(source, "track" if is_track else type, name)
        outcome = _permission(policy, type if type in TYPES else "track", name)
        violations: tuple[str, ...] = ()
        if outcome is None and text and name and name[:1] != "$":
            violations = _naming_faults(policy, text, name)
            if violations and policy.naming == "reject":
                outcome = NotAdmitted("rejected", violations[0])
        concern = course.concern
        if not concern and (
            outcome is not None
            or violations
            or (policy.no_consent == "require" and name != ALWAYS_KEPT)
            or (is_track and policy.unknown_events != "allow")
        ):
            concern = Concern.QUICK
        is_contract_all = not (
            course.before
            or course.after
            or outcome is not None
            or violations
            or policy.no_consent == "require"
        )
        versions = course.contracts if is_contract_all else None
        contract = versions.highest if versions else None
        kind = _Kind(concern, policy, outcome, violations, course, contract)
        if event_text is None or (
            isinstance(event_text, str) and len(event_text) <= _MAX_NAME
        ):
            if len(self._kinds) >= _MAX_CACHED:
                self._kinds.clear()
            self._kinds[id(policy), source, type, event_text] = kind
        return kind

    def _course(self, source: str, type: str, name: str | None) -> _Course:
        key = (source, type, name)
        course = self._courses.get(key)
        if course is not None:
            return course
        matching = [t for t in self.transformations if t.matches(*key)]
        before, after = (
            tuple(t for t in matching if t.phase == phase)
            for phase in ("before_contract", "after_contract")
        )
        contracts = self._versions.get(name) if type == "track" and name else None
        # A renamed event meets transformations that do not match it yet.
        reachable = (
            self.transformations if any(t.renames for t in matching) else matching
        )
        if any(t.waits for t in reachable):
            concern = Concern.WAITS
        elif matching or contracts:
            concern = Concern.QUICK
        else:
            concern = Concern.NONE
        course = _Course(before, contracts, after, concern)
        if name is None or len(name) <= _MAX_NAME:
            if len(self._courses) >= _MAX_CACHED:
                self._courses.clear()
            self._courses[key] = course
        return course


def _permission(policy: Policy, type: str, name: str | None) -> NotAdmitted | None:
    """Return why the key may not send such events. A named event implies its type."""
    if type == "track" and policy.events is not None:
        if name not in policy.events:
            return NotAdmitted("rejected", "event_not_allowed")
    elif policy.types is not None and type not in policy.types:
        return NotAdmitted("rejected", "type_not_allowed")
    return None


def _naming_faults(policy: Policy, text: str, name: str) -> tuple[str, ...]:
    """Return how a name, sent as `text`, breaks the key's conventions."""
    faults = []
    convention = policy.convention
    if convention is None and policy.naming == "reject":
        convention = "snake_case"
    if convention is not None and text != in_convention(name, convention):
        faults.append(f"event_name_not_{convention}")
    if policy.object_action and not is_object_action(name):
        faults.append("event_name_not_object_action")
    return tuple(faults)


def _consent(
    event: Event, policy: Policy, contracts: Versions | None, gpc: bool
) -> NotAdmitted | None:
    if event.event == ALWAYS_KEPT:
        return None
    if event.consent is None and policy.no_consent == "require":
        return NotAdmitted("consent_filtered", "consent_missing")
    required = contracts.of(event)[0].consent if contracts else ()
    if not required:
        return None
    refused = denied(
        required, event.consent, event.context, no_consent=policy.no_consent, gpc=gpc
    )
    if not refused:
        return None
    return NotAdmitted("consent_filtered", f"consent: {', '.join(refused)}")


def _contract(
    event: Event, policy: Policy, contracts: Versions | None
) -> NotAdmitted | None:
    if contracts is None:
        event.contract_version = None
        if event.type == "track" and policy.unknown_events != "allow":
            if policy.unknown_events == "quarantine":
                return NotAdmitted("quarantined", "no_contract")
            if "no_contract" not in event.violations:
                event.violations = [*event.violations, "no_contract"]
        return None
    contract, is_known = contracts.of(event)
    if not is_known:
        event.violations = [*event.violations, "contract_version_unknown"]
    event.contract_version = contract.version
    return contract.decide(event)


def _files(folder: Path, faults: list[str]) -> Iterator[ConfigFile]:
    """Yield a folder's YAML files by name; unreadable ones are added to `faults`."""
    for path in sorted(folder.glob("*.y*ml")) if folder.is_dir() else ():
        if path.suffix != ".yml":
            faults.append(f"{path}, line 1: rename it to {path.stem}.yml to be read.")
            continue
        try:
            yield ConfigFile(path, as_json=True)
        except ConfigError as error:
            faults.append(str(error))
