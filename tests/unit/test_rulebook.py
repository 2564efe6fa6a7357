"""The order of the rules, and what a key asks of names and types."""

import re
from pathlib import Path
from typing import Any

import pytest

from connectors.events.admission import Admission
from connectors.events.canonical import TYPES
from connectors.events.event_builder import Origin
from connectors.events.identifiers import IdentifierRules
from connectors.events.policy import Policy
from connectors.events.rows import Admitted
from connectors.events.rulebook import Concern, Rulebook
from tests.support.rule_files import Rules, decided, event
from tests.support.sdk_wire import RECORDED, body, scenarios

PLAN = "event: plan_changed\nconsent: [analytics]\nschema: {required: [plan_type]}\n"
NO_CONSENT: dict[str, Any] = {"consent": {"categoryPreferences": {}}}
RULES = Rulebook()  # of a project that has none
SDKS = Origin("web", "web", "http", "s", 1_795_255_200_000_000, keeps_received_at=False)


# Permissions


@pytest.mark.parametrize(
    ("policy", "kind", "text", "reason"),
    [
        (Policy(), "track", "A", None),
        (Policy(types=frozenset({"identify"})), "identify", None, None),
        (Policy(types=frozenset({"identify"})), "track", "A", "type_not_allowed"),
        (Policy(types=frozenset()), "page", None, "type_not_allowed"),
        (Policy(events=frozenset({"a_b"})), "track", "aB", None),
        (Policy(events=frozenset({"a_b"})), "track", "a", "event_not_allowed"),
        (Policy(events=frozenset({"a_b"})), "track", None, "event_not_allowed"),
        (Policy(events=frozenset({"a_b"})), "identify", None, None),
        (
            Policy(events=frozenset({"a_b"}), types=frozenset({"page"})),
            *("track", "a b", None),
        ),
        (
            Policy(events=frozenset({"a_b"}), types=frozenset({"page"})),
            *("identify", None, "type_not_allowed"),
        ),
    ],
)
def test_a_key_may_send_what_it_is_allowed_to(
    policy: Policy, kind: str, text: str | None, reason: str | None
) -> None:
    outcome = decided(RULES, event(text, type=kind), policy)
    assert outcome == (("rejected", reason) if reason else None)


# Names


@pytest.mark.parametrize(
    ("convention", "sent", "name", "is_flagged"),
    [
        (None, "Order Completed", "order_completed", False),
        ("snake_case", "order_completed", "order_completed", False),
        ("snake_case", "Order Completed", "order_completed", True),
        ("camelCase", "orderCompleted", "order_completed", False),
        ("camelCase", "Order Completed", "order_completed", True),
        ("camelCase", "order_completed", "order_completed", True),
        ("camelCase", "signup", "signup", False),
        ("TitleCase", "OrderCompleted", "order_completed", False),
        ("TitleCase", "orderCompleted", "order_completed", True),
        ("TitleCase", "$pageview", "$pageview", False),
        ("TitleCase", None, None, False),
    ],
)
def test_one_event_has_one_name_and_a_key_lists_how_it_should_have_been_sent(
    convention: Any, sent: str | None, name: str | None, is_flagged: bool
) -> None:
    given = event(sent)
    assert decided(RULES, given, Policy(convention=convention)) is None
    assert (given.event, given.event_text) == (name, sent)
    assert given.violations == [f"event_name_not_{convention}"] * is_flagged


@pytest.mark.parametrize(
    ("convention", "sent", "is_kept"),
    [
        ("snake_case", "order_completed", True),
        ("snake_case", "Order Completed", False),
        ("snake_case", "order_completed ", False),
        ("camelCase", "orderCompleted", True),
        ("camelCase", "order_completed", False),
        ("TitleCase", "OrderCompleted", True),
        ("TitleCase", "Order Completed", False),
        ("TitleCase", "$pageview", True),
        ("TitleCase", None, True),
    ],
)
def test_a_key_may_refuse_names_that_are_written_otherwise(
    convention: Any, sent: str | None, is_kept: bool
) -> None:
    policy = Policy(naming="reject", convention=convention)
    outcome = decided(RULES, event(sent), policy)
    assert outcome == (
        None if is_kept else ("rejected", f"event_name_not_{convention}")
    )


