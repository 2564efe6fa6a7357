"""Consent statements in an event's context."""

from typing import Any

import pytest

from connectors.events.consent import denied, stated
from connectors.events.policy import NoConsent, Policy
from tests.support.rule_files import Rules, decided, event


@pytest.mark.parametrize(
    ("context", "categories"),
    [
        (
            {"consent": {"categoryPreferences": {"analytics": True, "ads": False}}},
            {"analytics": True, "ads": False},
        ),
        ({"consent": {"categoryPreferences": {"ads": "true"}}}, {"ads": False}),
        ({"consent": {"categoryPreferences": {}}}, {}),
        (
            {
                "consentManagement": {
                    "allowedConsentIds": ["a", "b"],
                    "deniedConsentIds": ["b", 7],
                }
            },
            {"a": True, "b": False},
        ),
        ({"consentManagement": {}}, {}),
        ({"consentManagement": {"allowedConsentIds": "a"}}, {}),
        ({"consent": {"categoryPreferences": ["analytics"]}}, None),
        ({"consent": True}, None),
        ({}, None),
        (None, None),
        ("consent", None),
        ([], None),
    ],
)
def test_a_statement_is_read_where_sdks_put_it(
    context: Any, categories: dict[str, bool] | None
) -> None:
    assert stated(context) == categories


def segment(**categories: bool) -> dict[str, Any]:
    return {"consent": {"categoryPreferences": categories}}


def rudder(*denied_ids: str, strategy: str | None = None) -> dict[str, Any]:
    management = {"allowedConsentIds": [], "deniedConsentIds": list(denied_ids)}
    return {"consentManagement": {**management, "resolutionStrategy": strategy}}


BOTH = ("analytics", "advertising")


@pytest.mark.parametrize(
    ("context", "found"),
    [
        (segment(analytics=True, advertising=True), []),
        (segment(analytics=True), ["advertising"]),
        (segment(analytics=False, advertising=True), ["analytics"]),
        (segment(), ["analytics", "advertising"]),
        (rudder(), []),
        (rudder("advertising"), ["advertising"]),
        (rudder("advertising", strategy="and"), ["advertising"]),
        (rudder("advertising", strategy="or"), []),
        (rudder(*BOTH, strategy="or"), ["analytics", "advertising"]),
        (rudder("other"), []),
        (segment(analytics=True) | rudder(), ["advertising"]),
    ],
)
def test_both_forms_of_a_statement_deny_what_their_vendors_say(
    context: dict[str, Any], found: list[str]
) -> None:
    assert denied(BOTH, stated(context), context) == found
    assert denied((), stated(context), context) == []


@pytest.mark.parametrize(
    ("no_consent", "found"), [("assume_true", []), ("assume_false", list(BOTH))]
)
def test_the_key_says_how_silence_is_read(
    no_consent: NoConsent, found: list[str]
) -> None:
    assert denied(BOTH, None, None, no_consent=no_consent) == found


@pytest.mark.parametrize(
    "context",
    [None, segment(analytics=True, advertising=True), rudder(), rudder(strategy="or")],
)
def test_the_browsers_signal_denies_advertising_whatever_else_is_said(
    context: dict[str, Any] | None,
) -> None:
    statement = stated(context)
    assert denied(BOTH, statement, context, gpc=True) == ["advertising"]
    assert denied(("analytics",), statement, context, gpc=True) == []


CONTRACT = "event: order_completed\nconsent: [analytics, advertising]\nschema: {}\n"
ASSUME_FALSE = Policy(no_consent="assume_false")
REQUIRE = Policy(no_consent="require")
MISSING = ("consent_filtered", "consent_missing")


def test_the_reason_names_what_is_denied(rules: Rules) -> None:
    rules.contract(CONTRACT)
    book = rules.load()
    given = event("Order Completed", context=segment(analytics=False))
    said = ("consent_filtered", "consent: analytics, advertising")
    assert decided(book, given) == said
    assert decided(book, event("Order Completed"), ASSUME_FALSE) == said
    assert decided(book, event("Order Completed"), gpc=True) == (
        *("consent_filtered", "consent: advertising"),
    )
    assert decided(book, event("Order Completed")) is None


def test_nothing_is_asked_of_an_event_without_a_contract(rules: Rules) -> None:
    rules.contract(CONTRACT)
    book = rules.load()
    for policy in (Policy(), ASSUME_FALSE):
        given = event("Other", context=segment(analytics=False))
        assert decided(book, given, policy, gpc=True) is None


@pytest.mark.parametrize("kind", ["track", "identify", "page"])
def test_a_key_may_ask_every_event_for_a_statement(rules: Rules, kind: str) -> None:
    book = rules.load()
    assert decided(book, event("Other", type=kind), REQUIRE) == MISSING
    assert decided(book, event("Other", type=kind), REQUIRE, gpc=True) == MISSING
    stating = event("Other", type=kind, context=segment())
    assert decided(book, stating, REQUIRE) is None


def test_the_event_that_tells_of_a_choice_is_always_kept(rules: Rules) -> None:
    rules.contract(CONTRACT.replace("order_completed", CHOICE))
    book = rules.load()
    for policy in (Policy(), ASSUME_FALSE, REQUIRE):
        given = event("Segment Consent Preference Updated", context=segment())
        assert decided(book, given, policy, gpc=True) is None
        silent = event("Segment Consent Preference Updated")
        assert decided(book, silent, policy, gpc=True) is None


CHOICE = "segment_consent_preference_updated"
