"""Events that an SDK would never send and a stranger with a browser key can.

`hostile_items(seed, count)` makes them, the same for a seed: every way of being odd in
turn. Each is an item of a batch, as JSON bytes: bare NaN and halves of surrogate pairs
have no other form.
"""

import json
import unicodedata
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

__all__ = ["KINDS", "hostile_items"]

Item = dict[str, Any]
_LARGE = 50_000  # members of an object; about the most that fit into an event
_WORDS = """
select table order group user from null true default primary message_id timestamp
load_seq profile_id source scope event type properties rowid _load_seq main
""".split()  # noqa: SIM905
_SIGNS = """
' " ";drop_table_x;-- a.b a..b $ $$ $.a a[0] * / ~ ~1 \\ %s {{x}} {%raw%} ` -- \u00e9
e\u0301 \u00c9 \u00df SS \ufb01 \u0130 i\u0307 \u03a9 \u2126 \u2028 \ufeff \u202eabc
\U0001f469\u200d\U0001f467 \U0010ffff \u4e2d\u6587 \u0627\u0644 \u0928\u092e\u0938\u094d
\uff11\uff12 \u00b2 \u01c5 total Total TOTAL tOtal
""".split(" ")  # noqa: SIM905
_HALVES = (chr(0xD83D), chr(0xDC00))  # of a surrogate pair
_ODD = (*_SIGNS, *_HALVES, "", " ", "\t\n", "\0", "a\0b", "x" * 300, "A" * 5000)
_NUMBERS: tuple[Any, ...] = (
    *(0, -0.0, 1, -1, 2**53, 2**63 - 1, 2**63, -(2**63) - 1, 10**400, 1e308, -1e308),
    *(5e-324, 0.1, 12345678901234567890.123, float("nan"), float("inf"), float("-inf")),
)
_TIMES: tuple[Any, ...] = (
    *(
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "10000-01-01",
        "1970-01-01",
        "",
        0,
    ),
    *(-1, 1e300, "2026-02-30T00:00:00Z", "2016-12-31T23:59:60Z", "now", [], {}, True),
)


def _properties(rng: Random, number: int) -> Item:
    size = _LARGE if number % 1000 == 0 else rng.choice((300, 700, 2_000))
    return {"properties": {f"p{number}_{n}": n for n in range(size)}}


def _traits(rng: Random, number: int) -> Item:
    size = _LARGE if number % 1000 == 1 else 1_000
    return {"type": "identify", "traits": {f"t{n}": n for n in range(size)}}


def _group(rng: Random, number: int) -> Item:
    size = _LARGE if number % 1000 == 2 else 1_000
    traits = {f"t{n}": n for n in range(size)}
    return {"type": "group", "groupId": f"g{number % 7}", "traits": traits}


def _consent(rng: Random, number: int) -> Item:
    size = _LARGE // 2 if number % 1000 == 3 else 500
    granted = {f"c{n}": bool(n % 2) for n in range(size)}
    return {"context": {"consent": {"categoryPreferences": granted}}}


def _external_ids(rng: Random, number: int) -> Item:
    size = _LARGE // 3 if number % 1000 == 4 else 500
    ids = [{"id": f"{number}-{n}", "type": "crm"} for n in range(size)]
    return {"context": {"externalIds": ids}}


def _unknown_fields(rng: Random, number: int) -> Item:
    return {f"field{n}": n for n in range(1_000)}


def _depth(rng: Random, number: int) -> Item:
    value: Any = 1
    for _ in range(rng.choice((100, 400, 900))):
        value = {"a": value} if rng.random() < 0.5 else [value]
    place = rng.choice(("properties", "traits", "context"))
    return {"type": rng.choice(("identify", "track")), place: {"deep": value}}


def _names(rng: Random, number: int) -> Item:
    names = rng.sample(_ODD, 12) + rng.sample(_WORDS, 4)
    names += [unicodedata.normalize(form, names[0]) for form in ("NFC", "NFD", "NFKC")]
    return {"properties": {name: rng.choice(names) for name in names}}


def _event_names(rng: Random, number: int) -> Item:
    return {"event": rng.choice((rng.choice(_ODD), rng.choice(_WORDS), f"e{number}"))}


