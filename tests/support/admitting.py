"""Items through admission, and anything at all through it."""

import json
import random
from dataclasses import replace
from typing import Any

from connectors.events.admission import Admission
from connectors.events.canonical import Event
from connectors.events.decisions import Rules
from connectors.events.event_builder import Origin
from connectors.events.identifiers import IdentifierRules
from connectors.events.rows import Admitted
from tests.support import PROJECT

__all__ = [
    "FILE",
    "LIVE",
    "NOW",
    "RULES",
    "SECOND",
    "TRACK",
    "admitted",
    "anything",
    "damaged",
    "event_like",
    "fuzz_body",
    "fuzzed",
    "rows",
]

RULES = IdentifierRules.load(PROJECT)
SECOND = 1_000_000
NOW = 1_776_165_218 * SECOND  # 2026-04-14T11:13:38Z
LIVE = Origin("web", "web", "http", "segment-1", NOW, keeps_received_at=False)
FILE = replace(LIVE, channel="file", keeps_received_at=True, seed="hash-of-file")
TRACK = {"type": "track", "event": "Order Completed", "userId": "u", "messageId": "m"}


def admitted(
    *items: Any, origin: Origin = LIVE, rules: Rules | None = None
) -> Admitted:
    out = Admitted()
    for line, item in enumerate(items, 1):
        data = item if isinstance(item, bytes) else json.dumps(item).encode()
        Admission(RULES, rules).admit_bytes(data, origin, out, line=line)
    return out


def rows(out: Admitted) -> list[dict[str, Any]]:
    return [dict(zip(Event.__struct_fields__, row, strict=True)) for row in out.events]


_KEYS = tuple(
    """
    type event event_text name category channel userId user_id anonymousId distinct_id
    previousId groupId group_id messageId message_id id uuid timestamp receivedAt
    originalTimestamp sentAt sent_at properties traits context integrations batch $set
    $set_once $identify $user_id $email $group $group_id $groups $device_id email phone
    device externalIds consent categoryPreferences consentManagement allowedConsentIds
    $anon_distinct_id $is_identified $group_key $group_type
    """.split()  # noqa: SIM905
)


_VALUES = (
    None, True, False, 0, -1, 7, 12345.5, 1e300, 2**63, -(2**70), "", " ", "u", "0",
    "track", "identify", "group", "page", "screen", "alias", "$identify", "$pageview",
    "$groupidentify", "$create_alias", "$set", "jane@acme.com", "+4930901820", "\0",
    "\ud83d", "\u2028", "2026-04-14T11:13:38Z", "10000-01-01", "1776165218", "x" * 300,
    float("nan"), float("-inf"), "'; drop table x; --", '{"a":1}', "a.b", "\U0001f389",
)  # fmt: skip


def anything(random_: random.Random, levels: int) -> Any:
    kind = random_.random()
    if levels == 0 or kind < 0.45:
        return random_.choice(_VALUES)
    if kind < 0.6:
        return [anything(random_, levels - 1) for _ in range(random_.randrange(4))]
    keys = [
        random_.choice((*_KEYS, "", "\ud83d", "\0"))
        for _ in range(random_.randrange(7))
    ]
    return {key: anything(random_, levels - 1) for key in keys}


def event_like(random_: random.Random) -> Any:
    item = {
        random_.choice(_KEYS): anything(random_, random_.randrange(5))
        for _ in range(random_.randrange(9))
    }
    if random_.random() < 0.5:
        item["userId"] = random_.choice(("u", 7, "v"))
    return item


def damaged(random_: random.Random, data: bytes) -> bytes:
    """Some bytes cut out, changed or repeated."""
    start = random_.randrange(len(data) + 1)
    end = start + random_.randrange(12)
    noise = random_.randbytes(random_.randrange(4))
    return data[:start] + noise * random_.randrange(3) + data[end:]


def fuzz_body(random_: random.Random) -> bytes:
    kind = random_.random()
    if kind < 0.5:
        value = event_like(random_)
    elif kind < 0.7:
        value = {"batch": [event_like(random_) for _ in range(random_.randrange(4))]}
        value |= event_like(random_) if random_.random() < 0.2 else {}
    elif kind < 0.8:
        value = [event_like(random_) for _ in range(random_.randrange(4))]
    else:
        value = anything(random_, 4)
    data = json.dumps(value).encode()
    return damaged(random_, data) if random_.random() < 0.2 else data


def fuzzed(seed: int, count: int) -> Admitted:
    """What became of `count` bodies: events, near-events, anything, damaged bytes."""
    random_ = random.Random(seed)
    admission = Admission(RULES)
    out = Admitted()
    for line in range(count):
        origin = FILE if random_.random() < 0.5 else LIVE
        admission.admit_bytes(fuzz_body(random_), origin, out, line=line)
    return out
