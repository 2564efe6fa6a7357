"""The generated stream: deterministic, complete, and true under the identity rules."""

import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import phonenumbers
import pytest

from orchestration.demo.forms_and_webhooks import (
    Request,
    read_requests,
)
from orchestration.demo.generator import AS_OF, PLACEHOLDERS, generate
from orchestration.demo.last_login import read_lines
from orchestration.demo.truth import Identifier, Truth, score

Call = dict[str, Any]
Link = tuple[
    str, str, Identifier, Identifier
]  # received_at, message_id, stronger, other

KINDS = ("user_id", "email", "phone", "external_id", "anonymous_id", "device_id")
PRIORITY = {kind: place for place, kind in enumerate(KINDS, 1)}
LAST_STRONG = PRIORITY["external_id"]
MAX_PER_PROFILE = {"user_id": 3, "email": 5, "phone": 5, "external_id": 5}
BLOCKED = {value.lower() for value in PLACEHOLDERS}


@cache
def world(events: int) -> tuple[list[Call], Truth, list[Request]]:
    """Return all calls, slice 1 first, the truth and the requests, of seed 7."""
    with TemporaryDirectory() as folder:
        truth = generate(Path(folder), events=events, seed=7, as_of=AS_OF)
        calls = [json.loads(line) for line in read_lines(Path(folder))]
        return calls, truth, read_requests(Path(folder))


def stream(events: int) -> tuple[list[Call], Truth]:
    return world(events)[:2]


def message_id(call: Call) -> str:
    return str(call.get("messageId") or call.get("uuid") or call["id"])


def shape(call: Call) -> str:
    """Which of the four families of clients sent the call."""
    if "messageId" in call:
        return "web"
    if "user_id" in call:
        return "plain"
    return "posthog" if "uuid" in call else "native"


def accepted(calls: Iterable[Call]) -> list[Call]:
    """One call per message id: the first received."""
    first: dict[str, Call] = {}
    for call in sorted(calls, key=lambda call: call["receivedAt"]):
        first.setdefault(message_id(call), call)
    return list(first.values())


def traits(call: Call) -> Call:
    """Traits about a person, whatever the shape calls them."""
    properties = call.get("properties", {})
    if call.get("type") == "identify":
        return dict(call["traits"])
    system = {name: properties.get(f"${name}") for name in ("email", "plan")}
    return dict(properties.get("$set") or system)


def user_ids(calls: Iterable[Call]) -> set[str]:
    """Every value known as a user id: resolves `distinct_id`."""
    known = set()
    for call in calls:
        properties = call.get("properties", {})
        known |= {call.get("userId"), call.get("user_id"), properties.get("$user_id")}
        if "$anon_distinct_id" in properties:
            known.add(call["distinct_id"])
    return {value for value in known if value and value.lower() not in BLOCKED}


def identifiers(call: Call, users: set[str]) -> list[Identifier]:
    """Normalised identifiers of a call, strongest first, placeholders left out."""
    properties, person = call.get("properties", {}), traits(call)
    found = [
        ("user_id", call.get("userId") or call.get("user_id")),
        ("user_id", properties.get("$user_id")),
        ("anonymous_id", call.get("anonymousId")),
        ("anonymous_id", properties.get("$anon_distinct_id")),
        ("device_id", properties.get("$device_id")),
        ("email", (person.get("email") or "").strip().lower()),
    ]
    distinct = call.get("distinct_id")
    found.append(("user_id" if distinct in users else "anonymous_id", distinct))
    if person.get("phone"):
        number = phonenumbers.parse(person["phone"])
        form = phonenumbers.PhoneNumberFormat.E164
        found.append(("phone", phonenumbers.format_number(number, form)))
    kept = {(k, v) for k, v in found if v and v.lower() not in BLOCKED}
    return sorted(kept, key=lambda one: (PRIORITY[one[0]], one[1]))


