"""Consent statements in an event's context."""

from typing import Any

import pytest

from connectors.events.consent import stated


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
