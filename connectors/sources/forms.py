"""Converts HTML forms to calls, configured in `connectors/sources/forms/<name>.yml`.

Browsers send forms without any proof of origin: allowed fields and allowed redirects
are both listed. `docs/inbound.md` describes the files.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

from connectors.errors import ConfigError
from connectors.events.decode import Undecodable
from connectors.sources.mapping_files import Section, choice, read_folder, variable

__all__ = ["FormResult", "Forms", "UnknownForm"]

MAX_FIELDS = 100
MAX_BYTES = 1 << 16
ABSOLUTE_MAX = 1 << 20

REDIRECT_FIELD = "_redirect"

_TARGET = re.compile(
    r"user_id|anonymous_id|message_id"
    r"|(properties|traits|consent)\.[^.\s]+|context(\.[^.\s]+)+"
)
_IDS = {
    "user_id": "userId",
    "anonymous_id": "anonymousId",
    "message_id": "messageId",
}
_ALWAYS = {"anonymous_id": "anonymous_id"}
_PEOPLE = {"email": "traits.email", "phone": "traits.phone"}
_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"]{1,70})"|([^\s;",]{1,70}))', re.I)
# Matched in sequence, so that quoted text is never taken for a parameter.
_PARAMETER = re.compile(r';\s*([\w*-]+)=(?:"([^"]*)"|([^;"\s]*))')
_URL = re.compile(r"https?://[!-~]+", re.ASCII)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")

# A ticked checkbox sends `on`; an unticked one is not sent at all.
_GRANTING = ("on", "yes", "true", "1")

_Fields = list[tuple[str, str]]


class UnknownForm(LookupError):
    """No file configures this form, or its file switches it off."""


@dataclass(frozen=True, slots=True)
class FormResult:
    """The events of one submitted form, and the redirect."""

    source: str  # the source of these events
    items: list[Any]
    redirect_url: str | None  # None: answer 200; otherwise a URL from the file
    refusal: Literal["honeypot"] | None = None  # rejected, but answered as usual


@dataclass(frozen=True, slots=True)
class _Form:
    """One file."""

    source: str
    type: str
    event: str | None
    fields: Mapping[str, str] | None  # field → target; None: every field
    redirects: frozenset[str]
    default_redirect: str | None
    honeypot: str | None
    max_fields: int
    max_bytes: int
    enabled_env: str | None  # None: always on

    def result(self, fields: _Fields) -> FormResult:
        values: dict[str, list[str]] = {}
        for name, value in fields:
            # Browsers also send fields left empty.
            if name and value and not value.isspace():
                values.setdefault(name, []).append(value)
        requested = values.pop(REDIRECT_FIELD, [""])[0]
        # Compared as text and answered with the file's own URL: an untrusted URL is
        # never parsed, so it cannot be read differently here and in a browser.
        redirect = requested if requested in self.redirects else self.default_redirect
        is_trapped = self.honeypot is not None and bool(values.pop(self.honeypot, None))
        return FormResult(
            self.source,
            [self._call(values)],
            redirect,
            "honeypot" if is_trapped else None,
        )

    def _call(self, values: Mapping[str, list[str]]) -> dict[str, Any]:
        # Present even if null: it marks the item as a call in Segment's shape.
        call: dict[str, Any] = {"type": self.type, "messageId": None}
        if self.event is not None:
            call["event"] = self.event
        for name, sent in values.items():
            target = self._target(name)
            if target is None:
                continue
            if target in _IDS:
                call[_IDS[target]] = sent[0]
                continue
            first, *path = target.split(".", 1 if self.fields is None else -1)
            value: Any = sent if len(sent) > 1 else sent[0]
            if first == "consent":
                first, value = "context", sent[0].lower() in _GRANTING
                path = ["consent", "categoryPreferences", *path]
            holder = call.setdefault(first, {})
            for key in path[:-1]:
                holder = holder.setdefault(key, {})
            holder[path[-1]] = value
        return call

    def _target(self, name: str) -> str | None:
        if self.fields is not None:
            return self.fields.get(name)
        rest = "traits" if self.type == "identify" else "properties"
        return _ALWAYS.get(name) or _PEOPLE.get(name) or f"{rest}.{name}"


class Forms:
    """All configured forms."""

    def __init__(
        self, forms: Mapping[str, _Form], off: Mapping[str, str] | None = None
    ) -> None:
        self._forms = forms
        self.off = off or {}
        """Form → environment variable that switches it on and is not set."""

    @classmethod
    def load(cls, project: Path, env: Mapping[str, str] = os.environ) -> "Forms":
        """Read the files below the project folder; there may be none.

        Raises:
            ConfigError: lists every fault of every file with its line.
        """
        faults: list[str] = []
        folder = project / "connectors" / "sources" / "forms"
        forms = {
            name: _form(name, section) for name, section in read_folder(folder, faults)
        }
        if faults:
            raise ConfigError("\n".join(faults))
        off = {
            name: form.enabled_env
            for name, form in forms.items()
            if form.enabled_env is not None and not env.get(form.enabled_env)
        }
        return cls({n: form for n, form in forms.items() if n not in off}, off)

    def receive(self, name: str, content_type: str, body: bytes) -> FormResult:
        """Return the call of one submitted form, and the redirect.

        Raises:
            UnknownForm: no file configures this form, or its file switches it off.
            Undecodable: not a form in UTF-8, one with a file in it, or too large.
        """
        form = self._forms.get(name)
        if form is None:
            raise UnknownForm
        if len(body) > form.max_bytes:
            raise Undecodable("form_too_large")
        kind = content_type.split(";", 1)[0].strip().lower()
        try:
            if kind == "application/x-www-form-urlencoded":
                fields = _urlencoded(body, form.max_fields)
            elif kind == "multipart/form-data":
                fields = _multipart(body, content_type, form.max_fields)
            else:
                raise Undecodable("not_a_form")
        except UnicodeDecodeError:
            raise Undecodable("not_utf8") from None
        return form.result(fields)


def _urlencoded(body: bytes, max_fields: int) -> _Fields:
    text = body.decode()
    if text.count("&") >= max_fields:
        raise Undecodable("too_many_fields")
    return parse_qsl(text, keep_blank_values=True, errors="strict")


def _multipart(body: bytes, content_type: str, max_fields: int) -> _Fields:
    boundary = _BOUNDARY.search(content_type)
    if boundary is None:
        raise Undecodable("not_multipart")
    mark = f"\r\n--{boundary[1] or boundary[2]}".encode()
    _, *parts = (b"\r\n" + body).split(mark, max_fields + 2)
    if len(parts) > max_fields + 1:
        raise Undecodable("too_many_fields")
    if not parts or not parts.pop().startswith(b"--"):  # truncated in transit
        raise Undecodable("not_multipart")
    fields = []
    for part in parts:
        if not part.startswith(b"\r\n"):
            raise Undecodable("not_multipart")
        head, _, value = part.partition(b"\r\n\r\n")
        parameters = _disposition(head.decode())
        if "filename" in parameters or "filename*" in parameters:
            if value:
                raise Undecodable("file_in_form")
        elif "name" in parameters:
            fields.append((parameters["name"], value.decode()))
        else:
            raise Undecodable("not_multipart")
    return fields


def _disposition(head: str) -> dict[str, str]:
    """Return the parameters of a part's header `Content-Disposition`."""
    for line in head.split("\r\n"):
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-disposition":
            return {
                parameter[1].lower(): parameter[3]
                if parameter[2] is None
                else parameter[2]
                for parameter in _PARAMETER.finditer(value)
            }
    return {}


