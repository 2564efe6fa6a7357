"""What an event may contain, and what becomes of one that contains something else."""

import copy
import json
import time
from typing import Any

import pytest

from connectors.events.policy import Policy
from tests.support.rule_files import Rules, decided, event

PLAN = """\
event: plan_changed
version: 2
on_violation: {on_violation}
schema:
  type: object
  required: [plan_type]
  properties:
    plan_type: {{type: string, enum: [free, growth, scale]}}
    seats: {{type: integer, minimum: 1}}
examples:
  accepted: [{{plan_type: growth}}]
  refused: [{{properties: {{plan_type: 7}}, because: plan_type}}]
"""
BAD = {"plan_type": "growth", "seats": 0, "coupon": "jane@example.com"}


def plan(on_violation: str = "quarantine") -> str:
    return PLAN.format(on_violation=on_violation)


def schema(text: str, on_violation: str = "quarantine") -> str:
    return f"event: plan_changed\non_violation: {on_violation}\nschema: {text}\n"


# What becomes of an event


def test_an_event_that_keeps_its_contract_passes_with_the_version(rules: Rules) -> None:
    rules.contract(plan())
    given = event(properties={"plan_type": "growth", "seats": 3})
    assert decided(rules.load(), given) is None
    assert (given.contract_version, given.violations) == (2, [])


@pytest.mark.parametrize("sent", ["plan_changed", "planChanged", "Plan Changed"])
def test_a_contract_is_found_whatever_way_the_name_is_written(
    rules: Rules, sent: str
) -> None:
    rules.contract(plan())
    assert decided(rules.load(), event(sent, properties=BAD)) is not None


@pytest.mark.parametrize(
    ("on_violation", "disposition"),
    [("block", "rejected"), ("quarantine", "quarantined")],
)
def test_the_reason_names_properties_and_keywords_and_no_values(
    rules: Rules, on_violation: str, disposition: str
) -> None:
    rules.contract(plan(on_violation))
    outcome = decided(rules.load(), event(properties={"plan_type": "jane", "seats": 0}))
    assert outcome == (
        disposition,
        "contract plan_changed v2: plan_type: enum; seats: minimum",
    )


def test_a_flagged_event_passes_as_it_is(rules: Rules) -> None:
    rules.contract(plan("flag"))
    given = event(properties=BAD)
    assert decided(rules.load(), given) is None
    assert given.properties is BAD
    assert given.violations == ["contract plan_changed v2: seats: minimum"]


def test_offending_properties_are_dropped_and_listed(rules: Rules) -> None:
    rules.contract(plan("drop_property"))
    given, before = event(properties=BAD), copy.deepcopy(BAD)
    assert decided(rules.load(), given) is None
    assert given.properties == {"plan_type": "growth", "coupon": "jane@example.com"}
    assert given.violations == ["contract plan_changed v2: seats: minimum (dropped)"]
    assert before == BAD  # what came in is never changed itself


def test_a_missing_property_cannot_be_dropped_and_is_flagged(rules: Rules) -> None:
    rules.contract(plan("drop_property"))
    given = event(properties={"seats": 2})
    assert decided(rules.load(), given) is None
    assert given.properties == {"seats": 2}
    assert given.violations == ["contract plan_changed v2: plan_type: required"]


def test_a_whole_property_is_dropped_for_what_is_wrong_inside(rules: Rules) -> None:
    rules.contract(
        schema("{properties: {cart: {items: {required: [sku]}}}}", "drop_property")
    )
    given = event(properties={"cart": [{"sku": 1}, {}, {}], "ok": 1})
    assert decided(rules.load(), given) is None
    assert given.properties == {"ok": 1}
    assert given.violations == [
        "contract plan_changed v1: cart[].sku: required (dropped)"
    ]


def test_properties_that_no_contract_names_are_dropped(rules: Rules) -> None:
    text = "{properties: {a: {}}, additionalProperties: false}"
    rules.contract(schema(text, "drop_property"))
    given = event(properties={"a": 1, "b": 2, "c": 3})
    assert decided(rules.load(), given) is None
    assert given.properties == {"a": 1}


@pytest.mark.parametrize("properties", [None, {}])
def test_missing_properties_are_judged_as_none(rules: Rules, properties: Any) -> None:
    rules.contract(plan())
    outcome = decided(rules.load(), event(properties=properties))
    assert outcome and outcome.reason == (
        "contract plan_changed v2: plan_type: required"
    )


@pytest.mark.parametrize("on_violation", ["quarantine", "drop_property", "flag"])
def test_properties_that_are_no_object_break_a_contract(
    rules: Rules, on_violation: str
) -> None:
    rules.contract(plan(on_violation))
    given = event(properties=["plan_type"])
    outcome = decided(rules.load(), given)
    said = outcome.reason if outcome else given.violations[0]
    assert said == "contract plan_changed v2: properties: type"


