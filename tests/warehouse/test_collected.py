"""Collected events become rows of `staging`: each message once, with balanced counts.

The real admission writes the segments, without a server.
"""

import json
import shutil
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from connectors.events.admission import Admission
from connectors.events.identifiers import IdentifierRules
from connectors.events.policy import Policy
from connectors.events.rulebook import Rulebook
from connectors.home import Home
from connectors.ingest.collected import land_segments
from connectors.landing.prepare import prepare
from connectors.landing.segments import closed_segments, segments_folder
from connectors.sources.http_api.bodies import decoded
from connectors.sources.http_api.request_admission import RequestAdmission, unpacked
from connectors.sources.write_keys import WriteKey
from tests.support import PROJECT
from tests.support.collecting import landed
from tests.support.crashes import assert_balanced, assert_whole, stopped
from tests.support.warehouses import Warehouse

STAGED = "+stg_events +stg_dispositions"


class Collected:
    """Writes request bodies to segments of a home, as a collector's worker does."""

    def __init__(self, home: Home) -> None:
        self.folder = segments_folder(home)
        self.folder.mkdir(exist_ok=True)
        rulebook = Rulebook.load(PROJECT)
        self._admission = RequestAdmission(
            Admission(IdentifierRules.load(PROJECT), rulebook), rulebook
        )
        self._count = 0

    def take(self, *bodies: Any, scope: str = "web", name: str = "web") -> Path:
        """Write a segment with one line per body; bytes are used unchanged."""
        self._count += 1
        lines = []
        for body in bodies:
            data = body if type(body) is bytes else json.dumps(body).encode()
            taken = self._admission.take(
                unpacked(decoded(data), None, "WK"),
                key(name, scope),
                "http",
                size_bytes=len(data),
            )
            lines.append(taken.line + b"\n")
        path = self.folder / f"20260414T111338-{self._count:016x}.ndjson"
        path.write_bytes(b"".join(lines))
        return path


def key(name: str, scope: str) -> WriteKey:
    return WriteKey(
        id=name,
        name=name,
        kind="server",
        scope=scope,
        policy=Policy(),
        rate=1.0,
        burst=1,
        paths=None,
        max_batch_bytes=10 << 20,
        created_at=datetime.min,
        hint="",
    )


def call(message_id: str | None, **more: Any) -> dict[str, Any]:
    named = {} if message_id is None else {"messageId": message_id}
    return {
        "type": "track",
        "event": "Cart Updated",
        "userId": "u1",
        "timestamp": "2026-04-14T11:13:38Z",
        **named,
        **more,
    }


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    prepare(home)
    return home


DUPLICATES: dict[str, tuple[list[Any], Counter[str]]] = {
    # Bodies, and the dispositions of their items.
    "in one body": (
        [{"batch": [call("m"), call("m")]}],
        Counter(accepted=1, duplicate=1),
    ),
    "in two bodies": ([call("m"), call("m")], Counter(accepted=1, duplicate=1)),
    "keys in another order": (
        [call("m"), dict(reversed(call("m").items()))],
        Counter(accepted=1, duplicate=1),
    ),
    "properties in another order": (
        [
            call("m", properties={"a": 1, "b": [1, 2]}),
            call("m", properties={"b": [1, 2], "a": 1}),
        ],
        Counter(accepted=1, duplicate=1),
    ),
    "in another spelling": (
        [
            call("m"),
            {
                "type": "track",
                "event": "Cart Updated",
                "user_id": "u1",
                "message_id": "m",
                "timestamp": "2026-04-14T13:13:38+02:00",
            },
        ],
        Counter(accepted=1, duplicate=1),
    ),
    "sent at another time": (
        [
            call("m", sentAt="2026-04-14T11:13:39Z"),
            call("m", sentAt="2026-04-14T11:14:39Z"),
        ],
        Counter(accepted=1, duplicate=1),
    ),
    "in another context": (
        [call("m", context={"retry": 1}), call("m", context={"retry": 2})],
        Counter(accepted=1, duplicate=1),
    ),
    "with a numeric id": ([call("7"), call("7")], Counter(accepted=1, duplicate=1)),
    "without an id, with a time": (
        [call(None), call(None)],
        Counter(accepted=1, duplicate=1),
    ),
    "with other content": (
        [call("m"), call("m", properties={"a": 1})],
        Counter(accepted=1, conflict=1),
    ),
    "with another id": ([call("m"), call("n")], Counter(accepted=2)),
    "ids that differ in case": ([call("m"), call("M")], Counter(accepted=2)),
    "ids that differ in composition": (
        [call("caf\u00e9"), call("cafe\u0301")],
        Counter(accepted=2),
    ),
    "twenty times": ([call("m")] * 20, Counter(accepted=1, duplicate=19)),
}


