"""Transformations: changes to an event at admission, one YAML file each.

They live in `connectors/events/transformations/*.yml`; docs/rules.md describes every
key. A transformation's examples are its tests, run every time the file is read.
"""

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from connectors.config_files import ConfigFile
from connectors.events import operations
from connectors.events.canonical import Event, EventType
from connectors.events.decisions import NotAdmitted
from connectors.events.lookups import Known, Lookup, Table, Url
from connectors.events.naming import as_text, event_name
from connectors.events.operations import OBJECTS, TEXTS, Kind, Operation, Place

__all__ = ["Phase", "Transformation", "read_transformation"]

Phase = Literal["before_contract", "after_contract"]

_ASKED: Any = msgspec.UNSET  # call services instead of using an example's answer
_encode_sorted = msgspec.json.Encoder(order="sorted").encode

_Several = str | list[str]
_Values = dict[str, Any]


class _Match(msgspec.Struct, forbid_unknown_fields=True):
    event: _Several | None = None
    source: _Several | None = None
    type: EventType | list[EventType] | None = None


class _Example(msgspec.Struct, forbid_unknown_fields=True):
    input: _Values = msgspec.field(name="in")
    out: _Values | None
    answer: Any = None  # of the service, which is not called


class _File(msgspec.Struct, forbid_unknown_fields=True):
    do: list[Any]
    match: _Values = {}
    phase: Phase = "after_contract"
    examples: list[Any] = []


class _Lookup(msgspec.Struct, forbid_unknown_fields=True):
    key: str
    take: dict[str, str]
    table: str | None = None
    key_column: str | None = None
    url: str | None = None
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=30)] = 0.5
    cache_s: Annotated[float, msgspec.Meta(ge=0)] = 3600
    headers_env: dict[str, str] = {}
    fallback: _Values = {}


class _Call(msgspec.Struct, forbid_unknown_fields=True):
    module: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    function: str


@dataclass(frozen=True, slots=True)
class Transformation:
    """One file: the events it alters, and the operations."""

    name: str
    phase: Phase
    order: int  # among all files
    events: frozenset[str] | None  # None: all
    sources: frozenset[str] | None
    types: frozenset[str] | None
    operations: tuple[Operation, ...]
    waits: bool  # may call a service over the network
    renames: bool  # may rename the event

    def matches(self, source: str, type: str, event: str | None) -> bool:
        return (
            (self.events is None or event in self.events)
            and (self.sources is None or source in self.sources)
            and (self.types is None or type in self.types)
        )

    def apply(self, event: Event) -> NotAdmitted | None:
        """Alter a matching event; return an outcome if it is not admitted."""
        for operation in self.operations:
            outcome = operation(event)
            if outcome is not None:
                return outcome
        return None


