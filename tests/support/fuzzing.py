"""Bodies of any bytes through all that a collector does with them, without the network.

From the bytes of a request to the tables of a load: unpack, decode, decide, a line of a
segment and back, rows. Whatever comes in, nothing is raised but what is answered with a
4xx, and the books balance.
"""

import gzip
import random
import tempfile
import zlib
from collections import Counter
from datetime import datetime
from pathlib import Path

import msgspec

from connectors.events.admission import Admission
from connectors.events.decode import Undecodable, decode_item
from connectors.events.event_builder import Origin
from connectors.events.identifiers import IdentifierRules
from connectors.events.policy import Policy
from connectors.events.rows import Admitted
from connectors.events.rulebook import FOLDERS, Rulebook
from connectors.landing.segments import Record
from connectors.landing.streams import tables
from connectors.sources.http_api.bodies import TooLarge, decoded, inflated
from connectors.sources.http_api.request_admission import RequestAdmission, unpacked
from connectors.sources.write_keys import WriteKey
from tests.support import PROJECT

__all__ = ["Fuzzed", "Pipe"]

_CONTRACT = """
event: plan_changed
consent: [analytics]
on_violation: {on_violation}
schema:
  type: object
  required: [plan_type]
  properties: {{plan_type: {{type: string}}, seats: {{type: integer, minimum: 1}}}}
examples:
  accepted: [{{plan_type: growth}}]
  refused: [{{properties: {{plan_type: 7}}, because: plan_type}}]
"""
_TRANSFORMATION = """
match: {event: plan_changed}
phase: before_contract
do:
  - rename: {properties.plan: properties.plan_type}
  - cast: {properties.seats: integer}
  - set: {properties.currency: USD}
  - remove: [properties.debug]
  - hash: [properties.card_last4]
  - drop_if: {properties.internal: true}
examples:
  - in: {event: plan_changed, properties: {plan: growth}}
    out: {event: plan_changed, properties: {plan_type: growth, currency: USD}}
"""
_POLICIES = (
    Policy(),
    Policy(unknown_events="quarantine", no_consent="require"),
    Policy(naming="reject", object_action=True, types=frozenset({"track"})),
    Policy(unknown_events="flag", convention="TitleCase", max_event_bytes=300),
    Policy(no_consent="assume_false", fingerprint="analytics"),
)
_NOW = 1_776_165_218_000_000


class Pipe:
    """Admission with rules of every kind, and the landing behind it."""

    def __init__(self, on_violation: str = "quarantine") -> None:
        identifiers = IdentifierRules.load(PROJECT)
        with tempfile.TemporaryDirectory() as folder:
            for name in FOLDERS:
                Path(folder, name).mkdir(parents=True)
            contract = _CONTRACT.format(on_violation=on_violation)
            Path(folder, FOLDERS[0], "plan_changed.yml").write_text(contract)
            Path(folder, FOLDERS[1], "010_plan.yml").write_text(_TRANSFORMATION)
            rulebook = Rulebook.load(Path(folder))
        self._admission = RequestAdmission(Admission(identifiers, rulebook), rulebook)
        self._landing = Admission(identifiers)
        self._keys = [
            WriteKey(
                id="k",
                name="web",
                kind="server",
                scope="web",
                policy=policy,
                rate=1.0,
                burst=1,
                paths=None,
                max_batch_bytes=1 << 20,
                created_at=datetime.min,
                hint="",
            )
            for policy in _POLICIES
        ]

    def take(self, body: bytes, policy: int = 0) -> Counter[str]:
        """What became of the body's items.

        Raises:
            AssertionError: the books do not balance.
        """
        key = self._keys[policy % len(self._keys)]
        try:
            value = decoded(inflated(body, None, key.max_batch_bytes))
        except TooLarge:
            return Counter()
        except Undecodable as problem:
            taken = self._admission.refuse(body, problem.reason, key, "http")
            count = 1
        else:
            given = unpacked(value, None, "WK")
            taken = self._admission.take(
                given,
                key,
                "http",
                size_bytes=len(body),
                is_watched=policy % 2 == 1,
                wants_receipts=True,
                gpc=policy % 3 == 1,
                fingerprint=lambda: "f" * 32,
            )
            count = len(given)
            assert len(taken.receipts) == count
        told = Counter(taken.dispositions)
        assert told.total() == count
        line = taken.line
        assert b"\n" not in line
        out = Admitted()
        self._land(msgspec.json.decode(line, type=Record), out)
        assert out.received.total() == count
        landed: Counter[str] = Counter(row.disposition for row in out.dispositions)
        assert landed == told
        assert len(out.events) == landed["admitted"]
        found = tables(out)
        assert sum(table.num_rows for table in found.values()) >= 2 * (count > 0)
        return landed

    def _land(self, record: Record, out: Admitted) -> None:
        origin = Origin(
            record.source,
            record.scope,
            record.channel,
            "segment",
            record.received_at,
            keeps_received_at=False,
            gpc=record.gpc,
        )
        if record.refused is not None:
            body = (record.body or "").encode()
            self._landing.refuse(body, record.refused, origin, out)
        for index, item in enumerate(record.items):
            self._landing.build_rows(item, record.decisions.get(index), origin, out)


def _is_value(piece: bytes) -> bool:
    try:
        decode_item(piece)
    except Undecodable:
        return False
    return True


