"""Webhooks of other systems become calls, as `connectors/sources/webhooks/` says.

`<source>.yml` tells how the sender signs and what its payloads mean; adding a sender is
adding that file. `docs/inbound.md` describes it, with the paths that lead to a value:

    $                    the payload            $.data.items[0]['a name']
    $item                the member of `each` of which the event is made, else as $
    $header.x-event      a header of the request
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from connectors.errors import ConfigError
from connectors.events.canonical import TYPES
from connectors.events.decode import Undecodable, decode_item
from connectors.events.naming import as_text
from connectors.sources.mapping_files import Section, choice, read_folder
from connectors.sources.signatures import (
    SCHEMES,
    TIMED,
    Scheme,
    Signature,
    read_secrets,
)

__all__ = [
    "MAX_MEMBERS",
    "InboundWebhooks",
    "UnknownWebhook",
]

MAX_MADE_BYTES = 20 << 20
MAX_MEMBERS = 10_000
"""Most events of one payload: each may hold all of it, which multiplies its size."""

_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")
_STEP = re.compile(r"\.([^.\[\]{}\s]+)|\[(-?\d+)\]|\['([^']*)'\]")
_PATH = re.compile(rf"\$(item|header)?((?:{_STEP.pattern})*)")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")

# Key in a file → key of a call; what each may be is in `_fields`.
_TEXTS = {"event": "event", "name": "name", "group_type": "groupType"}
_VARYING = {
    "message_id": "messageId",
    "user_id": "userId",
    "anonymous_id": "anonymousId",
    "previous_id": "previousId",
    "group_id": "groupId",
    "timestamp": "timestamp",
}
_OBJECTS = {"properties": "properties", "traits": "traits", "context": "context"}
_KEYS = {"type": "type", **_TEXTS, **_VARYING, **_OBJECTS}


class UnknownWebhook(LookupError):
    """There is no file for this source."""


class _Delivery(NamedTuple):
    """One request; with `each`, as it is seen from one member of the list."""

    body: Any
    headers: Mapping[str, str]
    item: Any
    place: int | None = None  # of the member in the list


_Expression = Callable[[_Delivery], Any]
"""Where a value comes from; UNSET is what is not there, unlike null."""

_Conditions = Sequence[tuple[_Expression, Sequence[Any]]]
"""Each value is one of those beside it."""


@dataclass(frozen=True, slots=True)
class _EventMapping:
    """Which payloads become which call."""

    match: _Conditions
    fields: Mapping[str, _Expression]

    def call(self, delivery: _Delivery) -> dict[str, Any]:
        made = {key: value(delivery) for key, value in self.fields.items()}
        # Present even if null: with it a call is taken as what it says it is.
        return {"messageId": None} | {k: v for k, v in made.items() if v is not UNSET}


@dataclass(frozen=True, slots=True)
class _Webhook:
    """One file."""

    signature: Signature
    each: _Expression | None
    ignore: Sequence[_Conditions]
    mappings: Sequence[_EventMapping]  # the first that matches makes the event

    def calls(self, delivery: _Delivery) -> list[Any]:
        members = UNSET if self.each is None else self.each(delivery)
        if type(members) is not list:
            return self._call(delivery)
        if len(members) > MAX_MEMBERS:
            raise Undecodable("too_many_members")
        calls = []
        made_bytes = 0
        for place, item in enumerate(members):
            for call in self._call(delivery._replace(item=item, place=place)):
                # What a mapping takes from beside the list is there once a member.
                made_bytes += len(msgspec.json.encode(call))
                if made_bytes > MAX_MADE_BYTES:
                    raise Undecodable("too_large_once_mapped")
                calls.append(call)
        return calls

    def _call(self, delivery: _Delivery) -> list[Any]:
        if any(_hold(conditions, delivery) for conditions in self.ignore):
            return []
        for mapping in self.mappings:
            if _hold(mapping.match, delivery):
                return [mapping.call(delivery)]
        return []


class InboundWebhooks:
    """All senders that are configured."""

    def __init__(
        self, webhooks: Mapping[str, _Webhook], off: Mapping[str, str] | None = None
    ) -> None:
        self._webhooks = webhooks
        self.off = off or {}
        """Sources whose optional secret is not set, with its variable."""

    @classmethod
    def load(
        cls, project: Path, env: Mapping[str, str] = os.environ
    ) -> "InboundWebhooks":
        """From the files below the project folder; none is fine.

        Raises:
            ConfigError: lists every fault of every file with its line, every variable
                that is missing, and every example that does not hold.
        """
        faults: list[str] = []
        off: dict[str, str] = {}
        folder = project / "connectors" / "sources" / "webhooks"
        webhooks = {
            name: _webhook(name, section, env, faults, off)
            for name, section in read_folder(folder, faults)
        }
        if faults:
            raise ConfigError("\n".join(faults))
        return cls({n: one for n, one in webhooks.items() if n not in off}, off)

    def receive(
        self, source: str, headers: Mapping[str, str], body: bytes, now_s: float
    ) -> list[Any]:
        """The calls of one request; none when the file says to ignore it.

        Header names are in small letters, `now_s` is in seconds since 1970.

        Raises:
            UnknownWebhook: no file for this source.
            BadSignature: not signed by the sender; nothing of it was looked at.
            Undecodable: no JSON, or more than MAX_MEMBERS events.
        """
        webhook = self._webhooks.get(source)
        if webhook is None:
            raise UnknownWebhook
        webhook.signature.check(headers, body, now_s)
        payload = decode_item(body)
        return webhook.calls(_Delivery(payload, headers, payload))


def _webhook(
    source: str,
    section: Section,
    env: Mapping[str, str],
    faults: list[str],
    off: dict[str, str],
) -> _Webhook:
    before = len(faults)
    signature = _signature(section, env)
    if signature is None:
        off[source] = section.content["signature"]["secret_env"]
        signature = _UNSIGNED  # of what receives nothing: for its examples alone
    each = section.take("each", _path, None)
    unmatched = section.take("unmatched", choice("event", "ignore"), "event")
    ignore = [_conditions(member) for member in section.members("ignore")]
    base = _fields(section, each is not None)
    received = f"{source}_webhook_received"
    mappings = []
    for member in section.members("mappings"):
        match = _conditions(member.inner("match")) if member.has("match") else ()
        fields = {**base, **_fields(member, each is not None)}
        mappings.append(_EventMapping(match, _completed(fields, received)))
        member.end()
    if not section.has("mappings"):
        mappings = [_EventMapping((), _completed(base, received))]
    elif unmatched == "event":
        own = ("type", "event", "properties", "traits")
        rest = {key: value for key, value in base.items() if key not in own}
        mappings.append(_EventMapping((), _completed(rest, received)))
    webhook = _Webhook(signature, each, ignore, mappings)
    examples = section.members("examples")
    section.end()
    for example in examples if len(faults) == before else []:
        _try(example, webhook)
    return webhook


_UNSIGNED = Signature("none")


def _signature(section: Section, env: Mapping[str, str]) -> Signature | None:
    """How the sender signs; None if its secret is optional and not set."""
    if not section.has("signature"):
        section.fault(
            "needs the key `signature`; {scheme: none} takes what anybody sends"
        )
        return _UNSIGNED
    own = section.inner("signature")
    scheme: Scheme | None = own.take("scheme", choice(*SCHEMES), None)
    if "scheme" not in own.content:
        own.fault(f"needs the key `scheme`, one of: {', '.join(SCHEMES)}")
    if scheme is None:
        return _UNSIGNED
    if scheme == "none":
        own.end()
        return _UNSIGNED
    variable = own.take("secret_env", _variable, "")
    tolerance_s = own.take("tolerance_s", _seconds, 300.0) if scheme in TIMED else 0
    is_optional = own.take("optional", _flag, False)
    own.end()
    if "secret_env" not in own.content:
        own.fault("needs the key `secret_env`, the name of a variable")
    if not variable:
        return _UNSIGNED
    secrets: tuple[bytes, ...] = ()
    try:
        secrets = read_secrets(scheme, env.get(variable, ""))
        if not secrets and is_optional:
            return None
        if not secrets:
            own.fault(f"the variable {variable} is not set", "secret_env")
    except ValueError as error:
        own.fault(f"the variable {variable}: {error}", "secret_env")
    return Signature(scheme, secrets, tolerance_s)


def _fields(section: Section, has_each: bool) -> dict[str, _Expression]:
    """What a mapping says of its call, or the file of all its calls."""
    found: dict[str, _Expression | None] = {"type": section.take("type", _type, None)}
    for key, name in _TEXTS.items():
        found[name] = section.take(key, _text, None)
    for key, name in _VARYING.items():
        found[name] = section.take(key, _varying, None)
    for key, name in _OBJECTS.items():
        is_object = isinstance(section.content.get(key), dict)
        found[name] = (
            _object(section.inner(key)) if is_object else section.take(key, _path, None)
        )
    message_id = found["messageId"]
    if has_each and message_id and "$item" not in section.content["message_id"]:
        found["messageId"] = _numbered(message_id)
    return {name: value for name, value in found.items() if value is not None}


def _completed(
    fields: Mapping[str, _Expression], received: str
) -> dict[str, _Expression]:
    """With what a call needs and the file does not say."""
    typed = {"type": _constant("track"), **fields}
    if typed["type"](_Delivery(None, {}, None)) != "track":
        return typed
    return {"event": _constant(received), "properties": _item, **typed}


def _object(section: Section) -> _Expression:
    members = {}
    for key, value in section.content.items():
        is_inner = isinstance(value, dict) and value.keys() != {"value"}
        members[str(key)] = (
            _object(section.inner(key))
            if is_inner
            else section.take(key, _value, _constant(None))
        )

    def made(delivery: _Delivery) -> Any:
        given = {key: value(delivery) for key, value in members.items()}
        found = {key: value for key, value in given.items() if value is not UNSET}
        return found if found or not members else UNSET

    return made


def _conditions(section: Section) -> _Conditions:
    conditions = []
    for key in section.content:
        try:
            path = _path(key)
        except ValueError as error:
            section.fault(str(error), str(key))
            continue
        value = section.take(key, _anything, None)
        conditions.append((path, value if isinstance(value, list) else [value]))
    return conditions


def _hold(conditions: _Conditions, delivery: _Delivery) -> bool:
    for path, allowed in conditions:
        found = path(delivery)
        if not any(_same(None if found is UNSET else found, one) for one in allowed):
            return False
    return True


def _same(value: Any, other: Any) -> bool:
    # In Python True is 1.
    return value == other and (type(value) is bool) == (type(other) is bool)


def _path(value: Any) -> _Expression:
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


def _body_path(is_item: bool, steps: Sequence[str | int]) -> _Expression:
    def found(delivery: _Delivery) -> Any:
        value = delivery.item if is_item else delivery.body
        for step in steps:
            try:
                # A list has no names, and an object here no numbers.
                value = value[step] if type(value) in (dict, list) else UNSET
            except (LookupError, TypeError):
                return UNSET
        return value

    return found


def _template(text: str) -> _Expression:
    """Text with paths in braces; not there when one of their values is not."""
    parts = _PLACEHOLDER.split(text)  # text and path in turn
    if "{" in "".join(parts[::2]) or "}" in "".join(parts[::2]):
        raise ValueError("has a brace without its other half")
    literals, paths = parts[::2], [_path(part) for part in parts[1::2]]

    def made(delivery: _Delivery) -> Any:
        values = [_as_text(path(delivery)) for path in paths]
        if None in values:
            return UNSET
        return literals[0] + "".join(
            f"{value}{literal}"
            for value, literal in zip(values, literals[1:], strict=True)
        )

    return made


def _text(value: Any) -> _Expression:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be text, a path, or text with paths in {braces}")
    if value.startswith("$"):
        return _path(value)
    return _template(value) if "{" in value or "}" in value else _constant(value)


def _varying(value: Any) -> _Expression:
    if not isinstance(value, str) or "$" not in value:
        raise ValueError(
            "must hold a path that begins with $: a fixed value would make one"
            " of all events"
        )
    return _text(value)


def _value(value: Any) -> _Expression:
    if isinstance(value, dict):
        return _constant(value["value"])
    if not isinstance(value, str) or not (value.startswith("$") or "{" in value):
        raise ValueError("must be a path, or {value: …} for the same in each event")
    return _text(value)


def _constant(value: Any) -> _Expression:
    return lambda _: value


def _item(delivery: _Delivery) -> Any:
    return delivery.item


def _numbered(expression: _Expression) -> _Expression:
    """An id of the request, made one of each member's by its place in the list."""

    def made(delivery: _Delivery) -> Any:
        text = _as_text(expression(delivery))
        if text is None or delivery.place is None:
            return text
        return f"{text}:{delivery.place}"

    return made