def test_a_name_that_is_no_object_and_action_is_listed_or_refused() -> None:
    given = event("Signup")
    assert decided(RULES, given, Policy(object_action=True)) is None
    assert given.violations == ["event_name_not_object_action"]
    given, both = event("Signup"), Policy(object_action=True, convention="camelCase")
    assert decided(RULES, given, both) is None
    assert given.violations == [
        "event_name_not_camelCase",
        "event_name_not_object_action",
    ]
    policy = Policy(object_action=True, naming="reject")
    outcome = decided(RULES, event("signup"), policy)
    assert outcome == ("rejected", "event_name_not_object_action")
    for name in ("order_completed", "$identify"):
        assert decided(RULES, event(name), policy) is None


@pytest.mark.parametrize("convention", ["camelCase", "TitleCase"])
def test_rules_match_snake_case_whatever_the_convention(
    rules: Rules, convention: Any
) -> None:
    rules.contract("event: plan_changed\nschema: {required: [plan_type]}\n")
    rules.transformation(
        "phase: before_contract\nmatch: {event: plan_changed}\n"
        "do: [set: {properties.plan_type: free}, drop_if: {event: planChanged}]"
    )
    given = event("Plan Changed")
    assert decided(rules.load(), given, Policy(convention=convention)) is None
    assert given.contract_version == 1
    assert given.event == "plan_changed"


# Order


def test_every_rule_stands_where_it_should(rules: Rules) -> None:
    rules.contract(PLAN)
    for phase in ("before_contract", "after_contract"):
        rules.transformation(
            f"phase: {phase}\ndo: [drop_if: {{properties.{phase}: true}}]",
            f"010_{phase}.yml",
        )
    book = rules.load()
    policy = Policy(types=frozenset(), naming="reject")
    first = event(context=NO_CONSENT, properties={"before_contract": True})
    assert decided(book, first, policy) == ("rejected", "type_not_allowed")
    assert decided(book, first, Policy(naming="reject")) == (
        *("rejected", "event_name_not_snake_case"),
    )
    assert decided(book, first) == ("consent_filtered", "consent: analytics")
    dropping = {"before_contract": True, "after_contract": True}
    assert decided(book, event(properties=dropping)) == (
        *("dropped", "transformation 010_before_contract"),
    )
    late = event(properties={"after_contract": True})
    outcome = decided(book, late)
    assert outcome and outcome.disposition == "quarantined"
    late = event(properties={"after_contract": True, "plan_type": 1})
    assert decided(book, late) == ("dropped", "transformation 010_after_contract")


# What admission need not ask about


def test_nothing_concerns_a_project_without_rules() -> None:
    for kind in TYPES:
        assert RULES.concerns(Policy(), "web", kind, "X") is Concern.NONE


@pytest.mark.parametrize(
    ("policy", "text", "concern"),
    [
        (Policy(), "Other", Concern.NONE),
        (Policy(), "Plan Changed", Concern.QUICK),
        (Policy(), "altered", Concern.QUICK),
        (Policy(), "looked_up", Concern.WAITS),
        (Policy(), "renamed", Concern.WAITS),  # it may become `looked_up`
        (Policy(unknown_events="flag"), "other", Concern.QUICK),
        (Policy(no_consent="require"), "other", Concern.QUICK),
        (Policy(no_consent="assume_false"), "other", Concern.NONE),
        (Policy(naming="reject"), "Other Thing", Concern.QUICK),
        (Policy(naming="reject"), "other", Concern.NONE),
        (Policy(convention="TitleCase"), "other", Concern.QUICK),
        (Policy(convention="TitleCase"), "Other", Concern.NONE),
        (Policy(convention="TitleCase"), "$other", Concern.NONE),
        (Policy(object_action=True), "other", Concern.QUICK),
        (Policy(object_action=True), "other_done", Concern.NONE),
        (Policy(types=frozenset({"page"})), "other", Concern.QUICK),
        (Policy(types=frozenset({"track"})), "other", Concern.NONE),
    ],
)
def test_what_concerns_an_event_is_known_by_its_name(
    rules: Rules, policy: Policy, text: str, concern: Concern
) -> None:
    rules.contract(PLAN)
    rules.transformation("match: {event: altered}\ndo: [remove: [properties.a]]")
    rules.transformation("match: {event: renamed}\ndo: [set: {event: x}]", "020.yml")
    rules.transformation(
        "match: {event: looked_up}\ndo: [lookup: {url: 'http://127.0.0.1:9/{key}',"
        " key: user_id, take: {}}]",
        "030.yml",
    )
    book = rules.load()
    for _ in range(2):  # worked out, and remembered
        assert book.concerns(policy, "web", "track", text) is concern


