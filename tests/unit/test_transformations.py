"""How events are altered on the way in."""

import copy
import hashlib
import logging
from typing import Any

import pytest
from hypothesis import given as examples
from hypothesis import strategies as st

from connectors.events.canonical import Event
from connectors.events.operations import Place, cast
from tests.support.rule_files import Rules, decided, event


def after(rules: Rules, do: str, given: Event) -> Event:
    """The event after one transformation that lets it pass, and changed nothing of
    what came with it."""
    rules.transformation(f"do:\n  - {do}\n")
    came_with = (given.properties, given.traits, given.context, given.violations)
    before = copy.deepcopy(came_with)
    assert decided(rules.load(), given) is None
    assert came_with == before
    return given


# Operations


@pytest.mark.parametrize(
    ("do", "before", "after_"),
    [
        (
            "rename: {properties.plan: properties.plan_type}",
            {"plan": 1},
            {"plan_type": 1},
        ),
        ("rename: {properties.plan: properties.plan_type}", {"x": 1}, {"x": 1}),
        ("rename: {properties.plan: properties.plan_type}", None, None),
        ("rename: {properties.a: properties.b}", {"a": None}, {"b": None}),
        ("rename: {properties.a: properties.b}", {"a": 1, "b": 2}, {"b": 1}),
        ("rename: {properties.a: properties.b.c}", {"a": 1}, {"b": {"c": 1}}),
        ("rename: {properties.a.b: properties.b}", {"a": {"b": 1}}, {"a": {}, "b": 1}),
        ("rename: {properties.a: properties.a.b}", {"a": {}}, {"a": {"b": {}}}),
        ("set: {properties.currency: USD}", {"a": 1}, {"a": 1, "currency": "USD"}),
        ("set: {properties.currency: USD}", None, {"currency": "USD"}),
        (
            "set: {properties.a.b.c: [1]}",
            {"a": {"x": 1}},
            {"a": {"x": 1, "b": {"c": [1]}}},
        ),
        ("set: {properties.a: null}", {"a": 1}, {"a": None}),
        ("remove: [properties.debug]", {"debug": 1, "a": 1}, {"a": 1}),
        ("remove: [properties.a.b]", {"a": {"b": 1, "c": 2}}, {"a": {"c": 2}}),
        ("remove: [properties.a.b]", {"a": [1]}, {"a": [1]}),
        ("remove: [properties.a]", [1], [1]),
    ],
)
def test_properties_become(rules: Rules, do: str, before: Any, after_: Any) -> None:
    given = after(rules, do, event(properties=before))
    assert (given.properties, given.violations) == (after_, [])


@pytest.mark.parametrize(
    ("do", "properties"),
    [
        ("rename: {properties.a: properties.b.c}", {"a": 1, "b": "text"}),
        ("set: {properties.a.b: 1}", {"a": "text"}),
        ("set: {properties.a.b.c: 1}", {"a": {"b": 7}}),
        ("set: {properties.a.b.c: 1}", {"a": [1]}),
        ("set: {properties.a: 1}", ["a"]),
    ],
)
def test_a_place_below_something_else_is_listed_and_nothing_lost(
    rules: Rules, do: str, properties: Any
) -> None:
    before = copy.deepcopy(properties)
    given = after(rules, do, event(properties=properties))
    assert given.properties == before
    assert len(given.violations) == 1
    assert given.violations[0].startswith(do.split(":")[0] + ": properties.")


def test_traits_and_context_are_altered_like_properties(rules: Rules) -> None:
    do = "rename: {traits.mail: traits.email, context.geo.country: context.country}"
    given = after(
        rules, do, event(traits={"mail": "m"}, context={"geo": {"country": "DE"}})
    )
    assert given.traits == {"email": "m"}
    assert given.context == {"geo": {}, "country": "DE"}


def test_text_fields_hold_text(rules: Rules) -> None:
    do = "rename: {properties.uid: user_id, anonymous_id: properties.cookie}"
    given = after(rules, do, event(properties={"uid": 7}, anonymous_id="a"))
    assert (given.user_id, given.anonymous_id) == ("7", None)
    assert given.properties == {"cookie": "a"}


