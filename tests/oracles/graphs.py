"""Random events whose identifiers meet in every way the identity rules speak of."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random
from typing import Any

from tests.oracles.identity import (
    Identifier,
    OracleEvent,
    Pair,
    read_identifier_types,
    resolve,
)

__all__ = ["never_links", "random_events", "to_call"]

START = datetime(2026, 5, 1, tzinfo=UTC)
PLACEHOLDERS = ("null", "None", "Undefined", "anonymous", "0", "-1", "00-00", '"null"')
COOKIE_LIMIT = read_identifier_types()["email"].max_weaker_links or 100
PLAIN_FIELDS = {
    "user_id": "userId",
    "anonymous_id": "anonymousId",
    "distinct_id": "distinctId",
    "previous_id": "previousId",
}

Carried = tuple[Identifier, ...]  # by one event


def random_events(
    seed: int, size: int, *, importable: bool = False
) -> list[OracleEvent]:
    """At least `size` events (up to some 110 more), the same for the same seed.

    No event carries two values of one type. Some message ids and many instants repeat.
    With `importable`, message ids are unique, as within one source, and every event
    has a user_id, anonymous_id or distinct_id, which admission may ask for.
    """
    rng = Random(seed)
    carried = _Scenarios(rng).draw(size)
    rng.shuffle(carried)
    instants = [
        START + timedelta(seconds=rng.randrange(size), microseconds=microseconds)
        for _ in range(max(1, size // 2))
        for microseconds in [rng.choice((0, 1, 500_000, 999_999))]
    ]
    numbers = rng.sample(range(len(carried)), len(carried))
    if not importable:
        numbers = [rng.choice(numbers) if rng.random() < 0.05 else n for n in numbers]
    ids = {"user_id", "anonymous_id", "distinct_id"}
    events = []
    for number, found in zip(numbers, carried, strict=True):
        if importable and ids.isdisjoint(
            identifier_type for identifier_type, _ in found
        ):
            found = (*found, ("anonymous_id", f"cookie-{rng.randrange(size)}"))
        # Half of the repeated message ids also repeat the instant.
        instant = instants[(number + rng.randrange(2)) % len(instants)]
        events.append(OracleEvent(f"m{number:06}", instant, found))
    return events


def never_links(
    seed: int, events: Sequence[OracleEvent], count: int, *, strong_only: bool = True
) -> frozenset[Pair]:
    """Up to `count` pairs of identifiers that are one person without these pairs."""
    rng = Random(seed)
    types = read_identifier_types()
    pairs = set()
    for profile in sorted(map(sorted, resolve(events).profiles())):
        members = [n for n in profile if types[n[0]].is_strong or not strong_only]
        if len(members) > 1:
            pairs.add(frozenset(rng.sample(members, 2)))
    return frozenset(rng.sample(sorted(pairs, key=sorted), min(count, len(pairs))))


def to_call(event: OracleEvent) -> dict[str, Any]:
    """The event as one line of `loomline import --format loomline`.

    Raises:
        ValueError: the event carries two values of one type, for which a call has no
            room.
    """
    values = dict(event.identifiers)
    if len(values) < len(event.identifiers):
        raise ValueError(f"{event.message_id} carries two values of one type.")
    instant = event.received_at.astimezone(UTC).isoformat(timespec="microseconds")
    instant = instant.replace("+00:00", "Z")
    call: dict[str, Any] = {
        "messageId": event.message_id,
        "type": "track",
        "event": "x",
        "receivedAt": instant,
        "timestamp": instant,
    }
    for identifier_type, field in PLAIN_FIELDS.items():
        if identifier_type in values:
            call[field] = values[identifier_type]
    traits = {
        identifier_type: values[identifier_type]
        for identifier_type in ("email", "phone")
        if identifier_type in values
    }
    context: dict[str, Any] = {}
    if "device_id" in values:
        context["device"] = {"id": values["device_id"]}
    if "fingerprint" in values:
        context["fingerprint"] = values["fingerprint"]
    if "external_id" in values:
        identifier_type, _, value = values["external_id"].partition(":")
        context["externalIds"] = [{"id": value, "type": identifier_type}]
    return call | {"traits": traits, "context": context}


class _Scenarios:
    """Each scenario returns the identifiers of a few events that tell one story."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._used: dict[str, list[str]] = {}

    def draw(self, size: int) -> list[Carried]:
        scenarios: tuple[Callable[[], Iterable[Carried]], ...] = (
            self.login,
            self.shared_contact,
            self.shared_tablet,
            self.chain_of_accounts,
            self.chain_of_contacts,
            self.known_later,
            self.renamed,
            self.weak_only,
            self.placeholder,
            self.small_cluster,
            self.small_cluster,
        )
        carried: list[Carried] = []
        if size >= 2 * COOKIE_LIMIT:
            carried += self.crowded_mailbox()
        while len(carried) < size:
            carried += self._rng.choice(scenarios)()
        return carried

    def login(self) -> list[Carried]:
        cookie, user, email = self._some("anonymous_id", "user_id", "email")
        return [(cookie,), (cookie, user), (cookie, user, email), (user,)]

    def shared_contact(self) -> list[Carried]:
        contact = self._one(self._rng.choice(("email", "phone", "external_id")))
        users = [self._one("user_id") for _ in range(self._rng.randint(2, 5))]
        cookies = [self._one("anonymous_id") for _ in range(self._rng.randint(0, 3))]
        return [(contact, other) for other in users + cookies]

    def shared_tablet(self) -> list[Carried]:
        tablet = self._one(self._rng.choice(("anonymous_id", "device_id")))
        people = [
            self._one(self._rng.choice(("user_id", "user_id", "email", "phone")))
            for _ in range(self._rng.randint(2, 4))
        ]
        return [(tablet, person) for person in people]

    def chain_of_accounts(self) -> list[Carried]:
        length = self._rng.randint(3, 10)
        return self._chain(
            "user_id" if n % 2 else self._rng.choice(("email", "phone"))
            for n in range(length)
        )

    def chain_of_contacts(self) -> list[Carried]:
        length = self._rng.randint(4, 16)
        return self._chain("email" if n % 2 else "phone" for n in range(length))

    def known_later(self) -> list[Carried]:
        user, other, cookie, email = self._some(
            "user_id", "user_id", "anonymous_id", "email"
        )
        distinct = ("distinct_id", user[1])
        return self._part(
            [
                (distinct,),
                (distinct, cookie),
                (distinct, ("anonymous_id", user[1])),
                (user, distinct),
                (distinct, email),
                (other, distinct),
            ]
        )

    def renamed(self) -> list[Carried]:
        new, old, user = self._some("distinct_id", "anonymous_id", "user_id")
        return self._part(
            [
                (new, ("previous_id", old[1])),
                (user, ("previous_id", old[1])),
                (user, ("previous_id", new[1])),
                (self._one("user_id"), ("previous_id", user[1])),
                (old,),
            ]
        )

    def weak_only(self) -> list[Carried]:
        types = ("anonymous_id", "device_id", "fingerprint")
        length = self._rng.randint(2, 7)
        offset = self._rng.randrange(3)
        chain = self._chain(types[(n + offset) % 3] for n in range(length))
        if self._rng.random() < 0.3:
            chain.append((chain[-1][-1], self._one("user_id")))
        return chain

    def placeholder(self) -> list[Carried]:
        identifier_type, other = self._rng.sample(
            ("user_id", "email", "anonymous_id", "distinct_id", "device_id"), 2
        )
        bad = (identifier_type, self._rng.choice(PLACEHOLDERS))
        return [(bad, self._one(other)), (bad, self._one(other)), (bad,)]

    def small_cluster(self) -> list[Carried]:
        types = (*read_identifier_types(), "distinct_id", "previous_id")
        nodes = [
            self._one(self._rng.choice(types)) for _ in range(self._rng.randint(3, 6))
        ]
        carried = []
        for _ in range(self._rng.randint(2, 6)):
            chosen = self._rng.sample(nodes, self._rng.randint(1, 3))
            carried.append(tuple(dict(chosen).items()))  # one value per type
        return carried

    def crowded_mailbox(self) -> list[Carried]:
        email = self._one("email")
        count = COOKIE_LIMIT + self._rng.randint(-1, 2)
        weak = [("anonymous_id", f"crowd-{n}") for n in range(count)]
        weak += [("fingerprint", f"crowd-{n}") for n in range(3)]  # do not count
        return [(email, value) for value in weak]

    def _chain(self, types: Iterable[str]) -> list[Carried]:
        return list(pairwise(self._some(*types)))

    def _part(self, carried: list[Carried]) -> list[Carried]:
        return self._rng.sample(carried, self._rng.randint(2, len(carried)))

    def _some(self, *types: str) -> list[Identifier]:
        return [self._one(identifier_type) for identifier_type in types]

    def _one(self, identifier_type: str) -> Identifier:
        """A new value, or now and then one that another story used."""
        used = self._used.setdefault(identifier_type, [])
        if used and self._rng.random() < 0.15:
            return identifier_type, self._rng.choice(used)
        n = len(used)
        match identifier_type:
            case "email":
                value = f"person{n}@example.com"
            case "phone":
                value = f"+1415555{n % 10_000:04}"
            case "external_id":
                value = f"{self._rng.choice(('crm', 'loyalty'))}:{n}"
            case _:
                value = f"{identifier_type}-{n}"
        used.append(value)
        return identifier_type, value