def resolve(
    calls: list[Call], requests: Iterable[Request] = ()
) -> dict[Identifier, str]:
    """Follow the rules of identity plainly: (type, value) to profile."""
    users = user_ids(calls)
    parent: dict[Identifier, Identifier] = {}

    def find(value: Identifier) -> Identifier:
        while parent[value] != value:
            parent[value] = parent[parent[value]]
            value = parent[value]
        return value

    links: list[Link] = []
    for call in calls:
        found = identifiers(call, users)
        parent.update((value, value) for value in found)
        at = (call["receivedAt"], message_id(call))
        links += [(*at, found[0], other) for other in found[1:]]
    for request in requests:  # received later than everything else
        found = sorted(request.reveals, key=lambda one: PRIORITY[one[0]])
        parent.update((value, value) for value in found if value not in parent)
        links += [("9999", request.path, found[0], other) for other in found[1:]]
    users_of, weak_of = defaultdict(set), defaultdict(set)
    for _, _, left, right in links:
        if left[0] == "user_id" and right[0] in ("email", "phone"):
            users_of[right].add(left)
        if left[0] in ("email", "phone") and PRIORITY[right[0]] > LAST_STRONG:
            weak_of[left].add(right)
    hubs = {value for value, seen in users_of.items() if len(seen) > 3}
    hubs |= {value for value, seen in weak_of.items() if len(seen) > 100}
    links = sorted(link for link in links if not hubs & {link[2], link[3]})

    counts = {value: Counter([value[0]]) for value in parent}
    strong = [link for link in links if PRIORITY[link[3][0]] <= LAST_STRONG]
    strong.sort(key=lambda link: (PRIORITY[link[3][0]], PRIORITY[link[2][0]], *link))
    for _, _, left, right in strong:
        one, two = find(left), find(right)
        both = counts[one] + counts[two]
        if one != two and all(both[k] <= most for k, most in MAX_PER_PROFILE.items()):
            parent[two], counts[one] = one, both

    attached: set[Identifier] = set()
    for _, _, left, right in links:
        if (
            PRIORITY[left[0]] <= LAST_STRONG < PRIORITY[right[0]]
            and right not in attached
        ):
            attached.add(right)
            parent[find(right)] = find(left)
    for _, _, left, right in links:
        if PRIORITY[left[0]] > LAST_STRONG:
            for loose, other in ((left, right), (right, left)):
                if loose not in attached:
                    attached.add(loose)
                    parent[find(loose)] = find(other)
    return {value: ":".join(find(value)) for value in list(parent)}


def happened_at(call: Call) -> datetime:
    """The client's time, corrected when its clock was more than a minute off."""
    if "timestamp" in call:
        return datetime.fromisoformat(call["timestamp"])
    at = datetime.fromisoformat(call["originalTimestamp"])
    skew = datetime.fromisoformat(call["receivedAt"])
    skew_by = skew - datetime.fromisoformat(call["sentAt"])
    return at + skew_by if abs(skew_by) > timedelta(seconds=60) else at


def membership(call: Call) -> tuple[str, str] | None:
    """Company id and plan, when the call names one."""
    if call.get("type") == "group":
        return call["groupId"], call["traits"]["plan"]
    properties = call.get("properties", {})
    if call.get("event") == "$groupidentify":
        return properties["$group_key"], properties["$group_set"]["plan"]
    group = properties.get("$group")
    return (group["$group_id"], group["plan"]) if group else None


class Profile:
    """What is known about one profile at an instant, latest statement wins."""

    def __init__(self) -> None:
        self.events: list[tuple[datetime, str, Call]] = []
        self.plan: str | None = None
        self.company: str | None = None
        self.has_email = False
        self.denied = False

    def ages(self, now: datetime, *names: str, at_least: float = 0) -> list[float]:
        """Days since each event of these names (all events if none is named)."""
        return [
            (now - at).total_seconds() / 86_400
            for at, name, call in self.events
            if (not names or name in names)
            and float(call.get("properties", {}).get("total", at_least)) >= at_least
        ]