def _trait_names(rng: Random, number: int) -> Item:
    traits = {name: rng.choice(_NUMBERS) for name in rng.sample(_ODD, 12)}
    return {
        "type": rng.choice(("identify", "group")),
        "groupId": "odd",
        "traits": traits,
    }


def _numbers(rng: Random, number: int) -> Item:
    return {
        "event": "numbers",
        "properties": {f"n{i}": n for i, n in enumerate(_NUMBERS)},
    }


def _types(rng: Random, number: int) -> Item:
    values = (
        1,
        1.5,
        "x",
        True,
        None,
        [1, {"a": 2}],
        {"b": {"c": []}},
        "2026-01-01",
        "",
    )
    return {"event": "types", "properties": {"one": rng.choice(values), "two": values}}


def _times(rng: Random, number: int) -> Item:
    fields = ("timestamp", "originalTimestamp", "sentAt", "receivedAt")
    return {name: rng.choice(_TIMES) for name in fields}


def _ids(rng: Random, number: int) -> Item:
    odd = (*_ODD, "i" * 100_000, 12345.5, True, [1], {"a": 1}, {}, 10**30)
    fields = (
        "userId",
        "anonymousId",
        "previousId",
        "groupId",
        "groupType",
        "messageId",
    )
    type_ = rng.choice(("track", "alias", "group", "identify"))
    return {"type": type_, **{name: rng.choice(odd) for name in fields}}


def _shapes(rng: Random, number: int) -> Item:
    odd: tuple[Any, ...] = (None, 0, "", "x", [], [1], {}, {"a": 1}, True)
    fields = ("properties", "traits", "context", "integrations", "name", "category")
    return {name: rng.choice(odd) for name in fields}


def _posthog(rng: Random, number: int) -> Item:
    odd: tuple[Any, ...] = (None, 0, "x", [], ["a"], {}, {"a": 1}, {"": None}, True)
    names = ("$set", "$set_once", "$unset", "$group", "$groups", "$user_id", "$email")
    event = rng.choice(("$identify", "$set", "$groupidentify", "$create_alias", "x"))
    properties = {name: rng.choice(odd) for name in rng.sample(names, 4)}
    properties |= {"traits": rng.choice((*odd, dict(properties)))}
    return {
        "type": None,
        "event": event,
        "distinct_id": rng.choice(("d1", "d2", *_ODD)),
        "properties": properties,
    }


def _groups(rng: Random, number: int) -> Item:
    odd: tuple[Any, ...] = (None, 1, [], {}, {"$group_id": ""}, {"$group_id": {"a": 1}})
    groups = [{"$group_id": f"g{rng.randrange(5)}"}, *rng.sample(odd, 2)]
    type_ = rng.choice(("track", "identify", "page"))
    properties = {"$group": groups, "traits": {"$group": groups[:1]}}
    return {"type": type_, "groupId": "g1", "properties": properties}


def _text(rng: Random, number: int) -> Item:
    size = 1_000_000 if number % 1000 == 17 else 50_000
    return {"event": "text", "properties": {"long": "ä" * (size // 6)}}


def _same_message(rng: Random, number: int) -> Item:
    return {"messageId": "the-same", "event": f"again {number % 3}"}


KINDS: tuple[Callable[[Random, int], Item], ...] = (
    *(_properties, _traits, _group, _consent, _external_ids, _unknown_fields, _depth),
    *(_names, _event_names, _trait_names, _numbers, _types, _times, _ids, _shapes),
    *(_posthog, _groups, _text, _same_message),
)


def hostile_items(seed: int, count: int) -> Iterator[bytes]:
    """`count` items as JSON, of every kind in turn; the largest come once."""
    rng = Random(seed)
    for number in range(count):
        item: Item = {
            "type": "track",
            "event": f"hostile {number % 40}",
            "messageId": f"m{number}",
            "userId": f"u{number % 50}",
            "timestamp": "2026-04-14T11:13:38Z",
        }
        item |= KINDS[number % len(KINDS)](rng, number)
        yield json.dumps(item).encode()