def test_two_keys_of_one_source_have_their_own_rules() -> None:
    strict = Policy(unknown_events="quarantine")
    for _ in range(2):
        assert decided(RULES, event("a")) is None
        assert decided(RULES, event("a"), strict) == ("quarantined", "no_contract")


def test_keys_that_come_and_go_never_get_each_others_rules() -> None:
    book = Rulebook()
    for number in range(300):
        allowed = "page" if number % 3 else "track"
        policy = Policy(types=frozenset({allowed}))
        found = book.concerns(policy, "web", "track", "a")
        assert found is (Concern.QUICK if allowed == "page" else Concern.NONE)
        del policy  # the next one may get its place in memory


def test_a_flood_of_names_is_not_remembered_for_ever() -> None:
    book = Rulebook()
    policy = Policy(events=frozenset({"good"}))
    for number in range(25_000):
        book.concerns(policy, "web", "track", f"name_{number}")
    book.concerns(policy, "web", "track", "x" * 1_000_000)
    assert len(book._kinds) <= 10_000 and len(book._courses) <= 10_000
    assert decided(book, event("good"), policy) is None
    assert decided(book, event("bad"), policy) is not None


@pytest.mark.parametrize("hostile", [["a"], {"a": 1}, 7, True, "", "  ", "\0", None])
def test_whatever_was_sent_as_a_name_is_answered(hostile: Any) -> None:
    for kind in ("track", "identify", "page"):
        RULES.concerns(Policy(unknown_events="flag"), "web", kind, hostile)


# What the project ships


def test_the_projects_own_files_hold_their_examples(project_path: Path) -> None:
    Rulebook.load(project_path, {})


def test_the_project_leaves_what_sdks_send_as_it_is(project_path: Path) -> None:
    identifiers = IdentifierRules.load(project_path)
    with_rules, without = Admitted(), Admitted()
    ways = (
        (Admission(identifiers, Rulebook.load(project_path, {})), with_rules),
        (Admission(identifiers, RULES), without),
    )
    for file in RECORDED:
        for requests in scenarios(file).values():
            for request in requests:
                for admission, out in ways:
                    admission.admit_bytes(body(request), SDKS, out)
    assert len(without.events) > 300
    # Ids that the sender left out are random.
    assert [row[1:-1] for row in with_rules.events] == [
        row[1:-1] for row in without.events
    ]
    assert len(with_rules.dispositions) == len(with_rules.events)


# The guide


def _written(project_path: Path, folder: str) -> list[tuple[str, str]]:
    """Files of a folder as docs/rules.md shows them: name and text."""
    guide = (project_path / "docs" / "rules.md").read_text(encoding="utf-8")
    shown = rf"`{re.escape(folder)}/([\w.]+)`:?\n\n```\w+\n(.*?)```"
    return re.findall(shown, guide, re.DOTALL)


def test_the_examples_of_the_guide_work(project_path: Path, rules: Rules) -> None:
    for name, text in _written(project_path, "connectors/events/contracts"):
        rules.contract(text, name)
    for name, text in _written(project_path, "connectors/events/transformations"):
        rules.transformation(text, name)
    for name, text in _written(project_path, "seeds"):
        rules.table(text, f"seeds/{name}")
    book = rules.load(GEO_TOKEN="t")
    assert len(book.contracts) >= 1 and len(book.transformations) >= 3
