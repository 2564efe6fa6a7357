"""The sandbox's page: audiences, some members, the last deliveries."""

import base64
import hashlib
import html
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files

from connectors.destinations.protocol import Identifier
from orchestration.demo.sandbox.deliveries import Delivery, Members

__all__ = ["HEADERS", "content", "masked", "page"]

SHOWN_MEMBERS = 6
SHOWN_DELIVERIES = 10

_HTML = files(__package__).joinpath("page.html").read_text("utf-8")
_SCRIPTS = re.findall(r"<script>(.*?)</script>", _HTML, re.DOTALL)
_HASHES = " ".join(
    f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
    for text in _SCRIPTS
)

HEADERS = {
    "content-type": "text/html; charset=utf-8",
    # Only the page's own script runs, and it reaches only this server.
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; "
    f"script-src {_HASHES}; connect-src 'self'",
    "cache-control": "no-store",
}


def page(audiences: Mapping[str, Members], deliveries: Sequence[Delivery]) -> str:
    """Return the whole document."""
    return _HTML.replace("<!-- content -->", content(audiences, deliveries))


def content(audiences: Mapping[str, Members], deliveries: Sequence[Delivery]) -> str:
    """Return the part that the page's script replaces."""
    newest = deliveries[: -SHOWN_DELIVERIES - 1 : -1]
    rows = "".join(map(_delivery_row, newest))
    parts = [_audience(name, members) for name, members in audiences.items()]
    return (
        f"<section><h2>Last deliveries <em>{len(deliveries):,} in total</em></h2>"
        "<table><tr><th>Received (UTC)</th><th>Audience</th><th>Added</th>"
        "<th>Removed</th><th>Resent</th><th>Delivery</th></tr>"
        f"{rows}</table></section>"
        f"{''.join(parts) or '<p>Nothing has arrived yet.</p>'}"
    )


def masked(identifier: Identifier) -> str:
    """Mask an email address or phone number; return ids unchanged."""
    if "@" in identifier.value:
        name, _, domain = identifier.value.partition("@")
        host, dot, ending = domain.rpartition(".")
        return f"{name[:1]}***@{(host or domain)[:1]}***{dot}{ending if dot else ''}"
    if identifier.type == "phone":
        return f"***{identifier.value[-2:]}"
    return identifier.value


def _audience(name: str, members: Members) -> str:
    rows = "".join(
        f"<tr><td><code>{html.escape(person[:12])}</code></td><td>"
        + " ".join(
            f"<span><b>{html.escape(i.type)}</b> {html.escape(masked(i))}</span>"
            for i in sorted(known)
            if i.type != "profile_id"
        )
        + "</td></tr>"
        for person, known in sorted(members.items())[:SHOWN_MEMBERS]
    )
    more = len(members) - SHOWN_MEMBERS
    return (
        f"<section><h2>{html.escape(name)} <em>{len(members):,} members</em></h2>"
        f"<table><tr><th>Profile</th><th>Known by</th></tr>{rows}</table>"
        + (f"<p>and {more:,} more</p>" if more > 0 else "")
        + "</section>"
    )


def _delivery_row(delivery: Delivery) -> str:
    cells = (
        f"{delivery.received_at:%Y-%m-%d %H:%M:%S}",
        html.escape(delivery.content.audience),
        *(
            f"{delivery.count(operation):,}"
            for operation in ("add", "remove", "resend")
        ),
        f"<code>{html.escape(delivery.webhook_id[:12])}</code>",
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
