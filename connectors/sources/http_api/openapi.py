"""The OpenAPI 3.1 document, generated from the routes."""

from typing import Any

from connectors.sources.http_api.routes import ROUTES, Route

__all__ = ["document"]

_SUMMARIES = {
    "ingest": "Send events",
    "segment_settings": "Settings of Segment's browser SDK",
    "rudder_settings": "Settings of RudderStack's browser SDK",
    "posthog_config": "Settings of PostHog's browser SDK",
    "posthog_flags": "PostHog's feature flags; always empty",
    "webhook": "Send another system's webhook",
    "form": "Submit an HTML form",
    "healthz": "Whether events can be stored",
    "readyz": "Whether the collector accepts requests",
    "openapi": "This document",
}

# Paths with a variable part, which `routes.find` parses.
_VARYING = {
    "/api/s/{argument}": Route("ingest", ("jitsu",), style="jitsu"),
    "/api/s/s2s/{argument}": Route("ingest", ("jitsu",), style="jitsu"),
    "/v1/projects/{argument}/settings": Route("segment_settings"),
    "/array/{argument}/config": Route("posthog_config"),
    "/array/{argument}/config.js": Route("posthog_config"),
    "/v1/webhooks/{argument}": Route("webhook"),
    "/v1/forms/{argument}": Route("form"),
}

_TEXT = {"type": "string"}
_ANY_JSON: dict[str, Any] = {"application/json": {"schema": {}}}
_ERROR = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}

_KEYS: list[dict[str, list[str]]] = [
    {"basic": []},
    {"bearer": []},
    {"header": []},
    {"query": []},
    {},  # or in the body
]


def document() -> dict[str, Any]:
    """Return the whole document, ready to be encoded."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Loomline collector",
            "version": "1",
            "description": "Every path also accepts a trailing slash.",
        },
        "paths": {
            path: _path(path, route) for path, route in {**ROUTES, **_VARYING}.items()
        },
        "components": {
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-Write-Key"},
                "query": {"type": "apiKey", "in": "query", "name": "writeKey"},
            },
            "schemas": _SCHEMAS,
        },
    }


def _path(path: str, route: Route) -> dict[str, Any]:
    operations: dict[str, Any] = {
        method.lower(): _operation(route, method)
        for method in route.methods
        if method != "HEAD"
    }
    if "{argument}" in path:
        operations["parameters"] = [
            {"name": "argument", "in": "path", "required": True, "schema": _TEXT}
        ]
    return operations


def _operation(route: Route, method: str) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": _SUMMARIES[route.kind],
        "responses": _responses(route),
    }
    match route.kind:
        case "ingest":
            operation["security"] = _KEYS
            operation["parameters"] = [
                {
                    "name": "receipts",
                    "in": "query",
                    "schema": {"type": "string", "enum": ["1"]},
                }
            ]
            operation["requestBody"] = {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {
                            "anyOf": [
                                {"$ref": "#/components/schemas/Batch"},
                                {"$ref": "#/components/schemas/Event"},
                            ]
                        }
                    }
                },
            }
        case "webhook":
            operation["requestBody"] = {"required": True, "content": _ANY_JSON}
        case "form":
            fields = {"type": "object", "additionalProperties": _TEXT}
            operation["requestBody"] = {
                "required": True,
                "content": {"application/x-www-form-urlencoded": {"schema": fields}},
            }
        case "posthog_flags" if method == "POST":
            operation["requestBody"] = {"content": _ANY_JSON}
        case "rudder_settings":
            operation["security"] = _KEYS[:-1]
    return operation


def _responses(route: Route) -> dict[str, Any]:
    good: dict[str, Any] = {"description": "Done."}
    match route.kind:
        case "ingest" if route.style != "posthog_v1":
            schema = {"$ref": "#/components/schemas/Success"}
            good["content"] = {"application/json": {"schema": schema}}
        case _:
            good["content"] = _ANY_JSON
    codes: dict[str, str] = {}
    match route.kind:
        case "ingest" | "webhook" | "form":
            codes = {
                "400": "The body cannot be read; it is stored as rejected.",
                "401": "The write key or the signature is missing or unknown.",
                "403": "The write key may not be used here.",
                "404": "This webhook or form does not exist.",
                "413": "The body is too large.",
                "429": "Over the key's rate limit; retry after Retry-After.",
                "503": "Events cannot be stored right now; none were accepted.",
            }
        case "healthz" | "readyz":
            codes = {"503": "Not available."}
        case "segment_settings" | "rudder_settings" | "posthog_config":
            codes = {
                "401": "The key is missing or unknown.",
                "403": "The key may not be used here.",
            }
    responses = {"200": good}
    for code, description in codes.items():
        content = _ANY_JSON if route.kind in ("healthz", "readyz") else _ERROR
        responses[code] = {"description": description, "content": content}
    if route.kind == "form":
        responses["303"] = {"description": "Redirect to a page the form allows."}
    return responses


_OBJECT = {"type": ["object", "null"]}
_SCHEMAS: dict[str, Any] = {
    "Event": {
        "type": "object",
        "description": "A call of Segment's API, a PostHog event, or Loomline's own.",
        "properties": {
            "type": {"enum": ["track", "identify", "page", "screen", "group", "alias"]},
            "event": _TEXT,
            "messageId": _TEXT,
            "userId": _TEXT,
            "anonymousId": _TEXT,
            "timestamp": {"type": "string", "format": "date-time"},
            "properties": _OBJECT,
            "traits": _OBJECT,
            "context": _OBJECT,
        },
    },
    "Batch": {
        "type": "object",
        "required": ["batch"],
        "properties": {
            "batch": {
                "type": "array",
                "items": {"$ref": "#/components/schemas/Event"},
            },
            "sentAt": {"type": "string", "format": "date-time"},
            "writeKey": _TEXT,
        },
    },
    "Success": {
        "type": "object",
        "required": ["success"],
        "properties": {
            "success": {"const": True},
            "events": {
                "type": "array",
                "items": {"$ref": "#/components/schemas/Receipt"},
            },
        },
    },
    "Receipt": {
        "type": "object",
        "required": ["id", "status", "reason"],
        "properties": {
            "id": {"type": ["string", "null"]},
            "status": {
                "enum": [
                    "admitted",
                    "rejected",
                    "quarantined",
                    "consent_filtered",
                    "dropped",
                    "suppressed",
                ]
            },
            "reason": {"type": ["string", "null"]},
        },
    },
    "Error": {
        "type": "object",
        "required": ["success", "code", "message", "detail", "error", "status"],
        "properties": {
            "success": {"const": False},
            "code": _TEXT,
            "message": _TEXT,
            "detail": _TEXT,
            "error": _TEXT,
            "status": {"type": "integer"},
        },
    },
}
