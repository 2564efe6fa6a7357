"""Converts webhooks of other systems to calls, configured in `sources/webhooks/`.

`<source>.yml` describes the sender's signature and how to map its payloads; to add a
sender, add its file. `docs/inbound.md` describes it.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET

from connectors.errors import ConfigError
from connectors.events.canonical import TYPES
from connectors.events.decode import Undecodable, decode_item
from connectors.sources.inbound_signatures import (
    SCHEMES,
    TIMED,
    Scheme,
    Signature,
    read_secrets,
)
from connectors.sources.mapping_expressions import (
    Delivery,
    Expression,
    constant,
    item_of,
    numbered,
    read_path,
    read_text,
    read_value,
    read_varying,
)
from connectors.sources.mapping_files import Section, choice, read_folder, variable

__all__ = [
    "MAX_MEMBERS",
    "InboundWebhooks",
    "UnknownWebhook",
]

MAX_MADE_BYTES = 20 << 20
MAX_MEMBERS = 10_000
"""Most events per payload: each may repeat all of it, which multiplies its size."""

_UNSIGNED = Signature("none")

# Key in a file → key of a call; `_fields` lists the allowed values.
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
    """No file configures this source."""


_Conditions = Sequence[tuple[Expression, Sequence[Any]]]
"""Each value must be one of those beside it."""


@dataclass(frozen=True, slots=True)
class _EventMapping:
    """The payloads to match, and the call they become."""

    match: _Conditions
    fields: Mapping[str, Expression]

    def call(self, delivery: Delivery) -> dict[str, Any]:
        made = {key: value(delivery) for key, value in self.fields.items()}
        # Present even if null: it marks the item as a call in Segment's shape.
        return {"messageId": None} | {k: v for k, v in made.items() if v is not UNSET}


@dataclass(frozen=True, slots=True)
class _Webhook:
    """One file."""

    signature: Signature
    each: Expression | None
    ignore: Sequence[_Conditions]
    mappings: Sequence[_EventMapping]  # the first match makes the event

    def calls(self, delivery: Delivery) -> list[Any]:
        members = UNSET if self.each is None else self.each(delivery)
        if type(members) is not list:
            return self._call(delivery)
        if len(members) > MAX_MEMBERS:
            raise Undecodable("too_many_members")
        calls = []
        made_bytes = 0
        for place, item in enumerate(members):
            for call in self._call(delivery._replace(item=item, place=place)):
                # Values from outside the list are repeated for every member.
                made_bytes += len(msgspec.json.encode(call))
                if made_bytes > MAX_MADE_BYTES:
                    raise Undecodable("too_large_once_mapped")
                calls.append(call)
        return calls

    def _call(self, delivery: Delivery) -> list[Any]:
        if any(_hold(conditions, delivery) for conditions in self.ignore):
            return []
        for mapping in self.mappings:
            if _hold(mapping.match, delivery):
                return [mapping.call(delivery)]
        return []


class InboundWebhooks:
    """All configured senders."""

    def __init__(
        self, webhooks: Mapping[str, _Webhook], off: Mapping[str, str] | None = None
    ) -> None:
        self._webhooks = webhooks
        self.off = off or {}
        """Source → environment variable of an optional secret that is not set."""

    @classmethod
    def load(
        cls, project: Path, env: Mapping[str, str] = os.environ
    ) -> "InboundWebhooks":
        """Read the files below the project folder; there may be none.

        Raises:
            ConfigError: lists every fault of every file with its line, every missing
                environment variable, and every example that does not hold.
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
        """Return the calls of one request; none if the file says to ignore it.

        Header names are in lower case, `now_s` is in seconds since 1970.

        Raises:
            UnknownWebhook: no file configures this source.
            BadSignature: not signed by the sender; the body was not read.
            Undecodable: not JSON, or more than MAX_MEMBERS events.
        """
        webhook = self._webhooks.get(source)
        if webhook is None:
            raise UnknownWebhook
        webhook.signature.check(headers, body, now_s)
        payload = decode_item(body)
        return webhook.calls(Delivery(payload, headers, payload))


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
        signature = _UNSIGNED  # `load` drops this webhook once its examples are run
    each = section.take("each", read_path, None)
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