@cache
def audiences(events: int, instant: int) -> dict[str, frozenset[str]]:
    """Members by audience; a member is its profile's smallest true identifier."""
    now = AS_OF[instant]
    stamp = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    calls = accepted(c for c in stream(events)[0] if c["receivedAt"] < stamp)
    assignment, users = resolve(calls), user_ids(calls)
    profiles: dict[str, Profile] = defaultdict(Profile)
    company_plans: dict[str, str] = {}
    for at, call in sorted(((happened_at(c), c) for c in calls), key=lambda p: p[0]):
        found = identifiers(call, users)
        profile = profiles[assignment[found[0]]]
        name = str(call.get("event", call.get("type"))).lower().replace(" ", "_")
        if call.get("type") == "page" or name == "$pageview":
            name = "page"
        profile.events.append((at, name, call))
        profile.plan = traits(call).get("plan") or profile.plan
        profile.has_email |= any(
            identifier_type == "email" for identifier_type, _ in found
        )
        joined = membership(call)
        if joined:
            profile.company, company_plans[joined[0]] = joined[0], joined[1]
        consent = call.get("context", {}).get("consent")
        if consent:
            profile.denied = not consent["categoryPreferences"]["advertising"]

    def members(condition: Any) -> frozenset[str]:
        return frozenset(key for key, profile in profiles.items() if condition(profile))

    def count(p: Profile, days: float, *names: str, at_least: float = 0) -> int:
        return sum(0 < age <= days for age in p.ages(now, *names, at_least=at_least))

    by_name = {
        "pricing_viewers": members(
            lambda p: (
                count(p, 30, "viewed_pricing") >= 2
                and p.plan == "free"
                and not p.ages(now, "completed_onboarding")
            )
        ),
        "cart_abandoners": members(
            lambda p: count(p, 3, "cart_updated") and not count(p, 3, "order_completed")
        ),
        "high_value_customers": members(
            lambda p: count(p, 30, "order_completed", at_least=100) >= 2
        ),
        "trial_not_activated": members(
            lambda p: count(p, 14, "trial_started") and not p.ages(now, "feature_used")
        ),
        "churn_risk": members(
            lambda p: (
                p.plan in ("growth", "scale")
                and p.ages(now, "order_completed", "feature_used")
                and not count(p, 14, "page", "feature_used")
            )
        ),
        "enterprise_accounts": members(
            lambda p: company_plans.get(p.company or "") == "enterprise"
        ),
        "newsletter_reactivation": members(
            lambda p: (
                p.has_email and not p.denied and not count(p, 30) and count(p, 60) > 0
            )
        ),
    }
    # Roots of the union may differ between instants, persons do not.
    person_of = {
        assignment[one]: person.person_id
        for person in stream(events)[1].people
        for one in person.identifiers
        if one in assignment
    }
    return {
        name: frozenset(person_of[key] for key in keys if key in person_of)
        for name, keys in by_name.items()
    }


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        generate(tmp_path / folder, events=3_000, seed=3, as_of=AS_OF)
    generate(tmp_path / "other", events=3_000, seed=4, as_of=AS_OF)
    files = ("slice-1.ndjson.gz", "slice-2.ndjson.gz", "truth.json")
    for name in (*files, "requests.ndjson"):
        one = (tmp_path / "one" / name).read_bytes()
        assert one == (tmp_path / "two" / name).read_bytes()
        assert one != (tmp_path / "other" / name).read_bytes()


def test_plain_files_hold_the_same_lines_and_replace_the_packed(tmp_path: Path) -> None:
    generate(tmp_path, events=500, seed=3, as_of=AS_OF)
    packed = gzip.decompress((tmp_path / "slice-1.ndjson.gz").read_bytes())
    generate(tmp_path, events=500, seed=3, as_of=AS_OF, compress=False)
    assert (tmp_path / "slice-1.ndjson").read_bytes() == packed
    assert not (tmp_path / "slice-1.ndjson.gz").exists()


@pytest.mark.parametrize("events", [0, 1, 7, 100, 1_999, 2_001])
def test_exactly_the_asked_number_of_events(tmp_path: Path, events: int) -> None:
    truth = generate(tmp_path, events=events, seed=3, as_of=AS_OF)
    assert sum(1 for _ in read_lines(tmp_path)) == events
    assert Truth.load(tmp_path / "truth.json") == truth


def test_instants_without_a_zone_are_refused(tmp_path: Path) -> None:
    naive = (datetime(2026, 5, 1), datetime(2026, 5, 2))
    with pytest.raises(ValueError, match="as_of"):
        generate(tmp_path, events=10, seed=3, as_of=naive)


def test_slices_are_cut_by_the_time_of_receipt(tmp_path: Path) -> None:
    generate(tmp_path, events=20_000, seed=3, as_of=AS_OF, compress=False)
    slices = []
    for number in (1, 2):
        lines = (tmp_path / f"slice-{number}.ndjson").read_text().splitlines()
        received = [
            datetime.fromisoformat(json.loads(line)["receivedAt"]) for line in lines
        ]
        slices.append(received)
    assert max(slices[0]) < AS_OF[0] <= min(slices[1])
    assert max(slices[1]) < AS_OF[1]
    assert min(slices[0]) > AS_OF[0] - timedelta(days=61)
    assert slices[0] != sorted(slices[0])
    assert 0.15 <= len(slices[1]) / 20_000 <= 0.20


