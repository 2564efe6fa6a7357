"""Examples from the documentation of five products, with results in `vendor_examples/`.

Each is sent as documented: to a running collector, or as a file to import. Examples
without common ids share a home folder.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from connectors.ingest.importing import import_units
from connectors.ingest.inbox import land_inbox
from connectors.sources.files import units
from tests.support import PROJECT
from tests.support.collecting import Collecting, collecting, make_key
from tests.support.warehouses import IDENTITY, MakeWarehouse, Warehouse

EXAMPLES = Path(__file__).parents[1] / "fixtures" / "vendor_examples"
COLUMNS = json.loads((EXAMPLES / "snowplow_columns.json").read_text())
BUILT = (
    f"{IDENTITY} +stg_events +stg_dispositions +profiles +groups +group_members "
    "+profile_events"
)
_IS_ID = re.compile(r"(?:id|ID|key|email|phone|alias)$", re.IGNORECASE)
_KEYS = ("writeKey", "api_key")


@dataclass(frozen=True)
class Example:
    """One entry, in its own order or reversed."""

    name: str
    format: str
    sent: list[Any]  # requests, lines or rows
    expect: dict[str, Any]

    @property
    def ids(self) -> set[str]:
        """Return ids that would join two examples into one person, group or message."""
        people = [profile["identifiers"] for profile in self.expect["profiles"]]
        named = {text for _, text in _leaves([people, self.expect["memberships"]])}
        groups = {str(group["group_id"]) for group in self.expect["groups"]}
        sent = {text for key, text in _leaves(self.sent) if _IS_ID.search(key)}
        return named | groups | sent


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, member in value.items():
            yield from _leaves(member, name)
    elif isinstance(value, list):
        for member in value:
            yield from _leaves(member, key)
    elif value is not None and key not in _KEYS:
        yield key, str(value)


def _examples() -> list[Example]:
    found = []
    for path in sorted(EXAMPLES.glob("*.json")):
        if path.name == "snowplow_columns.json":
            continue
        for entry in json.loads(path.read_text()):
            part = {"http": "requests", "snowplow": "rows"}.get(
                entry["format"], "lines"
            )
            example = Example(
                entry["name"], entry["format"], entry[part], entry["expect"]
            )
            found.append(example)
            if entry.get("any_order"):
                name = f"{example.name}_reversed"
                found.append(replace(example, name=name, sent=example.sent[::-1]))
    return found


def _packed(examples: list[Example]) -> list[list[Example]]:
    """Group examples that can share a home folder because no id is in two of them."""
    packs: list[tuple[set[str], list[Example]]] = []
    for example in examples:
        ids = example.ids
        for taken, pack in packs:
            if taken.isdisjoint(ids):
                taken |= ids
                pack.append(example)
                break
        else:
            packs.append((set(ids), [example]))
    return [pack for _, pack in packs]


PACKS = _packed(_examples())


@pytest.mark.parametrize("pack", PACKS, ids=[pack[0].name for pack in PACKS])
def test_an_example_gives_what_its_page_means(
    make_warehouse: MakeWarehouse, pack: list[Example]
) -> None:
    warehouse = make_warehouse()
    keys = {
        example.name: make_key(warehouse.home, f"WK_{number}", name=example.name)
        for number, example in enumerate(pack)
        if example.format == "http"
    }
    faults = []
    if keys:
        with collecting(warehouse.home) as collector:
            for example in pack:
                if example.format == "http":
                    faults += _post(collector, example, keys[example.name])
        land_inbox(warehouse.home, PROJECT)
    for example in pack:
        if example.format != "http":
            _import(warehouse, example)
    warehouse.build(select=BUILT)
    for example in pack:
        found = _found(warehouse, example)
        faults += [f"{example.name}: {fault}" for fault in found]
    assert not faults, "\n".join(faults)


def _post(collector: Collecting, example: Example, key: str) -> list[str]:
    faults = []
    for request in example.sent:
        body = request["body"]
        if isinstance(body, dict):
            body = body | {name: key for name in _KEYS if name in body}
        answer = collector.post(request["path"], body, auth=(key, ""))
        wanted = example.expect.get("answer")
        if answer.status_code != 200 or wanted not in (None, answer.json()):
            faults.append(f"{example.name}: {answer.status_code} {answer.text}")
    return faults


def _import(warehouse: Warehouse, example: Example) -> None:
    folder = warehouse.home.path / "given" / example.name
    folder.mkdir(parents=True)
    if example.format == "snowplow":
        file = folder / "enriched.tsv"
        lines = ["\t".join(_cell(row.get(c)) for c in COLUMNS) for row in example.sent]
    else:
        file = folder / "events.json"
        lines = [json.dumps(line) for line in example.sent]
    file.write_text("".join(f"{line}\n" for line in lines))
    found = units([file], example.format)
    import_units(warehouse.home, PROJECT, found, example.name, workers=1)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"))


def _found(warehouse: Warehouse, example: Example) -> Iterator[str]:
    """Return the differences from the expectation."""
    source, expect = example.name, example.expect
    yield from _events(warehouse, source, expect["events"])
    disposed = warehouse.rows(
        "select disposition, reason from staging.dispositions "
        f"where source = '{source}' order by all"
    )
    rejected = sorted(reason for kind, reason in disposed if kind == "rejected")
    if rejected != sorted(expect["rejected"]):
        yield f"rejected {rejected}, not {expect['rejected']}"
    duplicates = sum(kind == "duplicate" for kind, _ in disposed)
    if duplicates != expect.get("duplicates", 0):
        yield f"{duplicates} duplicates"
    profiles = _profiles(warehouse, source)
    yield from _compared("profiles", profiles, expect["profiles"], _is_profile)
    groups = [
        {"group_type": type_, "group_id": id_, "traits": json.loads(traits)}
        for type_, id_, traits in warehouse.rows(
            f"""
            select group_type, group_id, traits from profiles.groups
            semi join (
                select * from profiles.int_group_calls where source = '{source}'
            ) using (group_type, group_id)
            """
        )
    ]
    yield from _compared("groups", groups, expect["groups"], _is_equal)
    members = [
        [[f"{type_}:{value}" for type_, value in identifiers], group_type, group_id]
        for identifiers, group_type, group_id in warehouse.rows(
            f"""
            select
                list((nodes.identifier_type, nodes.identifier_value)),
                members.group_type,
                members.group_id
            from profiles.group_members as members
            inner join identity.identity_nodes as nodes using (profile_id)
            where members.valid_to is null and profile_id in (
                select profile_id from profiles.profile_events
                where source = '{source}'
            )
            group by all
            """
        )
    ]
    yield from _compared("members", members, expect["memberships"], _is_member)


def _events(
    warehouse: Warehouse, source: str, expected: list[dict[str, Any]]
) -> Iterator[str]:
    relation = f"(select * from staging.events where source = '{source}')"
    names = [row[0] for row in warehouse.rows(f"describe {relation}")]
    rows = warehouse.rows(f"select * from {relation}")
    events = [dict(zip(names, row, strict=True)) for row in rows]
    yield from _compared("events", events, expected, _is_event)


def _profiles(warehouse: Warehouse, source: str) -> list[dict[str, Any]]:
    found = []
    for email, traits, count, identifiers in warehouse.rows(
        f"""
        select
            any_value(profiles.email),
            any_value(profiles.traits),
            any_value(profiles.count_events),
            list((nodes.identifier_type, nodes.identifier_value))
        from profiles.profiles as profiles
        inner join identity.identity_nodes as nodes using (profile_id)
        where profile_id in (
            select profile_id from profiles.profile_events where source = '{source}'
        )
        group by profile_id
        """
    ):
        by_type: dict[str, list[str]] = {}
        for type_, value in identifiers:
            by_type.setdefault(type_, []).append(value)
        found.append(
            {
                "identifiers": {name: sorted(ids) for name, ids in by_type.items()},
                "email": email,
                "traits": json.loads(traits),
                "count_events": count,
            }
        )
    return found


def _compared(
    what: str, actual: list[Any], expected: list[Any], is_match: Any
) -> Iterator[str]:
    """Return one line per missing and per unexpected result."""
    left = list(actual)
    for wanted in expected:
        match = next((one for one in left if is_match(one, wanted)), None)
        if match is None:
            yield f"{what}: no {json.dumps(wanted)}"
        else:
            left.remove(match)
    for one in left:
        shown = {k: v for k, v in one.items() if v} if isinstance(one, dict) else one
        yield f"{what}: unexpected {json.dumps(shown, default=str)}"


def _is_equal(actual: Any, wanted: Any) -> bool:
    """Compare as JSON: 1 is not true, and 1.0 is 1."""
    if isinstance(wanted, dict) and isinstance(actual, dict):
        return actual.keys() == wanted.keys() and all(
            _is_equal(actual[name], wanted[name]) for name in wanted
        )
    if isinstance(wanted, list) and isinstance(actual, list):
        return len(actual) == len(wanted) and all(map(_is_equal, actual, wanted))
    if isinstance(wanted, bool) or isinstance(actual, bool):
        return actual is wanted
    return bool(actual == wanted)


def _is_profile(actual: dict[str, Any], wanted: dict[str, Any]) -> bool:
    identifiers = dict(actual["identifiers"])
    either = wanted["identifiers"].get("any")
    if either is not None:
        ids = identifiers.pop("user_id", []) + identifiers.pop("anonymous_id", [])
        identifiers["any"] = sorted(ids)
    ids = {name: sorted(found) for name, found in wanted["identifiers"].items()}
    return (
        identifiers == ids
        and actual["email"] == wanted["email"]
        and _is_equal(actual["traits"], wanted["traits"])
        and wanted.get("count_events") in (None, actual["count_events"])
    )


def _is_member(actual: list[Any], wanted: list[Any]) -> bool:
    return wanted[0] in actual[0] and wanted[1:] == actual[1:]


def _is_event(actual: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return all(_is_column(actual, *member) for member in wanted.items())


def _is_column(actual: dict[str, Any], name: str, wanted: Any) -> bool:
    match name:
        case "timestamp_before_received_s":
            between = actual["received_at"] - actual["timestamp"]
            return bool(abs(between.total_seconds() - wanted) < 0.0015)
        case "timestamp" | "received_at" | "original_timestamp" | "sent_at":
            moment = datetime.fromisoformat(wanted).replace(tzinfo=None)
            return bool(actual[name] == moment)
        case "context_contains" | "context_lacks":
            values = {
                text for _, text in _leaves(json.loads(actual["context"] or "{}"))
            }
            is_there = [text in values for text in wanted]
            return all(is_there) if name == "context_contains" else not any(is_there)
        case "properties_contain":
            properties = json.loads(actual["properties"] or "{}")
            return _is_equal({k: properties.get(k) for k in wanted}, wanted)
        case "properties" | "traits" | "context" | "integrations":
            text = actual[name]
            return _is_equal(None if text is None else json.loads(text), wanted)
        case "consent":
            return _is_equal(json.loads(actual[name] or "null"), wanted)
        case _:
            return bool(actual[name] == wanted)