@pytest.mark.parametrize(
    ("kind", "before", "after_"),
    [
        ("integer", "12", 12),
        ("integer", " -3.0 ", -3),
        ("integer", 4.0, 4),
        ("integer", str(2**63 - 1), 2**63 - 1),
        ("integer", None, None),
        ("number", "1.50", 1.5),
        ("number", "1e3", 1000.0),
        ("number", "12", 12),
        ("number", 7, 7),
        ("boolean", "Yes", True),
        ("boolean", "false", False),
        ("boolean", 0, False),
        ("string", 12, "12"),
        ("string", True, "true"),
        ("string", {"b": 1, "a": [2]}, '{"a":[2],"b":1}'),
        ("string", "x", "x"),
        ("timestamp", "2026-04-14T13:13:38+02:00", "2026-04-14T11:13:38.000000Z"),
        ("timestamp", 1_776_165_218, "2026-04-14T11:13:38.000000Z"),
    ],
)
def test_a_value_is_cast(rules: Rules, kind: str, before: Any, after_: Any) -> None:
    do = f"cast: {{properties.seats: {kind}}}"
    given = after(rules, do, event(properties={"seats": before}))
    assert given.properties == {"seats": after_}
    assert type(given.properties["seats"]) is type(after_)
    assert given.violations == []


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("integer", "12.5"),
        ("integer", 12.5),
        ("integer", "twelve"),
        ("integer", True),
        ("integer", str(2**63)),
        ("integer", [1]),
        ("number", "0.12345678901234567891234"),
        ("number", "1e999"),
        ("number", "1e-400"),
        ("number", "1e-99999999999999999999"),
        ("number", "nan"),
        ("number", "1_000"),
        ("number", ""),
        ("boolean", "maybe"),
        ("boolean", 2),
        ("timestamp", "yesterday"),
        ("timestamp", {}),
    ],
)
def test_a_value_that_cannot_be_cast_without_loss_stays(
    rules: Rules, kind: str, value: Any
) -> None:
    do = f"cast: {{properties.seats: {kind}}}"
    given = after(rules, do, event(properties={"seats": value}))
    assert given.properties == {"seats": value}
    assert given.violations == ["cast: properties.seats"]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.from_regex(r"\A[+-]?[0-9.]{1,30}([eE][+-]?[0-9]{1,25})?\Z"),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=5,
)


@examples(
    JSON, st.sampled_from(["integer", "number", "boolean", "string", "timestamp"])
)
def test_no_value_breaks_a_cast(value: Any, kind: Any) -> None:
    given = event(properties={"a": value})
    cast(Place("properties.a"), kind)(given)
    is_listed = given.violations == ["cast: properties.a"]
    assert not is_listed or given.properties == {"a": value}


@pytest.mark.parametrize(
    ("value", "text"), [("4242", "4242"), ("Ä b ", "Ä b "), (4242, "4242")]
)
def test_a_hash_is_sha_256_of_the_text(rules: Rules, value: Any, text: str) -> None:
    given = after(rules, "hash: [properties.card]", event(properties={"card": value}))
    assert given.properties == {"card": hashlib.sha256(text.encode()).hexdigest()}


def test_nothing_is_hashed_where_nothing_is(rules: Rules) -> None:
    do = "hash: [properties.card, properties.a, user_id]"
    given = after(rules, do, event(properties={"card": None}))
    assert (given.properties, given.user_id) == ({"card": None}, None)


@pytest.mark.parametrize(
    ("condition", "properties", "is_dropped"),
    [
        ("properties.internal: true", {"internal": True}, True),
        ("properties.internal: true", {"internal": 1}, False),
        ("properties.internal: true", {"internal": "true"}, False),
        ("properties.internal: true", None, False),
        ("properties.internal: null", None, True),
        ("properties.a: 1, properties.b: 2", {"a": 1, "b": 2}, True),
        ("properties.a: 1, properties.b: 2", {"a": 1, "b": 3}, False),
        ("event: plan_changed", None, True),
        ("properties.a: [1]", {"a": [1]}, True),
    ],
)
def test_events_are_dropped_when_all_is_as_asked(
    rules: Rules, condition: str, properties: Any, is_dropped: bool
) -> None:
    rules.transformation(f"do: [drop_if: {{{condition}}}]", "010_internal.yml")
    outcome = decided(rules.load(), event(properties=properties))
    said = ("dropped", "transformation 010_internal")
    assert outcome == (said if is_dropped else None)