_PIECES = [
    *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\\u", b"\0", b"\xff", b"\n"),
    *(b"null", b"true", b"NaN", b"-Infinity", b"1e4000", b"-1", b"0.1e-400"),
    *(b"9223372036854775808", b"1" * 400, b"1776165218000", b"0" * 30 + b".5"),
    *(b'"\\ud83d"', b'"\\udc00x"', b'"\\u0000"', b'""', b'" "', b'"a' * 50),
    *(b"[" * 600, b"]" * 600, b'{"a":' * 300, b"}" * 300),
    *(b'"2026-04-14T11:13:38Z"', b'"9999-12-31T23:59:59-14:00"', b'"0001-01-01"'),
    *(
        b'"%s":' % name
        for name in (
            b"type event name userId user_id anonymousId distinct_id previousId "
            b"groupId group_id messageId uuid id timestamp sentAt originalTimestamp "
            b"receivedAt properties traits context integrations batch writeKey channel "
            b"category event_text $user_id $group $email $anon_distinct_id $set "
            b"consent plan seats debug card_last4 internal plan_type __proto__ "
            b"groupType offset"
        ).split()
    ),
    *(
        b'"%s"' % value
        for value in (
            b"track identify page screen group alias capture $identify $groupidentify "
            b"$create_alias $pageview plan_changed Plan_Changed x@example.com +4915112 "
            b"'; drop table events; -- {{env_var('A')}}"
        ).split()
    ),
    b'{"consent":{"categoryPreferences":{"analytics":false,"advertising":null}}}',
    b'{"$group":{"$group_id":"g","$group_type":7},"$user_id":"u"}',
]
_VALUES = [piece for piece in _PIECES if _is_value(piece)]
_NAMES = [piece for piece in _PIECES if piece[-1:] == b":" and piece[:1] == b'"']
_SEEDS = [
    b'{"type":"track","event":"plan_changed","userId":"u","messageId":"m",'
    b'"properties":{"plan":"growth","seats":"3","card_last4":"4242"}}',
    b'{"batch":[{"type":"identify","userId":1,"traits":{"email":"x@example.com"}},'
    b'{"type":"page","anonymousId":"a","context":{"consent":{"categoryPreferences":'
    b'{"analytics":true}}}},7,null,[]],"sentAt":"2026-04-14T11:13:38Z"}',
    b'{"event":"$identify","distinct_id":"d","properties":{"$user_id":"u","$group":'
    b'{"$group_id":"g"}},"uuid":"0190","offset":12}',
    b'[{"event":"x","properties":{"distinct_id":"d","token":"WK","$set":{"a":1}}}]',
    b"data=%7B%22event%22%3A%22x%22%7D",
    b"data=eyJldmVudCI6ICJ4In0=",
]


class Fuzzed:
    """Broken, spliced and compressed versions of real bodies, one after another."""

    def __init__(self, seed: int) -> None:
        self.dispositions: Counter[str] = Counter()
        self.count_items = 0
        self._random = random.Random(seed)
        self._pipes = [
            Pipe(kind) for kind in ("quarantine", "block", "flag", "drop_property")
        ]

    def one(self) -> None:
        """Make a body and take it.

        Raises:
            RuntimeError: something else than a refusal came of it; says the body.
        """
        choose = self._random
        is_whole = choose.randrange(4) > 0  # JSON, of members no client would send
        body = bytearray(self._value(3) if is_whole else choose.choice(_SEEDS))
        for _ in range(0 if is_whole else choose.randrange(5)):
            at = choose.randrange(len(body) + 1)
            match choose.randrange(5):
                case 0:
                    body[at:at] = choose.choice(_PIECES)
                case 1:
                    del body[at : at + choose.randrange(1, 12)]
                case 2:
                    body[at : at + choose.randrange(12)] = choose.choice(_PIECES)
                case 3:
                    other = choose.choice(_SEEDS)
                    body[at:at] = other[choose.randrange(len(other)) :]
                case _:
                    # A member with a value, where members are likely to fit.
                    comma = body.find(b",", at)
                    member = choose.choice(_PIECES) + choose.choice(_PIECES) + b","
                    body[comma + 1 : comma + 1] = member
        data = bytes(body)
        match choose.randrange(20):
            case 0:
                data = gzip.compress(data)
            case 1:
                data = zlib.compress(data)
            case 2:
                data = gzip.compress(data)[: choose.randrange(60)]
            case _:
                pass
        policy = choose.randrange(len(_POLICIES))
        try:
            found = choose.choice(self._pipes).take(data, policy)
        except Exception as error:
            raise RuntimeError(f"policy {policy}, body {data!r}") from error
        self.dispositions += found
        self.count_items += found.total()

    def _value(self, depth: int) -> bytes:
        choose = self._random
        match choose.randrange(3 + depth):
            case 0 | 1 | 2:
                return choose.choice(_VALUES)
            case 3:
                return b"[%b]" % b",".join(
                    self._value(depth - 1) for _ in range(choose.randrange(4))
                )
            case _:
                who = b'"userId":%b,' % choose.choice(_VALUES)
                what = b'"type":"track","event":"plan_changed",'
                members = [
                    choose.choice(_NAMES) + self._value(depth - 1)
                    for _ in range(choose.randrange(1, 8))
                ]
                start = who * (choose.randrange(8) > 0) + what * choose.randrange(2)
                return b"{%b%b}" % (start, b",".join(members))