def test_a_format_is_asserted(rules: Rules) -> None:
    rules.contract(schema("{properties: {at: {format: date-time}}}"))
    book = rules.load()
    assert decided(book, event(properties={"at": "2026-01-01T00:00:00Z"})) is None
    assert decided(book, event(properties={"at": "yesterday"})) is not None


def test_a_calls_own_type_has_no_contract(rules: Rules) -> None:
    rules.contract(plan())
    given = event(type="page", properties=BAD)
    assert decided(rules.load(), given) is None
    assert given.contract_version is None


# Hostile events


@pytest.mark.parametrize("on_violation", ["quarantine", "flag", "drop_property"])
def test_an_event_that_breaks_its_contract_everywhere_costs_little(
    rules: Rules, on_violation: str
) -> None:
    rules.contract(schema("{additionalProperties: {type: integer}}", on_violation))
    given = event(properties={f"property_{n}": "x" for n in range(40_000)})
    book = rules.load()
    started = time.process_time()
    outcome = decided(book, given)
    assert time.process_time() - started < 2
    said = [outcome.reason] if outcome else given.violations
    assert 0 < len("".join(said)) < 10_000
    if on_violation == "drop_property":  # never stored as if it had been mended
        assert outcome is not None and outcome.disposition == "quarantined"


def test_a_very_long_name_of_a_property_is_cut_in_the_reason(rules: Rules) -> None:
    rules.contract(schema("{additionalProperties: {type: integer}}"))
    outcome = decided(rules.load(), event(properties={"x" * 5000: "y"}))
    assert outcome is not None and len(outcome.reason) < 300


# Versions

V1 = "event: plan_changed\nschema: {required: [plan]}\n"


@pytest.mark.parametrize(
    ("asked", "version", "violations"),
    [
        (None, 2, []),
        (1, 1, []),
        ("1", 1, []),
        (1.0, 1, []),
        (2, 2, []),
        (3, 2, ["contract_version_unknown"]),
        ("1.2.0", 2, ["contract_version_unknown"]),
        (True, 2, ["contract_version_unknown"]),
        ([1], 2, ["contract_version_unknown"]),
        ({}, 2, ["contract_version_unknown"]),
    ],
)
def test_an_event_may_ask_for_a_version_and_else_gets_the_highest(
    rules: Rules, asked: Any, version: int, violations: list[str]
) -> None:
    rules.contract(V1, "plan_changed_v1.yml")
    rules.contract(plan(), "plan_changed.yml")
    given = event(
        properties={"plan": "free", "plan_type": "free"},
        context={"protocols": {"event_version": asked}},
    )
    assert decided(rules.load(), given) is None
    assert (given.contract_version, given.violations) == (version, violations)


def test_the_version_decides_which_contract_is_kept(rules: Rules) -> None:
    rules.contract(V1, "plan_changed_v1.yml")
    rules.contract(plan(), "plan_changed.yml")
    given = event(
        properties={"plan_type": "free"}, context={"protocols": {"event_version": 1}}
    )
    outcome = decided(rules.load(), given)
    assert outcome and outcome.reason == "contract plan_changed v1: plan: required"


# Events without a contract


@pytest.mark.parametrize(
    ("policy", "outcome", "violations"),
    [
        (Policy(), None, []),
        (Policy(unknown_events="flag"), None, ["no_contract"]),
        (Policy(unknown_events="quarantine"), ("quarantined", "no_contract"), []),
    ],
)
@pytest.mark.parametrize("text", ["Other", None])
def test_the_key_says_what_becomes_of_events_without_a_contract(
    rules: Rules, policy: Policy, outcome: Any, violations: list[str], text: str | None
) -> None:
    rules.contract(plan())
    given = event(text)
    assert decided(rules.load(), given, policy) == outcome
    assert given.violations == violations


@pytest.mark.parametrize("kind", ["identify", "page", "screen", "group", "alias"])
def test_only_track_events_can_lack_a_contract(rules: Rules, kind: str) -> None:
    policy = Policy(unknown_events="quarantine")
    assert decided(rules.load(), event(type=kind), policy) is None


# Files