class _Reader:
    """Compiles the operations of one file."""

    def __init__(
        self, file: ConfigFile, project: Path, env: Mapping[str, str], answer: Any
    ) -> None:
        self.file = file
        self.name = file.path.stem
        self.faults: list[str] = []
        self.waits = False
        self.renames = False
        self._project = project
        self._env = env
        self._answer = answer  # _ASKED: call the services
        self._makers: dict[str, tuple[Any, Callable[[Any], Iterator[Operation]]]] = {
            "rename": (dict[str, str], self._renames),
            "cast": (dict[str, Kind], self._casts),
            "set": (_Values, self._sets),
            "remove": (list[str], self._removes),
            "hash": (list[str], self._hashes),
            "lookup": (_Values, self._lookups),
            "drop_if": (_Values, self._drops),
            "call": (_Values, self._calls),
        }

    def operations(self, do: Sequence[Any]) -> tuple[Operation, ...]:
        """Return all operations in order, without the faulty ones."""
        compiled: list[Operation] = []
        for index, step in enumerate(do):
            self._keys: tuple[str | int, ...] = ("do", index)
            if not isinstance(step, dict) or len(step) != 1:
                self._fault("an entry of `do` must be one operation and its arguments")
                continue
            ((what, arguments),) = step.items()
            if what not in self._makers:
                self._fault(f"`{what}` is not one of: {', '.join(self._makers)}")
                continue
            self._keys = ("do", index, what)
            form, make = self._makers[what]
            try:
                compiled += make(msgspec.convert(arguments, form))
            except ValueError as error:  # also msgspec's
                self._fault(f"`{what}`: {str(error).partition(' - at ')[0]}")
        return tuple(compiled)

    def _fault(self, text: str, *keys: str | int) -> None:
        place = self.file.place(*self._keys, *keys)
        self.faults.append(f"{place}: {text.removesuffix('.')}.")

    def _target(self, text: str) -> Place:
        """Return a place to set."""
        path = Place(text)
        self.renames |= path.root == "event"
        return path

    def _source(self, text: str) -> Place:
        """Return a place whose value is removed."""
        path = Place(text)
        if path.root == "event":
            raise ValueError("an event must keep its name; `set` another one")
        return path

    def _renames(self, targets: dict[str, str]) -> Iterator[Operation]:
        for source, target in targets.items():
            yield operations.rename(self._source(source), self._target(target))

    def _casts(self, kinds: dict[str, Kind]) -> Iterator[Operation]:
        for text, kind in kinds.items():
            path = Place(text)
            if path.root in TEXTS:
                raise ValueError(f"`{text}` is always text")
            yield operations.cast(path, kind)

    def _sets(self, values: _Values) -> Iterator[Operation]:
        for text, value in values.items():
            path = self._target(text)
            if path.root == "event" and as_text(value) is None:
                raise ValueError("an event must have a name")
            yield operations.set_(path, value)

    def _removes(self, places: list[str]) -> Iterator[Operation]:
        return (operations.remove(self._source(text)) for text in places)

    def _hashes(self, places: list[str]) -> Iterator[Operation]:
        return (operations.hash_(self._source(text)) for text in places)

    def _drops(self, conditions: _Values) -> Iterator[Operation]:
        if not conditions:
            raise ValueError("has no condition and would drop every event")
        wanted = [(Place(text), value) for text, value in conditions.items()]
        yield operations.drop_if(wanted, self.name)

    def _lookups(self, options: _Values) -> Iterator[Operation]:
        spec = self.file.read(_Lookup, options, self.faults, *self._keys)
        if spec is None:
            return
        columns = list(spec.take)
        targets = [self._target(text) for text in spec.take.values()]
        fallback = [
            (self._target(text), value) for text, value in spec.fallback.items()
        ]
        lookup = self._lookup(spec, columns)
        if lookup is not None:
            self.waits |= lookup.waits
            yield operations.look_up(
                lookup, Place(spec.key), targets, fallback, self.name
            )

    def _lookup(self, spec: _Lookup, columns: list[str]) -> Lookup | None:
        if (spec.table is None) is (spec.url is None):
            self._fault("a lookup must have either a `table` or a `url`")
            return None
        if spec.table is not None:
            path = (self._project / spec.table).resolve()
            try:
                if not path.is_relative_to(self._project.resolve()):
                    raise ValueError("is outside the project")
                return Table(path, spec.key_column, columns)
            except ValueError as error:
                self._fault(f"{spec.table}: {error}", "table")
                return None
        missing = [
            name for name in spec.headers_env.values() if not self._env.get(name)
        ]
        for name in missing:
            self._fault(f"the environment variable {name} is not set", "headers_env")
        if missing or spec.url is None:
            return None
        if self._answer is not _ASKED:
            return Known(self._answer, columns)
        headers = {key: self._env[name] for key, name in spec.headers_env.items()}
        return Url(
            spec.url,
            columns,
            timeout_s=spec.timeout_s,
            cache_s=spec.cache_s,
            headers=headers,
        )

    def _calls(self, options: _Values) -> Iterator[Operation]:
        spec = self.file.read(_Call, options, self.faults, *self._keys)
        if spec is None:
            return
        path = self.file.path.with_name(f"{spec.module}.py")
        module_spec = importlib.util.spec_from_file_location(spec.module, path)
        assert module_spec is not None and module_spec.loader is not None
        module = importlib.util.module_from_spec(module_spec)
        try:
            module_spec.loader.exec_module(module)
        except Exception as error:  # noqa: BLE001, it is the user's code
            self._fault(f"{path.name} cannot be loaded ({type(error).__name__})")
            return
        function = getattr(module, spec.function, None)
        if not callable(function):
            self._fault(f"{path.name} has no function `{spec.function}`")
            return
        self.renames = True
        yield operations.call(function, self.name)