def _signature(section: Section, env: Mapping[str, str]) -> Signature | None:
    """How the sender signs; None if its secret is optional and not set."""
    if not section.has("signature"):
        section.fault(
            "needs the key `signature`; {scheme: none} accepts unsigned requests"
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
    secret_env = own.take("secret_env", variable, "")
    tolerance_s = own.take("tolerance_s", _seconds, 300.0) if scheme in TIMED else 0
    is_optional = own.take("optional", _flag, False)
    own.end()
    if "secret_env" not in own.content:
        own.fault("needs the key `secret_env`, the name of an environment variable")
    if not secret_env:
        return _UNSIGNED
    secrets: tuple[bytes, ...] = ()
    try:
        secrets = read_secrets(scheme, env.get(secret_env, ""))
        if not secrets and is_optional:
            return None
        if not secrets:
            own.fault(f"the environment variable {secret_env} is not set", "secret_env")
    except ValueError as error:
        own.fault(f"the environment variable {secret_env}: {error}", "secret_env")
    return Signature(scheme, secrets, tolerance_s)


def _fields(section: Section, has_each: bool) -> dict[str, Expression]:
    """Return the expressions of a mapping, or those the file sets for all of them."""
    expressions: dict[str, Expression | None] = {
        "type": section.take("type", _type, None)
    }
    for key, name in _TEXTS.items():
        expressions[name] = section.take(key, read_text, None)
    for key, name in _VARYING.items():
        expressions[name] = section.take(key, read_varying, None)
    for key, name in _OBJECTS.items():
        is_object = isinstance(section.content.get(key), dict)
        expressions[name] = (
            _object(section.inner(key))
            if is_object
            else section.take(key, read_path, None)
        )
    message_id = expressions["messageId"]
    if has_each and message_id and "$item" not in section.content["message_id"]:
        expressions["messageId"] = numbered(message_id)
    return {name: value for name, value in expressions.items() if value is not None}


def _completed(
    fields: Mapping[str, Expression], received: str
) -> dict[str, Expression]:
    """Add the defaults of the fields a call needs."""
    typed = {"type": constant("track"), **fields}
    if typed["type"](Delivery(None, {}, None)) != "track":
        return typed
    return {"event": constant(received), "properties": item_of, **typed}


def _object(section: Section) -> Expression:
    members = {}
    for key, value in section.content.items():
        is_inner = isinstance(value, dict) and value.keys() != {"value"}
        members[str(key)] = (
            _object(section.inner(key))
            if is_inner
            else section.take(key, read_value, constant(None))
        )

    def made(delivery: Delivery) -> Any:
        values = {key: value(delivery) for key, value in members.items()}
        present = {key: value for key, value in values.items() if value is not UNSET}
        return present if present or not members else UNSET

    return made


def _conditions(section: Section) -> _Conditions:
    conditions = []
    for key in section.content:
        try:
            path = read_path(key)
        except ValueError as error:
            section.fault(str(error), str(key))
            continue
        value = section.take(key, _anything, None)
        conditions.append((path, value if isinstance(value, list) else [value]))
    return conditions


def _hold(conditions: _Conditions, delivery: Delivery) -> bool:
    for path, allowed in conditions:
        value = path(delivery)
        if not any(_same(None if value is UNSET else value, one) for one in allowed):
            return False
    return True


def _same(value: Any, other: Any) -> bool:
    # In Python True equals 1.
    return value == other and (type(value) is bool) == (type(other) is bool)


def _type(value: Any) -> Expression:
    return constant(choice(*TYPES)(value))


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
    """Run an example; each difference from its `events` is a fault at its line."""
    body = example.take("body", _anything, None)
    headers_sent = example.inner("headers").content if example.has("headers") else {}
    headers = {str(name).lower(): str(value) for name, value in headers_sent.items()}
    expected = example.members("events")
    if not (example.has("body") and example.has("events")):
        example.fault("needs the keys `body` and `events`")
    made = webhook.calls(Delivery(body, headers, body))
    if len(made) != len(expected):
        example.fault(f"lists {len(expected)} events, but gets {len(made)}")
    for event, call in zip(expected, made, strict=False):
        for key, name in _KEYS.items():
            expected_value, actual = event.take(key, _anything, None), call.get(name)
            if event.has(key) and expected_value != actual:
                event.fault(
                    f"differs from the result{_where(expected_value, actual)}", key
                )
        event.end()
    example.end()


def _where(expected: Any, actual: Any) -> str:
    """Name the first member in which two objects differ; no values."""
    if type(expected) is not dict or type(actual) is not dict:
        return ""
    both = sorted(expected.keys() | actual.keys())
    return next(
        (
            f": see `{k}`"
            for k in both
            if expected.get(k, UNSET) != actual.get(k, UNSET)
        ),
        "",
    )