def test_every_fault_of_every_contract_is_named_with_its_line(rules: Rules) -> None:
    rules.contract("event: a\nversion: 0\nschema: []\nretention: 5\n", "1.yml")
    rules.contract("on_violation: ignore\nschema: {}\nconsent: [1]\n", "2.yml")
    rules.contract("- event\n", "3.yml")
    rules.contract("event: [\n", "4.yml")
    rules.contract("event: a\nschema: {}\nevent: b\n", "5.yml")
    rules.contract("event: a\nschema: {}\n", "6.yaml")
    assert rules.faults() == [
        "1.yml, line 4: `retention` is not a key here; allowed are: consent, event,"
        " examples, on_violation, retention_days, schema, version. Did you mean"
        " `retention_days`?",
        "1.yml, line 3: `schema`: Expected `object`, got `array`.",
        "1.yml, line 2: `version`: Expected `int` >= 1.",
        "2.yml, line 1: `event` is missing.",
        "2.yml, line 3: `consent.0`: Expected `str`, got `int`.",
        "2.yml, line 1: `on_violation`: must be one of: block, quarantine, flag,"
        " drop_property.",
        "3.yml, line 1: must be a mapping with: consent, event, examples, on_violation,"
        " retention_days, schema, version.",
        "4.yml, line 2: not readable as YAML (ParserError).",
        "5.yml, line 3: `event` is set twice; remove one.",
        "6.yaml, line 1: rename it to 6.yml to be read.",
    ]


@pytest.mark.parametrize(
    ("text", "line", "fault"),
    [
        ("{type: objekt}", 3, "not valid JSON Schema: "),
        ("\n  type: object\n  requierd: [a]", 5, "`requierd` is not a keyword"),
        ("\n  properties:\n    a: {enun: [1]}", 5, "`enun` is not a keyword"),
        ("\n  properties:\n    a: {minimum: '1'}", 5, "not valid JSON Schema: "),
        ("\n  $ref: https://example.com/x", 3, "not valid JSON Schema: "),
        ("\n  $ref: '#/$defs/nothing'", 3, "not valid JSON Schema: "),
        (
            "{properties: {a: {format: emial}}}",
            3,
            "not valid JSON Schema: Unknown format",
        ),
        ("{properties: {a: {pattern: '('}}}", 3, "not valid JSON Schema: "),
        ("\n  $schema: http://json-schema.org/draft-07/schema#", 4, "contracts are"),
    ],
)
def test_a_bad_schema_is_named_with_its_line(
    rules: Rules, text: str, line: int, fault: str
) -> None:
    rules.contract(schema(text))
    (found,) = rules.faults()
    assert found.startswith(f"contract.yml, line {line}: {fault}")


def test_keywords_of_ones_own_begin_with_x(rules: Rules) -> None:
    rules.contract(schema("{x-owner: growth, title: t, description: d, examples: []}"))
    rules.load()


@pytest.mark.parametrize(
    ("accepted", "refused", "fault"),
    [
        ("[{}, {a: x}]", "[]", "line 4: this example is refused (a: type)"),
        (
            "[]",
            "[{properties: {a: 1}, because: a}]",
            "line 5: this example is accepted",
        ),
        (
            "[]",
            "[{properties: {a: x}, because: b}]",
            "line 5: this example is refused, but not because of `b` (a: type)",
        ),
        (
            "[]",
            "[{properties: {a: x}}]",
            "line 5: `examples.refused.0`: Object missing",
        ),
    ],
)
def test_an_example_that_does_not_hold_is_named_with_its_line(
    rules: Rules, accepted: str, refused: str, fault: str
) -> None:
    text = "event: a\nschema: {properties: {a: {type: integer}}}\nexamples:\n"
    rules.contract(f"{text}  accepted: {accepted}\n  refused: {refused}\n")
    (found,) = rules.faults()
    assert found.startswith(f"contract.yml, {fault}")


def test_an_example_may_be_refused_for_something_inside(rules: Rules) -> None:
    text = "{properties: {a: {properties: {b: {type: integer}}}}}"
    example = "examples: {refused: [{properties: {a: {b: x}}, because: BECAUSE}]}"
    for because in ("a", "a.b"):
        rules.contract(schema(text) + example.replace("BECAUSE", because))
        rules.load()


def test_two_contracts_for_one_version_are_a_fault(rules: Rules) -> None:
    rules.contract("event: plan_changed\nschema: {}\n", "1.yml")
    rules.contract("schema: {}\nversion: 1\nevent: Plan Changed\n", "2.yml")
    assert rules.faults() == [
        "2.yml, line 2: another file already has contract plan_changed v1; raise"
        " `version`."
    ]


def test_dates_in_a_contract_are_text_as_they_are_in_json(rules: Rules) -> None:
    rules.contract(schema("{properties: {day: {const: 2026-01-01}}}"))
    book = rules.load()
    assert decided(book, event(properties={"day": "2026-01-01"})) is None
    json.dumps(book.contracts[0].schema)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "{properties: {1: {}}}",
            "line 3: the key 1 is not text; put it in quotes.",
        ),
        ("{properties: {a: {const: .nan}}}", "line 3: JSON has no such number."),
        ("{const: !!binary aGk=}", "line 3: JSON has no bytes; put it in quotes."),
    ],
)
def test_what_json_cannot_hold_is_a_fault(rules: Rules, text: str, fault: str) -> None:
    rules.contract(schema(text))
    assert rules.faults() == [f"contract.yml, {fault}"]