def test_nothing_is_done_to_a_dropped_event(rules: Rules) -> None:
    rules.transformation("do: [drop_if: {user_id: null}, set: {properties.a: 1}]")
    given = event()
    assert decided(rules.load(), given) is not None and given.properties is None


# Which events, in which order


@pytest.mark.parametrize(
    ("match", "is_matched"),
    [
        ("", True),
        ("match: {event: plan_changed}", True),
        ("match: {event: Plan Changed}", True),
        ("match: {event: [other, plan_changed]}", True),
        ("match: {event: other}", False),
        ("match: {source: web}", True),
        ("match: {source: [ios, web]}", True),
        ("match: {source: ios}", False),
        ("match: {type: track}", True),
        ("match: {type: [page, screen]}", False),
        ("match: {event: plan_changed, source: web, type: track}", True),
        ("match: {event: plan_changed, source: ios, type: track}", False),
    ],
)
def test_a_transformation_alters_the_events_it_matches(
    rules: Rules, match: str, is_matched: bool
) -> None:
    rules.transformation(f"{match}\ndo: [set: {{properties.a: 1}}]")
    given = event("planChanged")
    decided(rules.load(), given)
    assert (given.properties is not None) is is_matched


def test_they_are_applied_in_the_order_of_their_names(rules: Rules) -> None:
    for name, value in (("020_b.yml", 2), ("030_c.yml", 3), ("010_a.yml", 1)):
        rules.transformation(f"do: [set: {{properties.last: {value}}}]", name)
    given, applied = event(), list[str]()
    decided(rules.load(), given, applied=applied)
    assert given.properties == {"last": 3}
    assert applied == ["010_a", "020_b", "030_c"]


def test_only_those_that_altered_the_event_are_told(rules: Rules) -> None:
    rules.transformation("do: [remove: [properties.a]]", "010_a.yml")
    rules.transformation("do: [remove: [properties.b]]", "020_b.yml")
    rules.transformation("do: [drop_if: {properties.a: 1}]", "030_c.yml")
    applied: list[str] = []
    decided(rules.load(), event(properties={"b": 1}), applied=applied)
    assert applied == ["020_b"]


CONTRACT = "event: plan_changed\nschema: {required: [plan_type]}\n"
RENAME = "do: [rename: {properties.plan: properties.plan_type}]\n"


def test_what_is_mended_before_the_contract_keeps_it(rules: Rules) -> None:
    rules.contract(CONTRACT)
    rules.transformation(f"phase: before_contract\n{RENAME}")
    given = event(properties={"plan": "free"})
    assert decided(rules.load(), given) is None and given.contract_version == 1


def test_the_contract_comes_first_where_nothing_is_said(rules: Rules) -> None:
    rules.contract(CONTRACT)
    rules.transformation(RENAME)
    given = event(properties={"plan": "free"})
    assert decided(rules.load(), given) is not None
    assert given.properties == {"plan": "free"}


# Renaming an event


@pytest.mark.parametrize("phase", ["before_contract", "after_contract"])
def test_a_renamed_event_is_judged_by_the_contract_of_its_new_name(
    rules: Rules, phase: str
) -> None:
    rules.contract(CONTRACT)
    rules.transformation(
        f"match: {{event: old}}\nphase: {phase}\ndo: [set: {{event: Plan Changed}}]"
    )
    book = rules.load()
    given = event("Old", properties={"plan_type": 1})
    assert decided(book, given) is None
    assert (given.event, given.event_text) == ("plan_changed", "Old")
    assert given.contract_version == 1
    outcome = decided(book, event("Old"))
    assert outcome and outcome.disposition == "quarantined"


def test_a_new_name_without_contract_has_no_version(rules: Rules) -> None:
    rules.contract(CONTRACT)
    rules.transformation("match: {event: plan_changed}\ndo: [set: {event: new}]")
    given = event(properties={"plan_type": 1})
    assert decided(rules.load(), given) is None
    assert (given.event, given.contract_version) == ("new", None)


