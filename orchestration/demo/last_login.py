"""A naive baseline for identity: the last login owns the device."""

import gzip
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from orchestration.demo.forms_and_webhooks import Request
from orchestration.demo.truth import Identifier

__all__ = ["last_user_wins", "read_lines"]


class _Fields(msgspec.Struct, gc=False):
    """Fields of all wire formats for contacts and anonymous ids."""

    email: str | None = None
    phone: str | None = None
    set_: "_Fields | None" = msgspec.field(default=None, name="$set")
    system_email: str | None = msgspec.field(default=None, name="$email")
    system_user_id: str | None = msgspec.field(default=None, name="$user_id")
    anon: str | None = msgspec.field(default=None, name="$anon_distinct_id")
    device: str | None = msgspec.field(default=None, name="$device_id")


class _Call(msgspec.Struct, gc=False, rename="camel"):
    received_at: str
    user_id: str | None = None
    anonymous_id: str | None = None
    traits: _Fields | None = None
    properties: _Fields | None = None
    backend_user_id: str | None = msgspec.field(default=None, name="user_id")
    distinct_id: str | None = msgspec.field(default=None, name="distinct_id")


def read_lines(folder: Path) -> Iterator[bytes]:
    """Yield the lines of a generated folder, slice 1 first."""
    for number in (1, 2):
        plain = folder / f"slice-{number}.ndjson"
        if plain.exists():
            with plain.open("rb") as lines:
                yield from lines
        else:
            with gzip.open(folder / f"slice-{number}.ndjson.gz", "rb") as lines:
                yield from lines


def _ids(call: _Call) -> tuple[str | None, str | None, list[Identifier]]:
    """Return user id, anonymous id, and email address and phone of a call."""
    fields = call.traits or call.properties or _Fields()
    user = call.user_id or call.backend_user_id
    anonymous = call.anonymous_id
    email, phone = fields.email or fields.system_email, fields.phone
    if call.distinct_id is not None:
        if fields.system_user_id:
            user, anonymous = fields.system_user_id, call.distinct_id
        elif fields.anon:
            user, anonymous = call.distinct_id, fields.anon
        elif fields.device == call.distinct_id:
            anonymous = call.distinct_id
        if fields.set_ is not None:
            email, phone = fields.set_.email, fields.set_.phone
    contacts = []
    if email:
        contacts.append(("email", email.strip().lower()))
    if phone:
        contacts.append(("phone", "+" + "".join(filter(str.isdigit, phone))))
    return user, anonymous, contacts


def last_user_wins(
    lines: Iterable[bytes], requests: Iterable[Request] = ()
) -> dict[Identifier, str]:
    """Assign each device to its last user id, and join equal email addresses.

    No placeholders, hub rule or limits, like many first models. Returns an assignment
    for `truth.score`.
    """
    decoder = msgspec.json.Decoder(_Call)
    owner: dict[str, tuple[str, str]] = {}
    pairs: set[tuple[Identifier, Identifier]] = set()
    parent: dict[Identifier, Identifier] = {}

    def find(value: Identifier) -> Identifier:
        root = parent.setdefault(value, value)
        while root != parent[root]:
            root = parent[root]
        while parent[value] != root:
            parent[value], value = root, parent[value]
        return root

    for line in lines:
        call = decoder.decode(line)
        user, anonymous, contacts = _ids(call)
        if anonymous:
            find(("anonymous_id", anonymous))
            if user:
                seen = (call.received_at, user)
                owner[anonymous] = max(owner.get(anonymous, seen), seen)
        if user:
            find(("user_id", user))
        if user:
            pairs.update((("user_id", user), contact) for contact in contacts)
        elif anonymous:
            pairs.update((("anonymous_id", anonymous), one) for one in contacts)
    for request in requests:
        pairs.update((request.reveals[0], other) for other in request.reveals[1:])
    for anonymous, (_, user) in owner.items():
        pairs.add((("user_id", user), ("anonymous_id", anonymous)))
    for left, right in sorted(pairs):
        parent[find(left)] = find(right)
    return {value: ":".join(find(value)) for value in list(parent)}