def _as_text(value: Any) -> str | None:
    return None if value is UNSET else as_text(value)


def _type(value: Any) -> _Expression:
    return _constant(choice(*TYPES)(value))


def _variable(value: Any) -> str:
    # Upper case only, so that a secret pasted in place of its name is refused.
    if not isinstance(value, str) or not _VARIABLE.fullmatch(value):
        raise ValueError("must be the name of a variable: A to Z, 0 to 9 and _")
    return value


def _seconds(value: Any) -> float:
    if type(value) not in (int, float) or not 0 < value < 1e9:
        raise ValueError("must be a number of seconds above 0")
    return float(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _anything(value: Any) -> Any:
    return value


def _try(example: Section, webhook: _Webhook) -> None:
    """Run an example; what differs from what it says is a fault at its line."""
    body = example.take("body", _anything, None)
    given = example.inner("headers").content if example.has("headers") else {}
    headers = {str(name).lower(): str(value) for name, value in given.items()}
    expected = example.members("events")
    if not (example.has("body") and example.has("events")):
        example.fault("needs the keys `body` and `events`")
    made = webhook.calls(_Delivery(body, headers, body))
    if len(made) != len(expected):
        example.fault(f"lists {len(expected)} events, but {len(made)} are made")
    for event, call in zip(expected, made, strict=False):
        for key, name in _KEYS.items():
            said, found = event.take(key, _anything, None), call.get(name)
            if event.has(key) and said != found:
                event.fault(f"is not what is made{_where(said, found)}", key)
        event.end()
    example.end()


def _where(said: Any, made: Any) -> str:
    """The first member in which two objects differ; names only, no values."""
    if type(said) is not dict or type(made) is not dict:
        return ""
    both = sorted(said.keys() | made.keys())
    return next(
        (f": see `{k}`" for k in both if said.get(k, UNSET) != made.get(k, UNSET)), ""
    )
