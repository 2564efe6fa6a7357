"""The collector's paths: their clients, and how each is answered.

These are the paths unmodified SDKs call (`docs/instrument.md` lists them by SDK), each
with and without a trailing slash: a redirect would turn their POST into a GET.
"""

from typing import Literal, NamedTuple

from connectors.sources.write_keys import PathGroup as Group

__all__ = ["ROUTES", "Route", "find"]

Kind = Literal[
    "ingest",
    "segment_settings",
    "rudder_settings",
    "posthog_config",
    "posthog_flags",
    "webhook",
    "form",
    "healthz",
    "readyz",
    "openapi",
]


class Route(NamedTuple):
    kind: Kind
    groups: tuple[Group, ...] = ()  # a key needs one of them
    type: str | None = None  # for items without one
    style: Literal["plain", "posthog_v1", "jitsu"] = "plain"
    argument: str = ""  # the variable part of the path

    @property
    def methods(self) -> tuple[str, ...]:
        match self.kind:
            case "ingest" | "webhook" | "form":
                return ("POST",)
            case "posthog_flags":
                return ("GET", "POST")
            case _:
                return ("GET", "HEAD")


_TYPES = ("track", "identify", "page", "screen", "group", "alias")
_CALLS: tuple[Group, ...] = ("segment", "rudder", "native")
_POSTHOG: tuple[Group, ...] = ("posthog",)

ROUTES: dict[str, Route] = {
    # Segment's paths, which RudderStack's SDKs use too
    "/v1/batch": Route("ingest", _CALLS),
    "/v1/b": Route("ingest", _CALLS),
    "/v1/import": Route("ingest", _CALLS),
    **{f"/v1/{name}": Route("ingest", _CALLS, name) for name in _TYPES},
    **{f"/v1/{name[0]}": Route("ingest", _CALLS, name) for name in _TYPES},
    "/beacon/v1/batch": Route("ingest", ("rudder",)),
    "/sourceConfig": Route("rudder_settings", ("rudder",)),
    # PostHog; `/batch` is also Loomline's own
    "/batch": Route("ingest", ("posthog", "native")),
    "/capture": Route("ingest", _POSTHOG),
    "/e": Route("ingest", _POSTHOG),
    "/i/v0/e": Route("ingest", _POSTHOG),
    "/i/v1/analytics/events": Route("ingest", _POSTHOG, style="posthog_v1"),
    "/flags": Route("posthog_flags", _POSTHOG),
    "/decide": Route("posthog_flags", _POSTHOG),
    # Loomline's own
    "/api/v1/events": Route("ingest", ("native",)),
    "/healthz": Route("healthz"),
    "/readyz": Route("readyz"),
    "/openapi.json": Route("openapi"),
}


def find(path: str) -> Route | None:
    """Return the route of a path, or None if it does not exist."""
    route = ROUTES.get(path)
    if route is not None:
        return route
    if path.endswith("/"):
        path = path.rstrip("/")
        route = ROUTES.get(path)
        if route is not None:
            return route
    match path.split("/")[1:]:
        case ["api", "s", type_] | ["api", "s", "s2s", type_]:
            is_type = type_ in _TYPES
            return Route("ingest", ("jitsu",), type_ if is_type else None, "jitsu")
        case ["v1", "projects", key, "settings"]:
            return Route("segment_settings", ("segment",), argument=key)
        case ["array", key, "config" | "config.js" as file]:
            return Route("posthog_config", _POSTHOG, file, argument=key)
        case ["v1", "webhooks", name]:
            return Route("webhook", ("webhook",), argument=name)
        case ["v1", "forms", name]:
            return Route("form", ("form",), argument=name)
    return None
