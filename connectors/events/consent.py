"""Reads consent statements from an event's context, and decides what they permit.

Two forms are read (per their vendors' public documentation):
Segment `context.consent.categoryPreferences = {category: bool}`: a category that is not
granted is denied, and every required category must be granted;
RudderStack `context.consentManagement = {allowedConsentIds, deniedConsentIds}`: only
denied categories count, and with `resolutionStrategy: or` only if all are denied.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from connectors.events.policy import NoConsent

__all__ = ["ALWAYS_KEPT", "denied", "stated"]

ALWAYS_KEPT = "segment_consent_preference_updated"
"""The event that reports a new choice; it passes whatever the choice is."""

_OPT_OUT = "advertising"  # what the signal Sec-GPC (Global Privacy Control) denies


def stated(context: Any) -> dict[str, bool] | None:
    """Return category → granted, or None if the event does not mention consent.

    A statement that names no category is `{}`: it exists, but grants nothing.
    """
    if not isinstance(context, dict):
        return None
    consent = context.get("consent")
    if isinstance(consent, dict):
        preferences = consent.get("categoryPreferences")
        if isinstance(preferences, dict):
            return {key: value is True for key, value in preferences.items()}
    management = context.get("consentManagement")
    if isinstance(management, dict):
        granted = _ids(management.get("allowedConsentIds"))
        denied = _ids(management.get("deniedConsentIds"))
        return dict.fromkeys(granted, True) | dict.fromkeys(denied, False)
    return None


def denied(
    required: Sequence[str],
    statement: Mapping[str, bool] | None,
    context: Any,
    *,
    no_consent: NoConsent = "assume_true",
    gpc: bool = False,
) -> list[str]:
    """Return the required categories that keep an event out; empty admits it.

    `statement` is the result of `stated(context)`. A Global Privacy Control signal
    denies advertising whatever the statement says, and no other category.
    """
    opted_out = [c for c in required if gpc and c == _OPT_OUT]
    if statement is None:
        missing = [] if no_consent == "assume_true" else list(required)
        return missing or opted_out
    management = _management(context)
    if management is None:
        return [c for c in required if c in opted_out or statement.get(c) is not True]
    refused = [c for c in required if c in opted_out or statement.get(c) is False]
    if management.get("resolutionStrategy") == "or" and len(refused) < len(required):
        return opted_out
    return refused


def _management(context: Any) -> dict[str, Any] | None:
    """Return RudderStack's statement, if `stated` used that one."""
    if type(context) is not dict:
        return None
    consent = context.get("consent")
    if type(consent) is dict and type(consent.get("categoryPreferences")) is dict:
        return None
    management = context.get("consentManagement")
    return management if type(management) is dict else None


def _ids(value: Any) -> list[str]:
    return [key for key in value if isinstance(key, str)] if type(value) is list else []