@pytest.mark.parametrize("events", [2_000, 20_000])
def test_every_hardship_occurs(events: int) -> None:
    calls, truth = stream(events)
    first = {message_id(call): call for call in accepted(calls)}
    content = {key: call.get("properties") for key, call in first.items()}
    repeats = len(calls) - len(first)
    conflicts = sum(
        call.get("properties") != content[message_id(call)] for call in calls
    )
    assert 0.005 < (repeats - conflicts) / len(calls) < 0.015
    assert 0 < conflicts / len(calls) < 0.001

    devices = {c.get("anonymousId") or c.get("distinct_id") for c in calls}
    assert len(truth.shared_devices) / len(devices - user_ids(calls)) >= 0.01
    logins = defaultdict(set)
    for call in calls:
        if call.get("userId"):
            logins[call["anonymousId"]].add(call["userId"])
    assert {len(logins[tablet]) for tablet in truth.shared_devices} <= {2, 3, 4, 5}
    for tablet in truth.shared_devices:
        used = [c for c in calls if c.get("anonymousId") == tablet]
        assert any(c["userId"] is None for c in used)

    accounts = defaultdict(set)
    for call in calls:
        email = (traits(call).get("email") or "").strip().lower()
        if call["receivedAt"] < "2026-05-01":
            accounts[email].add(next(iter(identifiers(call, user_ids([call]))), None))
    assert truth.hub_emails
    assert all(len(accounts[mailbox]) >= 4 for mailbox in truth.hub_emails)

    late = skewed = 0
    for call in calls:
        received = datetime.fromisoformat(call["receivedAt"])
        late += received - happened_at(call) > timedelta(hours=1)
        if "sentAt" in call:
            sent = datetime.fromisoformat(call["sentAt"])
            skewed += abs(received - sent) > timedelta(minutes=50)
    assert 0.02 < late / len(calls) < 0.06
    assert 0.005 < skewed / len(calls) < 0.1

    shapes = Counter(shape(call) for call in calls)
    few = events < 10_000  # one heavy user more or less shows
    assert 0.15 < shapes["posthog"] / len(calls) < (0.35 if few else 0.25)
    assert shapes["plain"] and shapes["native"] and shapes["web"] > len(calls) / 2
    one_call = [c for c in calls if "$user_id" in c.get("properties", {})]
    assert any("$group" in call["properties"] for call in one_call)

    sent_ids = {c.get("userId") for c in calls} | {
        traits(c).get("email") for c in calls
    }
    assert sent_ids & set(PLACEHOLDERS)
    assert any(email and email != email.strip() for email in sent_ids)
    counts = [
        Counter(identifier_type for identifier_type, _ in person.identifiers)
        for person in truth.people
    ]
    for identifier_type, number in (
        ("user_id", 2),
        ("user_id", 3),
        ("email", 2),
        ("phone", 1),
    ):
        assert any(count[identifier_type] == number for count in counts)
    assert any(count["email"] and not count["user_id"] for count in counts)
    assert any(count["anonymous_id"] == 3 for count in counts)
    assert any(person.is_anonymous for person in truth.people)
    assert any('"advertising": false' in json.dumps(call) for call in calls)


def test_types_and_names_drift() -> None:
    calls, _ = stream(20_000)
    viewed = [
        c for c in calls if c.get("event") in ("Product Viewed", "product_viewed")
    ]
    assert {type(c["properties"]["price"]) for c in viewed} == {float, str}
    assert {"Viewed Pricing", "viewed_pricing"} <= {
        c["event"] for c in calls if c.get("type") == "track"
    }
    new = [c["receivedAt"] for c in calls if "experiment" in c.get("properties", {})]
    assert min(new) >= "2026-05-01"


def test_lines_have_a_realistic_size(tmp_path: Path) -> None:
    generate(tmp_path, events=4_000, seed=3, as_of=AS_OF, compress=False)
    lines = list(read_lines(tmp_path))
    assert 500 <= sum(map(len, lines)) / len(lines) <= 900


def test_phones_are_valid_numbers() -> None:
    _, truth = stream(20_000)
    phones = [
        v
        for p in truth.people
        for identifier_type, v in p.identifiers
        if identifier_type == "phone"
    ]
    assert len(phones) > 200
    assert all(phonenumbers.is_valid_number(phonenumbers.parse(v)) for v in phones)


def test_every_identifier_belongs_to_one_person() -> None:
    _, truth = stream(20_000)
    values = [one for person in truth.people for one in person.identifiers]
    assert len(values) == len(set(values))
    hidden = {value.lower() for value in PLACEHOLDERS} | set(truth.shared_devices)
    hidden |= set(truth.hub_emails)
    assert not hidden & {value for _, value in values}


@pytest.mark.parametrize("events", [2_000, 20_000])
def test_the_rules_find_the_truth(events: int) -> None:
    calls, truth, requests = world(events)
    found = score(truth, resolve(accepted(calls), requests))
    assert (found.wrong_fusions, found.missed) == (0, 0)


@pytest.mark.parametrize("events", [2_000, 20_000])
def test_every_audience_gains_and_loses(events: int) -> None:
    before, after = audiences(events, 0), audiences(events, 1)
    assert len(before) == 7
    for name, members in before.items():
        assert members - after[name], f"no member left {name}"
        assert after[name] - members, f"no member entered {name}"
        assert members & after[name], f"no member stayed in {name}"