@pytest.mark.parametrize("phase", ["before_contract", "after_contract"])
def test_a_renamed_event_needs_the_consent_its_new_name_needs(
    rules: Rules, phase: str
) -> None:
    rules.contract("event: new\nschema: {}\nconsent: [analytics]\n")
    rules.transformation(
        f"match: {{event: old}}\nphase: {phase}\ndo: [set: {{event: new}}]"
    )
    given = event("old", context={"consent": {"categoryPreferences": {}}})
    assert decided(rules.load(), given) == ("consent_filtered", "consent: analytics")


def test_a_renamed_event_meets_later_transformations_under_its_new_name(
    rules: Rules,
) -> None:
    for number in (10, 30):
        for name in ("old", "new"):
            rules.transformation(
                f"match: {{event: {name}}}\n"
                f"do: [set: {{properties.{name}_{number}: 1}}]",
                f"0{number}_{name}.yml",
            )
    rules.transformation("match: {event: old}\ndo: [set: {event: new}]", "020.yml")
    given = event("old")
    decided(rules.load(), given)
    assert given.properties == {"old_10": 1, "new_30": 1}


def test_calls_without_a_name_cannot_be_given_one(rules: Rules) -> None:
    given = after(rules, "set: {event: named}", event(type="page"))
    assert (given.event, given.violations) == (None, ["set: event"])


# Functions

CALL = "do: [call: {module: enrich, function: enrich}]"


def enriched(rules: Rules, body: str, given: Event) -> Any:
    rules.transformation(f"def enrich(event):\n{body}\n", "enrich.py")
    rules.transformation(CALL, "050_enrich.yml")
    return decided(rules.load(), given)


def test_a_function_alters_a_copy(rules: Rules) -> None:
    body = """\
    event["properties"]["total"] = sum(event["properties"]["items"])
    event["user_id"] = 7
    event["event"] = "Order Paid"
    event["source"] = "elsewhere"
    return event"""
    properties = {"items": [1, 2]}
    given = event("Order Completed", properties=properties)
    assert enriched(rules, body, given) is None
    assert given.properties == {"items": [1, 2], "total": 3}
    assert (given.user_id, given.event, given.source) == ("7", "order_paid", "web")
    assert properties == {"items": [1, 2]}


def test_what_a_function_leaves_out_stays_as_it_was(rules: Rules) -> None:
    given = event(properties={"a": 1}, user_id="u")
    assert enriched(rules, "    return {'traits': {'b': True}}", given) is None
    assert (given.properties, given.user_id) == ({"a": 1}, "u")
    assert given.traits == {"b": True}


def test_a_function_drops_an_event_by_returning_none(rules: Rules) -> None:
    outcome = enriched(rules, "    return None", event())
    assert outcome == ("dropped", "transformation 050_enrich")


@pytest.mark.parametrize(
    "body",
    [
        "    return event['properties']['secret']",
        "    return [event]",
        "    return {'properties': {'x': object()}}",
        "    event['properties'] = event; return event",
        "    return enrich(event)",
    ],
)
def test_a_function_that_fails_quarantines_that_event(
    rules: Rules, body: str, caplog: pytest.LogCaptureFixture
) -> None:
    given = event(properties={"card": "4242 4242"})
    with caplog.at_level(logging.WARNING):
        outcome = enriched(rules, body, given)
    assert outcome == ("quarantined", "transformation 050_enrich failed")
    assert given.properties == {"card": "4242 4242"}
    assert "4242" not in caplog.text