def read_transformation(
    file: ConfigFile,
    faults: list[str],
    *,
    order: int,
    project: Path,
    env: Mapping[str, str],
) -> Transformation | None:
    """Return the transformation in a file; None, with `faults` added, if it has none.

    Runs its examples, without calling any service.
    """
    content = file.read(_File, file.content, faults)
    if content is None:
        return None
    match = file.read(_Match, content.match, faults, "match")
    reader = _Reader(file, project, env, _ASKED)
    steps = reader.operations(content.do)
    faults += reader.faults
    if match is None or reader.faults:
        return None
    events, sources, types = (
        [values] if isinstance(values, str) else values
        for values in (match.event, match.source, match.type)
    )
    transformation = Transformation(
        name=reader.name,
        phase=content.phase,
        order=order,
        events=None if events is None else frozenset(map(event_name, events)),
        sources=None if sources is None else frozenset(sources),
        types=None if types is None else frozenset(types),
        operations=steps,
        waits=reader.waits,
        renames=reader.renames,
    )
    # Fields an example leaves out take the values the transformation matches.
    asked = {"event": events, "source": sources, "type": types}
    default = {key: values[0] for key, values in asked.items() if values}
    for index, raw in enumerate(content.examples):
        keys = ("examples", index)
        example = file.read(_Example, raw, faults, *keys)
        if example is None:
            continue
        tried = transformation
        if transformation.waits:
            answered = _Reader(file, project, env, example.answer)
            tried = replace(transformation, operations=answered.operations(content.do))
        fault = _failure(tried, example, default)
        if fault:
            faults.append(f"{file.place(*keys)}: {fault}.")
    return transformation


def _failure(
    transformation: Transformation, example: _Example, default: _Values
) -> str | None:
    """Return why an example does not hold; None if it does."""
    out = example.out
    for keys, more in ((example.input, ()), (out or {}, ("violations",))):
        unknown = keys.keys() - {"type", "source", *TEXTS, *OBJECTS, *more}
        if unknown:
            return f"`{min(unknown)}` is not a field an example can set"
    event = _event({**default, **example.input})
    outcome = None
    if transformation.matches(event.source, event.type, event.event):
        outcome = transformation.apply(event)
    if outcome is not None and outcome.disposition != "dropped":
        return outcome.reason
    if (out is None) is not (outcome is not None):
        return f"this event is {'not ' if outcome is None else ''}dropped"
    for key, expected in (out or {}).items():
        actual = _encode_sorted(getattr(event, key))
        if actual != _encode_sorted(expected):
            return f"`{key}` becomes {actual.decode()}"
    return None


def _event(values: _Values) -> Event:
    """Return the event of an example."""
    kind, source = values.get("type", "track"), values.get("source", "example")
    text = as_text(values.get("event")) if kind == "track" else None
    fields: _Values = {name: as_text(values.get(name)) for name in TEXTS}
    fields |= {name: values.get(name) for name in OBJECTS}
    fields |= {"event": event_name(text) if text else None, "event_text": text}
    fields |= {"type": kind, "source": source, "scope": source, "channel": "file"}
    fields |= dict.fromkeys(("message_id", "content_hash", "row_hash"), "")
    return Event(**fields, timestamp=0, received_at=0)
