"""`Rulebook.keeps` is a short cut: whatever it says, `decide` says, too."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from connectors.events.admission import Admission
from connectors.events.event_builder import Origin
from connectors.events.identifiers import IdentifierRules
from connectors.events.policy import Policy
from connectors.events.rulebook import Rulebook

PROJECT = Path(__file__).parents[2]
NOW = 1_776_165_218_000_000

PLAN = """
event: plan_changed
version: 2
consent: [analytics]
schema:
  type: object
  required: [plan]
  properties: {plan: {type: string}}
"""
OLD_PLAN = "event: plan_changed\nschema: {}\n"
FREE = """
event: free
on_violation: drop_property
schema: {properties: {a: {type: integer}}}
"""
CHOICE = """
event: Segment Consent Preference Updated
consent: [analytics]
schema: {}
"""
ALTERED = "event: altered\nschema: {}\n"
ALTERING = "match: {event: altered}\ndo: [set: {properties.a: 1}]\n"

EVENTS = ("Plan Changed", "free", "Segment Consent Preference Updated", "altered", "x")
PROPERTIES: tuple[Any, ...] = (
    None,
    {},
    {"plan": "free"},
    {"plan": 7},
    {"a": "x"},
    [],
    "text",
)
CONTEXTS: tuple[Any, ...] = (
    None,
    "text",
    {},
    {"consent": {"categoryPreferences": {"analytics": True}}},
    {"consent": {"categoryPreferences": {"analytics": False}}},
    {"consent": {"categoryPreferences": {}}},
    {"consentManagement": {"deniedConsentIds": ["analytics"]}},
    {"consentManagement": {"allowedConsentIds": ["analytics"]}},
    {"protocols": {"event_version": 1}},
    {"protocols": {"event_version": 9}},
    {"protocols": {}},
)
POLICIES = (
    Policy(),
    Policy(no_consent="require"),
    Policy(no_consent="assume_false"),
    Policy(convention="camelCase"),
    Policy(naming="reject"),
    Policy(object_action=True),
    Policy(unknown_events="flag"),
    Policy(events=frozenset({"plan_changed"})),
    Policy(types=frozenset({"page"})),
)


class Asked(Rulebook):
    """Always asks `decide`, and counts how often it need not have."""

    count_kept = 0

    def keeps(self, *about: Any, **more: Any) -> None:
        if super().keeps(*about, **more) is not None:
            self.count_kept += 1


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "connectors" / "events"
    for kind, texts in {
        "contracts": (PLAN, OLD_PLAN, FREE, CHOICE, ALTERED),
        "transformations": (ALTERING,),
    }.items():
        (folder / kind).mkdir(parents=True)
        for number, text in enumerate(texts):
            (folder / kind / f"{number:03}.yml").write_text(text)
    return tmp_path


def test_the_short_cut_and_the_long_way_decide_the_same(project: Path) -> None:
    identifiers = IdentifierRules.load(PROJECT)
    asked = Asked.load(project)
    assert isinstance(asked, Asked)
    short = Admission(identifiers, Rulebook.load(project))
    long = Admission(identifiers, asked)
    count = 0
    for name, properties, context, policy, gpc in itertools.product(
        EVENTS, PROPERTIES, CONTEXTS, POLICIES, (False, True)
    ):
        call = {"type": "track", "event": name, "messageId": "m", "userId": "u"}
        call |= {"properties": properties, "context": context}
        origin = Origin(
            *("web", "web", "http", "s", NOW),
            keeps_received_at=False,
            policy=policy,
            gpc=gpc,
        )
        found, wanted = short.decide(call, origin), long.decide(call, origin)
        assert found == wanted, (call, policy, gpc)
        count += 1
    assert count > 5000
    assert 100 < asked.count_kept < count / 2  # the short cut was taken, and not always


def test_an_event_that_is_altered_always_takes_the_long_way(project: Path) -> None:
    rules = Rulebook.load(project)
    policy = Policy()
    assert rules.concerns(policy, "web", "track", "altered")
    assert rules.keeps(policy, "web", "altered", {}, {}) is None
    assert rules.concerns(policy, "web", "track", "free")
    assert rules.keeps(policy, "web", "free", {}, {}) == 1