def _form(name: str, section: Section) -> _Form:
    type_: str = section.take("type", choice("track", "identify"), "track")
    event = section.take("event", _word, None)
    if type_ == "track" and not section.has("event"):
        section.fault("needs the key `event`, the name of the event it becomes")
    if type_ == "identify" and section.has("event"):
        section.fault("is for `type: track`; an identify has no name", "event")
    fields = None
    if section.has("fields"):
        fields = _targets(section.inner("fields"))
    redirects: frozenset[str] = frozenset()
    default_redirect = None
    if section.has("redirect"):
        inner = section.inner("redirect")
        redirects = inner.take("allow", _urls, redirects)
        default_redirect = inner.take("default", _url, None)
        inner.end()
    form = _Form(
        source=section.take("write_source", _source, name),
        type=type_,
        event=event,
        fields=fields,
        redirects=redirects,
        default_redirect=default_redirect,
        honeypot=section.take("honeypot", _word, None),
        max_fields=section.take("max_fields", _count(1_000), MAX_FIELDS),
        max_bytes=section.take("max_bytes", _count(ABSOLUTE_MAX), MAX_BYTES),
        enabled_env=section.take("enabled_env", variable, None),
    )
    section.end()
    return form


def _targets(section: Section) -> dict[str, str]:
    targets: dict[str, str] = {}
    for key in section.content:
        target = section.take(key, _target, None)
        if target is None:
            continue
        for other in targets.values():
            if f"{target}.".startswith(f"{other}.") or other.startswith(f"{target}."):
                section.fault("has the same target as another field", str(key))
        targets[str(key)] = target
    return targets if "anonymous_id" in targets.values() else {**_ALWAYS, **targets}


def _word(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be text")
    return value


def _source(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9_-]+", value):
        raise ValueError("must be a source name: lower-case letters, digits, _ and -")
    return value


def _target(value: Any) -> str:
    if not isinstance(value, str) or not _TARGET.fullmatch(value):
        raise ValueError(
            "must be user_id, anonymous_id, message_id, properties.<name>,"
            " traits.<name>, consent.<category> or context.<path>"
        )
    if value.startswith("context.consent"):
        raise ValueError("states consent, which is written consent.<category>")
    return value


def _count(most: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if type(value) is not int or not 1 <= value <= most:
            raise ValueError(f"must be a whole number from 1 to {most}")
        return value

    return parse


def _urls(value: Any) -> frozenset[str]:
    if not isinstance(value, list):
        raise ValueError("must be a list of URLs")
    return frozenset(map(_url, value))


def _url(value: Any) -> str:
    """Check a URL to redirect to.

    Raises:
        ValueError: browsers may read it differently, or it is not encrypted.
    """
    advice = "must be a whole URL: https://, a host, no user name"
    if not isinstance(value, str) or not _URL.fullmatch(value) or "\\" in value:
        raise ValueError(advice)
    url = urlsplit(value)
    is_safe = url.scheme == "https" or url.hostname in _LOOPBACK
    if not is_safe or not url.hostname or "@" in url.netloc or url.port == 0:
        raise ValueError(advice)
    return value
