"""Hostile events that any write key may send; the collector accepts all of them.

Each kind tries to make a run fail or cost too much by size, depth, number or names. The
same seed gives the same events.
"""

import json
import random
import sys
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any, Literal

__all__ = ["KINDS", "NAMES", "hostile_events"]

NAMES = [
    "",
    " ",
    "_",
    "-",
    "#",
    "$",
    "*",
    "/",
    "//",
    "~",
    "~0",
    "~1",
    "0",
    "1day",
    ".",
    "..",
    "a.b",
    "a/b",
    "a~b",
    "$.a",
    "[0]",
    "#-1",
    '"',
    "'",
    "`",
    "\\",
    "a\0b",
    "\0",
    "\n",
    "\r\n",
    "\x1b[31m",
    "\ufeffx",
    "\u200b",
    "\u202ex",
    "total",
    "Total",
    "TOTAL",
    " total ",
    "toTal",
    "caf\u00e9",
    "cafe\u0301",
    "CAF\u00c9",
    "\u6e90",
    "\U0001f600",
    "\u0130",
    "\u00df",
    "ss",
    "\u0301x",
    "order",
    "Order",
    "select",
    "table",
    "user",
    "null",
    "message_id",
    "Message ID",
    "messageId",
    "event_text",
    "timestamp",
    "received_at",
    "source",
    "rowid",
    "x" * 300,
    "x" * 301,
    "'; drop table staging.canary; --",
    '"); drop table staging.canary; --',
    "{{ exceptions.raise_compiler_error('x') }}",
    "{% set x = 1 %}",
    "${HOME}",
    "$(touch canary)",
    "%s",
    "true",
    "2024-02-29",
]
"""Names that break what is built from names."""

ODD_VALUES: list[Any] = [
    2**63,
    -(2**63) - 1,
    2**64,
    10**400,
    2**53 + 1,
    1e308,
    -1e308,
    5e-324,
    -0.0,
    float("nan"),
    float("inf"),
    0.1 + 0.2,
    "0001-01-01",
    "9999-12-31",
    "0000-00-00",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "9999-12-31T23:59:59.999999Z",
    "2016-12-31T23:59:60Z",
    "\ud83d",
    "\udc00x",
    "a\0b",
    "\ufeff",
    "x" * 100_000,
    "",
    True,
    None,
    [],
    {},
    [[[[1]]]],
]
SEVEN_TYPES: list[Any] = [1, 1.5, True, "text", "2026-01-01", [1], {"a": 1}, None]
WORDS = ("select", "table", "order", "Order", "ORDER", "user", "group", "null", "int_x")
SYSTEM = [
    "message_id",
    "scope",
    "event",
    "event_text",
    "user_id",
    "anonymous_id",
    "distinct_id",
    "timestamp",
    "original_timestamp",
    "sent_at",
    "received_at",
    "source",
    "properties",
    "rowid",
    "load_seq",
    "path",
    "$user_id",
    "$email",
    "$group",
    "$set",
    "$set_once",
    "profile_id",
    "__proto__",
    "constructor",
]

Call = dict[str, Any]
Kind = Callable[[random.Random, int], Call]


def _unicode_names() -> list[str]:
    """Two characters of each class that Unicode has."""
    found: dict[str, list[str]] = {}
    for code in range(0x20000):
        members = found.setdefault(unicodedata.category(chr(code)), [])
        if len(members) < 2:
            members.append(chr(code))
    return [f"{one}{end}" for group in found.values() for one in group for end in "1x"]


UNICODE = _unicode_names()
_NORMAL_FORMS: tuple[Literal["NFC", "NFD", "NFKC", "NFKD"], ...]
_NORMAL_FORMS = ("NFC", "NFD", "NFKC", "NFKD")


def _many(rng: random.Random, counts: tuple[int, ...]) -> Call:
    start = rng.choice(("p", "Property ", "\u6e90", "a.b/", "total"))
    return {f"{start}{n}": rng.randrange(9) for n in range(rng.choice(counts))}


def _deep(levels: int, value: Any, name: str = "a") -> Any:
    for _ in range(levels):
        value = {name: value}
    return value


