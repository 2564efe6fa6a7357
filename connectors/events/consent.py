"""Consent statements as they travel in an event's context.

Two forms are read (their vendors' public documentation):
Segment `context.consent.categoryPreferences = {category: bool}`;
RudderStack `context.consentManagement = {allowedConsentIds, deniedConsentIds}`.
"""

from typing import Any

__all__ = ["stated"]


def stated(context: Any) -> dict[str, bool] | None:
    """Category → granted; None when the event says nothing about consent.

    A statement that names no category is `{}`: said, but granting nothing.
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


def _ids(value: Any) -> list[str]:
    return [key for key in value if isinstance(key, str)] if type(value) is list else []