# Files


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("match: {}", "line 1: `do` is missing."),
        ("do: []\nphase: later", "line 2: `phase`: must be one of: before_contract,"),
        ("do: []\nmatch:\n  evnt: x", "line 3: `evnt` is not a key here; allowed are:"),
        ("do: []\nmatch: {type: click}", "line 2: `type`: Invalid enum value 'click'."),
        ("do:\n- {}\n", "line 2: an entry of `do` must be one operation"),
        (
            "do:\n- set: {a: 1}",
            "line 2: `set`: `a` is not a place in an event; write event",
        ),
        ("do:\n- set: {properties: 1}", "line 2: `set`: `properties` is not a place"),
        (
            "do:\n- set: {properties..a: 1}",
            "line 2: `set`: `properties..a` is not a place",
        ),
        ("do:\n- set: {user_id.a: 1}", "line 2: `set`: `user_id.a` is not a place"),
        ("do:\n- set: {event: null}", "line 2: `set`: an event must have a name"),
        ("do:\n- remove: [event]", "line 2: `remove`: an event must keep its name"),
        ("do:\n- remove: event", "line 2: `remove`: Expected `array`, got `str`."),
        (
            "do:\n- cast: {user_id: integer}",
            "line 2: `cast`: `user_id` is always text.",
        ),
        (
            "do:\n- cast: {properties.a: int}",
            "line 2: `cast`: Invalid enum value 'int'.",
        ),
        ("do:\n- drop_if: {}", "line 2: `drop_if`: has no condition and would"),
        ("do:\n- explode: {}", "line 2: `explode` is not one of: rename, cast, set,"),
        (CALL, "line 1: enrich.py cannot be loaded (FileNotFoundError)."),
        (CALL.replace("enrich,", "../x,"), "line 1: `module`: Expected `str` matching"),
    ],
)
def test_a_fault_is_named_with_its_line(rules: Rules, text: str, fault: str) -> None:
    rules.transformation(text)
    (found,) = rules.faults()
    assert found.startswith(f"010_alter.yml, {fault}")


def test_every_fault_of_every_file_is_named_at_once(rules: Rules) -> None:
    rules.transformation("do:\n- set: {a: 1}\n- remove: 1\nphase: x\n", "010.yml")
    rules.transformation("do:\n- set: {a: 1}\n- remove: 1\nmatch: {x: 1}\n", "020.yml")
    rules.contract("event: a\n")
    found = [fault.partition(": ")[0] for fault in rules.faults()]
    assert found == [
        *("contract.yml, line 1", "010.yml, line 4"),
        *("020.yml, line 4", "020.yml, line 2", "020.yml, line 3"),
    ]


def test_a_function_that_is_not_there_is_a_fault(rules: Rules) -> None:
    rules.transformation("enrich = 1\n", "enrich.py")
    rules.transformation(CALL)
    assert rules.faults() == [
        "010_alter.yml, line 1: enrich.py has no function `enrich`."
    ]


ALTER = """\
match: {event: [plan_changed, other], source: [web, ios]}
do:
  - rename: {properties.plan: properties.plan_type}
  - drop_if: {properties.internal: true}
examples:
"""


@pytest.mark.parametrize(
    "example",
    [
        "{in: {properties: {plan: a}}, out: {properties: {plan_type: a}}}",
        "{in: {event: Other, properties: {plan: a}}, out: {event: other}}",
        "{in: {event: third, properties: {plan: a}}, out: {properties: {plan: a}}}",
        "{in: {source: tv, properties: {plan: a}}, out: {properties: {plan: a}}}",
        "{in: {properties: {internal: true}}, out: null}",
        "{in: {properties: {}}, out: {violations: []}}",
    ],
)
def test_an_example_needs_only_what_matters(rules: Rules, example: str) -> None:
    rules.transformation(f"{ALTER}  - {example}\n")
    rules.load()


@pytest.mark.parametrize(
    ("example", "fault"),
    [
        (
            "{in: {properties: {plan: a, b: 1}}, out: {properties: {plan_type: a}}}",
            '`properties` becomes {"b":1,"plan_type":"a"}.',
        ),
        ("{in: {properties: {internal: true}}, out: {}}", "this event is dropped."),
        ("{in: {properties: {}}, out: null}", "this event is not dropped."),
        ("{in: {}, out: {usr_id: 1}}", "`usr_id` is not a field an example can set."),
        ("{in: {violations: []}, out: {}}", "`violations` is not a field an example"),
        ("{in: {}}", "`out` is missing."),
    ],
)
def test_an_example_that_does_not_hold_is_named_with_its_line(
    rules: Rules, example: str, fault: str
) -> None:
    rules.transformation(f"{ALTER}  - {{in: {{}}, out: {{}}}}\n  - {example}\n")
    (found,) = rules.faults()
    assert found.startswith(f"010_alter.yml, line 7: {fault}")


def test_an_example_whose_function_fails_does_not_hold(rules: Rules) -> None:
    rules.transformation("def enrich(event):\n    raise ValueError\n", "enrich.py")
    rules.transformation(f"{CALL}\nexamples: [{{in: {{}}, out: {{}}}}]")
    assert rules.faults() == ["010_alter.yml, line 2: transformation 010_alter failed."]