def test_a_message_is_one_row_however_often_it_came(warehouse: Warehouse) -> None:
    """Each shape in its own scope, landed in two halves, the second one twice."""
    collected = Collected(warehouse.home)
    segments = [
        collected.take(*bodies, scope=f"s{number}", name=f"s{number}")
        for number, (bodies, _) in enumerate(DUPLICATES.values())
    ]
    later = segments[len(segments) // 2 :]
    aside = warehouse.home.path / "aside"
    aside.mkdir()
    for path in later:
        shutil.move(path, aside / path.name)
    land_segments(warehouse.home, PROJECT)
    warehouse.build(select=STAGED)
    for path in later:
        shutil.copy(aside / path.name, path)
    land_segments(warehouse.home, PROJECT)
    for path in later:  # left behind by one that was stopped
        shutil.copy(aside / path.name, path)
    land_segments(warehouse.home, PROJECT)
    assert not closed_segments(collected.folder)
    warehouse.build(select=STAGED)
    found: dict[str, Counter[str]] = {}
    for source, disposition, count in warehouse.rows(
        "select source, disposition, count(*) from staging.dispositions group by all"
    ):
        found.setdefault(source, Counter())[disposition] = count
    expected = {f"s{n}": became for n, (_, became) in enumerate(DUPLICATES.values())}
    assert found == expected
    accepted = sum(became["accepted"] for became in expected.values())
    assert warehouse.count("staging.events") == accepted


HOSTILE = [
    *("'; drop table staging.events; --", '"; drop schema staging cascade; --'),
    *("Robert'); delete from raw.loads;--", "a' or '1'='1", 'a" or "1"="1', "a\\"),
    *("{{ env_var('HOME') }}", "{% do run_query('drop table x') %}", "{{ 7 * 7 }}"),
    *("$(touch made)", "`touch made`", "; touch made", "| cat", "&& ls"),
    *("../../../etc/passwd", "..\\..\\x", "/etc/passwd", "file:///etc/passwd", "CON"),
    *("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "javascript:1"),
    *("=cmd|' /C calc'!A0", "@SUM(1)", "+1+1", "-1-1", "%s%n", "%00", "${jndi:x}"),
    *("select", "table", "group", "order", "null", "NULL", "true", "undefined", "None"),
    *("Email", "email", "EMAIL", "caf\u00e9", "cafe\u0301", "\u202eevil", "a\u200bb"),
    *(
        "\u0130",
        "\u0131",
        "ß",
        "SS",
        "\ufb01",
        "\U0001d518\U0001d52b",
        "😀",
        "👩‍👩‍👧",
        "ع",
        "日本語",
    ),
    *("a.b", "a$b", "$a", "_", "__", "a b", "a\tb", "a\nb", "a\r\nb", "a\0b", "\x7f"),
    *("__proto__", "constructor", "toString", "x" * 300, "1", "1e5", "-0", "0x10"),
    *("read_csv('/etc/passwd')", "copy x to 'made'", "attach 'x'", "pragma x"),
]


def test_hostile_names_are_names(warehouse: Warehouse) -> None:
    """As event, property, trait, group and id: nothing is executed or lost."""
    collected = Collected(warehouse.home)
    calls = [
        call(
            f"m{number}",
            event=name,
            userId=f"u{number}",
            properties={name: name},
            context={name: {name: name}},
        )
        for number, name in enumerate(HOSTILE)
    ] + [
        {
            "type": kind,
            "messageId": f"{kind}{number}",
            "userId": name,
            "groupId": name,
            "traits": {name: name},
        }
        for number, name in enumerate(HOSTILE)
        for kind in ("identify", "group")
    ]
    collected.take({"batch": calls})
    land_segments(warehouse.home, PROJECT)
    before = {path.name for path in warehouse.home.path.iterdir()}
    warehouse.build(select=STAGED)
    rows = warehouse.rows(
        "select message_id, event_text, properties, traits, user_id, group_id, event "
        "from staging.events"
    )
    found = {row[0]: row for row in rows}
    assert len(found) == len(calls)
    for number, name in enumerate(HOSTILE):
        _, text, properties, _, _, _, event = found[f"m{number}"]
        assert text == name
        assert json.loads(properties) == {name: name}
        assert event and not any(character.isspace() for character in event)
        for kind in ("identify", "group"):
            _, _, _, traits, user_id, group_id, _ = found[f"{kind}{number}"]
            assert json.loads(traits) == {name: name}
            assert user_id == name
            assert group_id == name
    made = {path.name for path in warehouse.home.path.iterdir()} - before
    assert {name for name in made if not name.startswith("warehouse.duckdb")} == set()
    assert not Path("made").exists()


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("2026-04-14T11:13:38Z", "2026-04-14T11:13:38"),
        (1776165218, "2026-04-14T11:13:38"),
        ("1776165218000", "2026-04-14T11:13:38"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00"),
        ("2038-01-19T03:14:08Z", None),  # in the future: when it arrived
        ("9999-12-31T23:59:59-14:00", None),
        ("yesterday", None),
        (-1, None),
        (True, None),
        ({"a": 1}, None),
        (1e300, None),
    ],
)
def test_times_of_clients_are_read_or_replaced_and_never_lose_an_event(
    home: Home, sent: Any, kept: str | None
) -> None:
    """`tests/unit/test_clock.py` has more formats."""
    Collected(home).take(call("m", timestamp=sent))
    (row,) = landed(home, "events")
    expected = row["received_at"] if kept is None else datetime.fromisoformat(kept)
    assert row["timestamp"] == expected


def test_a_clock_that_is_off_is_corrected_by_when_it_sent(home: Home) -> None:
    Collected(home).take(
        call("m", timestamp="2020-01-01T00:00:00Z", sentAt="2020-01-01T00:00:10Z")
    )
    (row,) = landed(home, "events")
    assert (row["received_at"] - row["timestamp"]).total_seconds() == pytest.approx(10)


def test_damage_inside_a_segment_is_kept_and_counted(home: Home) -> None:
    path = Collected(home).take(call("a"), call("b"), call("c"))
    first, second, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + b"\0\xff" + second[20:] + third)
    assert {row["message_id"] for row in landed(home, "events")} == {"a", "c"}
    damaged = [row for row in landed(home, "dispositions") if row["reason"]]
    assert [row["reason"] for row in damaged] == ["segment_damaged"]
    assert damaged[0]["payload"].startswith("\0\\xff")
    assert_balanced(home)


def test_landing_killed_at_any_step_is_finished_by_the_next(
    home: Home, project_path: Path
) -> None:
    collected = Collected(home)
    for name in ("a", "b"):
        collected.take(call(name), call(None), b"[7]")
    for killed in stopped(home, project_path, "inbox"):
        assert_whole(killed)
        events = landed(killed, "events")
        assert_whole(killed)
        assert_balanced(killed)
        assert not closed_segments(segments_folder(killed))
        names = {row["message_id"] for row in events}
        assert len(events) == 4 and {"a", "b"} < names