def _nested_lists(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def _tree(width: int, levels: int) -> Any:
    if levels == 0:
        return 1
    return {f"k{n}": _tree(width, levels - 1) for n in range(width)}


def _track(event: str, properties: Any, **more: Any) -> Call:
    return {"type": "track", "event": event, "properties": properties, **more}


def _identify(traits: Any, **more: Any) -> Call:
    return {"type": "identify", "traits": traits, **more}


def _group(traits: Any, **more: Any) -> Call:
    return {"type": "group", "groupId": "acme", "traits": traits, **more}


def _context(context: Any) -> Call:
    return _track("Context Sent", {"a": 1}, context=context)


COUNTS = (501, 501, 2_000, 2_000, 20_000)

KINDS: dict[str, Kind] = {
    "50,000 properties": lambda r, n: _track("Flood", _many(r, (50_000,))),
    "many properties": lambda r, n: _track("Wide", _many(r, COUNTS)),
    "many properties of a new event": lambda r, n: _track(
        f"Wide {n}", _many(r, COUNTS)
    ),
    "many numeric names": lambda r, n: _track(
        "Counted", dict.fromkeys(range(3_000), n)
    ),
    "a tree": lambda r, n: _track("Tree", _tree(6, 5)),
    "empty objects": lambda r, n: _track("Empty", {f"o{i}": {} for i in range(3_000)}),
    "many traits": lambda r, n: _identify(_many(r, COUNTS)),
    "50,000 traits": lambda r, n: _identify(_many(r, (50_000,))),
    "many traits of a group": lambda r, n: _group(_many(r, COUNTS)),
    "50,000 traits of a group": lambda r, n: _group(_many(r, (50_000,))),
    "many $set": lambda r, n: {
        "event": "$set",
        "distinct_id": f"d{n}",
        "properties": {"$set": _many(r, COUNTS), "$set_once": _many(r, COUNTS)},
    },
    "a large one-call identify": lambda r, n: {
        "event": "$identify",
        "distinct_id": f"c{n}",
        "properties": {
            "$user_id": f"u{n}",
            "$email": f"{n}@example.com",
            "$group": {"$group_id": "big", "$group_type": "team", **_many(r, COUNTS)},
            "traits": _many(r, COUNTS),
        },
    },
    "many consent categories": lambda r, n: _context(
        {"consent": {"categoryPreferences": dict.fromkeys(_many(r, COUNTS), True)}}
    ),
    "50,000 denied ids": lambda r, n: _context(
        {"consentManagement": {"deniedConsentIds": [f"c{i}" for i in range(50_000)]}}
    ),
    "50,000 external ids": lambda r, n: _context(
        {"externalIds": [{"id": 50_000 * n + i} for i in range(50_000)]}
    ),
    "ids shared by all": lambda r, n: _context(
        {"externalIds": [{"id": i, "type": "shared"} for i in range(100)]}
    ),
    "long external ids": lambda r, n: _context(
        {"externalIds": [{"id": f"{i}" * 8_000, "type": "t"} for i in range(100, 130)]}
    ),
    "a large context": lambda r, n: _context(
        {"page": _many(r, COUNTS), "deep": _deep(500, _many(r, COUNTS))}
    ),
    "context of other kinds": lambda r, n: _context(
        r.choice(
            [1, "x", [1], True, {"traits": [1], "device": 3, "consent": [], "ip": {}}]
        )
    ),
    "hostile names": lambda r, n: _track("Named", {x: i for i, x in enumerate(NAMES)}),
    "hostile traits": lambda r, n: _identify(dict.fromkeys(NAMES, "x")),
    "hostile traits of a group": lambda r, n: _group(
        dict.fromkeys(NAMES, "x"),
        groupId=f"{r.choice(NAMES)}g",
        groupType=r.choice(NAMES),
    ),
    "hostile categories": lambda r, n: _context(
        {"consent": {"categoryPreferences": dict.fromkeys(NAMES, True)}}
    ),
    "a hostile event": lambda r, n: _track(
        NAMES[n % len(NAMES)], {NAMES[n % len(NAMES)]: 1}
    ),
    "every class of Unicode": lambda r, n: _track("Unicode", dict.fromkeys(UNICODE, n)),
    "an event of any Unicode": lambda r, n: _track(r.choice(UNICODE), {"a": n}),
    "names equal but for form": lambda r, n: _track(
        "Forms",
        {
            form: n
            for text in ("\u00e9t\u00e9", "\u212b", "\ufb01", "\u1e9b\u0323", "\u0130i")
            for normal in _NORMAL_FORMS
            for word in [unicodedata.normalize(normal, text)]
            for form in (word, word.upper(), word.title(), f" {word}")
        },
    ),
    "events equal but for case": lambda r, n: _track(
        "".join(r.choice((c.upper(), c.lower())) for c in "order completed"), {"a": n}
    ),
    "words of SQL": lambda r, n: _track(
        r.choice(WORDS), {**dict.fromkeys(WORDS, n), "values": 1}
    ),
    "names of columns": lambda r, n: _track(
        r.choice(SYSTEM), dict.fromkeys(SYSTEM, r.choice(ODD_VALUES[:12]))
    ),
    "names in quotes and dots": lambda r, n: _track(
        'a.b."c"', {"a": {"b.c": {'"': {"'": 1}}}, "a.b": {"c": 2}, "a.b.c": 3}
    ),
    "long names": lambda r, n: _track(
        "n" * r.choice((300, 10_000)), {c * 301: n for c in "abcdefghij"}
    ),
    "one name of 500,000 characters": lambda r, n: _track("Long", {"k" * 500_000: n}),
    "500 levels": lambda r, n: _track("Deep", _deep(500, "bottom")),
    "1,000 levels": lambda r, n: _identify({"deep": _deep(900, {"b": 1}, "\u6e90")}),
    "10,000 lists": lambda r, n: _track("Lists", {"l": "RAW" + "[" * 10_000}),
    "levels of lists": lambda r, n: _track("Lists", {"l": _nested_lists(700)}),
    "a list of 100,000": lambda r, n: _track("Lists", {"l": list(range(100_000))}),
    "a list of objects": lambda r, n: _track(
        "Lists", {"products": [{"id": i, "tags": ["x"]} for i in range(5_000)]}
    ),
    "odd values": lambda r, n: _track(
        "Odd", {f"v{i}": v for i, v in enumerate(ODD_VALUES)}
    ),
    "one of the odd values": lambda r, n: _track(
        "Odd One", {"v": r.choice(ODD_VALUES)}
    ),
    "odd traits": lambda r, n: _identify(
        {f"v{i}": v for i, v in enumerate(ODD_VALUES)}
    ),
    "one property of many types": lambda r, n: _track(
        "Shifting", {"v": SEVEN_TYPES[n % 8], "w": {"x": SEVEN_TYPES[n // 8 % 8]}}
    ),
    "one trait of many types": lambda r, n: _identify(
        {"plan": SEVEN_TYPES[n % 8], "email": SEVEN_TYPES[n // 8 % 8]},
        userId="shifting",
    ),
    "properties that are no object": lambda r, n: _track(
        "Bare", r.choice([3, "text", True, 1.5, [1, {"a": 1}], [], None, ""])
    ),
    "traits that are no object": lambda r, n: _identify(
        r.choice([3, "t", True, [1], []])
    ),
    "a group of other kinds": lambda r, n: _group(
        r.choice([3, "t", [1]]), groupId=r.choice([7, 1.5, "g" * 10_000, {"a": 1}])
    ),
    "all but a mebibyte": lambda r, n: _track("Large", {"text": "\u20ac" * 340_000}),
    "ids of 100,000 characters": lambda r, n: _identify(
        {}, userId=f"{n}" + "u" * 100_000, anonymousId=f"{n}" + "a" * 100_000
    ),
    "hostile ids": lambda r, n: _identify(
        {}, userId=f"{n}{r.choice(NAMES)}", anonymousId=f"{r.choice(NAMES)}{n}"
    ),
    "ids of other kinds": lambda r, n: _track(
        "Ids", {}, userId=r.choice([n, n + 0.5, [n], {"id": n}]), anonymousId=f"a{n}"
    ),
    "an address of 300,000 characters": lambda r, n: _identify(
        {"email": f"{'e' * 300_000}{n}@example.com", "phone": "+" + "4" * 300_000}
    ),
    "aliases in a circle": lambda r, n: {
        "type": "alias",
        "userId": f"ring{n % 7}",
        "previousId": f"ring{(n + 1) % 7}",
    },
    "years at the ends": lambda r, n: _track(
        "Timed",
        {"at": ODD_VALUES[12 + n % 7]},
        timestamp=ODD_VALUES[12 + n % 7],
        sentAt=ODD_VALUES[12 + n // 7 % 7],
    ),
    "page with much": lambda r, n: {
        "type": r.choice(("page", "screen")),
        "name": r.choice(NAMES),
        "properties": _many(r, COUNTS),
    },
    "an unknown type": lambda r, n: {
        "type": r.choice(NAMES[:30]),
        "event": f"T {n % 9}",
    },
}


def hostile_events(
    count: int, seed: int, prefix: str = "h"
) -> Iterator[tuple[str, bytes]]:
    """So many events as JSON, each with its message id; every kind is among them.

    After the first of each kind, every second has a name of its own and one property.
    Beyond those one in a hundred exceeds 100 KB at most: memory grows with the bytes
    that a run lands, of whatever kind, and that is not what is tried here.
    """
    rng = random.Random(seed)
    kinds = list(KINDS.values())
    count_large, turn = 0, 0
    for number in range(count):
        is_first = number < len(kinds)
        is_named = not is_first and number % 2 == 1
        while True:
            if is_named:
                call = _track(f"{rng.choice(UNICODE)} Named {number}", {"own": number})
            else:
                call = kinds[turn % len(kinds)](rng, number)
                turn += 1
            message_id = f"{prefix}{number}"
            call.setdefault("userId", f"{prefix}-user{number}")
            call["messageId" if "type" in call else "uuid"] = message_id
            data = _encoded(call)
            is_large = len(data) > 100_000
            if is_first or not is_large or count_large < count // 100:
                break
        count_large += is_large
        yield message_id, data


def _encoded(call: Call) -> bytes:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        text = json.dumps(call, ensure_ascii="\\ud" in json.dumps(call))
    finally:
        sys.setrecursionlimit(limit)
    # Deeper than this encoder goes: the brackets themselves.
    raw = '"RAW' + "[" * 10_000 + '"'
    return text.replace(raw, "[" * 10_000 + "]" * 10_000).encode()
