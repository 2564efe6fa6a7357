"""Audience changes as signed JSON requests (Standard Webhooks, read 2026-11-21).

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Literal

import httpx
import msgspec
from pydantic import Field, ValidationInfo, field_validator

from connectors.destinations import settings as common
from connectors.destinations.addresses import Guard, is_loopback, is_private, resolved
from connectors.destinations.protocol import Batch, Change, Receipt, Refusal
from connectors.errors import (
    ConfigError,
    DeliveryError,
    Rejected,
    Throttled,
    Unavailable,
)
from connectors.webhook_secrets import secret_bytes

__all__ = [
    "AudienceChanged",
    "Settings",
    "Webhook",
    "connect",
    "signature",
]

MAX_ANSWER_BYTES = 2**20
THROTTLED_WAIT_S = 30.0  # for a 429 without Retry-After
MAX_REASON_CHARS = 200

# Statuses about the batch's content; any other 3xx or 4xx would apply to every batch,
# so splitting one would only repeat it.
ROW_STATUSES = {400, 409, 413, 422}
RETRY_STATUSES = {408, 423, 425}
ADVICE = {
    401: "check the secret on both sides",
    403: "check the secret on both sides",
    404: "check the url",
    410: "the endpoint is gone; remove the destination or correct its url",
}


class Settings(common.Settings):
    kind: Literal["webhook"]
    allow_private: bool = False  # addresses that are not on the internet
    url: str = Field(examples=["https://crm.example/hooks/audiences"])  # or ${VAR:-…}
    secret_env: common.EnvName
    timeout_s: float = Field(default=15, gt=0, le=60)

    @field_validator("url")
    @classmethod
    def _usable(cls, url: str, info: ValidationInfo) -> str:
        if "${" not in url:
            _checked_url(url, allow_private=info.data.get("allow_private", False))
        return url


class AudienceChanged(msgspec.Struct, tag="audience.changed"):
    """The body of a request."""

    audience: str
    destination: str
    run_at: datetime
    changes: tuple[Change, ...]


class _Refused(msgspec.Struct):
    profile_id: str
    reason: str = "no reason given"


class _Answer(msgspec.Struct):
    refused: list[_Refused] | None = None
    matched: int | None = None
    error: object = None
    errors: object = None
    success: object = True
    ok: object = True


class Webhook:
    """Posts batches to one URL; `secrets` has two entries during a key rotation."""

    def __init__(
        self,
        name: str,
        url: str,
        secrets: tuple[bytes, ...],
        *,
        batch_rows: int = 500,
        timeout_s: float = 15,
        allow_private: bool = False,
        transport: httpx.BaseTransport | None = None,
        resolve: Callable[[str, int], Iterable[str]] = resolved,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.max_batch_rows = batch_rows
        self._name = name
        self._url = url
        self._secrets = secrets
        self._clock = clock
        self._timeout_s = timeout_s
        parsed = httpx.URL(url)
        self._guard = partial(
            Guard,
            name,
            parsed.raw_host.decode("ascii"),
            is_plain=parsed.scheme == "http",
            allow_private=allow_private,
            resolve=resolve,
        )
        self._http = httpx.Client(
            timeout=timeout_s,
            transport=transport,
            follow_redirects=False,
            verify=httpx.create_ssl_context(),  # honors SSL_CERT_FILE
            trust_env=not is_loopback(parsed.host),
        )

    def push(self, batch: Batch) -> Receipt:
        """Send the additions and removals of one batch.

        Raises:
            Throttled: wait `retry_after_s` seconds, then send the same batch again.
            Unavailable: no answer, or one that confirms nothing.
            Rejected: refused as a whole; sending it again cannot help.
        """
        body = msgspec.json.encode(
            AudienceChanged(
                batch.audience, batch.destination, batch.run_at, batch.changes
            )
        )
        timestamp = int(self._clock().timestamp())
        headers = {
            "content-type": "application/json",
            "accept": "application/json",
            "accept-encoding": "identity",
            "user-agent": "loomline",
            "webhook-id": batch.key,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": " ".join(
                signature(secret, batch.key, timestamp, body)
                for secret in self._secrets
            ),
        }
        try:
            with self._http.stream(
                "POST",
                self._url,
                content=body,
                headers=headers,
                extensions={"trace": self._guard()},
            ) as answer:
                if not answer.is_success:
                    raise self._refusal(answer)
                return self._receipt(batch, answer, self._content(answer))
        except httpx.RequestError as error:
            raise Unavailable(f"{self._name}: {type(error).__name__}.") from None

    def close(self) -> None:
        self._http.close()

    def _content(self, answer: httpx.Response) -> bytes:
        """Return the answer's body; raise if it exceeds the size or time limit."""
        encoding = answer.headers.get("content-encoding", "identity").lower()
        if encoding not in ("identity", "gzip", "deflate"):
            raise self._unconfirmed(answer, "in an encoding that was not requested")
        # Decompressed here, because httpx decompresses a chunk without a size limit.
        unpacker = None if encoding == "identity" else zlib.decompressobj(47)
        content = b""
        until = time.monotonic() + self._timeout_s
        assert isinstance(answer.stream, httpx.SyncByteStream)
        for chunk in answer.stream:
            if unpacker is None:
                content += chunk
            else:
                try:
                    content += unpacker.decompress(chunk, MAX_ANSWER_BYTES + 1)
                except zlib.error:
                    raise self._unconfirmed(answer, "that cannot be unpacked") from None
            if len(content) > MAX_ANSWER_BYTES:
                raise self._unconfirmed(answer, "of more than 1 MiB")
            if time.monotonic() > until:
                raise self._unconfirmed(answer, f"not ended after {self._timeout_s} s")
        return content

    def _receipt(self, batch: Batch, answer: httpx.Response, content: bytes) -> Receipt:
        rows = len(batch.changes)
        text = content.strip()
        if "html" in answer.headers.get("content-type", "") or text[:1] == b"<":
            raise self._unconfirmed(answer, "that is a web page; check the url")
        says_json = "json" in answer.headers.get("content-type", "")
        try:
            answer_body = msgspec.json.decode(text) if text else None
            parsed = msgspec.convert(
                answer_body if isinstance(answer_body, dict) else {}, _Answer
            )
        except msgspec.ValidationError:
            raise self._unconfirmed(answer, "of an unexpected shape") from None
        except (msgspec.DecodeError, RecursionError):
            if says_json or text[:1] in (b"{", b"["):
                raise self._unconfirmed(answer, "that is cut off") from None
            return Receipt(rows, (), None, "batch")  # a plain "OK" or similar
        if parsed.error or parsed.errors or not (parsed.success and parsed.ok):
            raise self._unconfirmed(answer, "that reports an error")
        if parsed.refused is None and answer.status_code == 207:
            raise self._unconfirmed(answer, "that does not name the refused rows")
        matched = parsed.matched
        if parsed.refused is None:
            return Receipt(rows, (), matched, "batch")
        sent = {change.profile_id: change for change in batch.changes}
        reasons = {row.profile_id: row.reason for row in parsed.refused}
        if not reasons.keys() <= sent.keys():
            raise self._unconfirmed(answer, "refusing rows that were not sent")
        refused = tuple(
            Refusal(profile_id, _masked(reason, sent[profile_id]))
            for profile_id, reason in reasons.items()
        )
        return Receipt(rows - len(refused), refused, matched, "row")

    def _unconfirmed(self, answer: httpx.Response, what: str) -> Unavailable:
        return Unavailable(
            f"{self._name}: answered {answer.status_code} with a body {what}."
        )

    def _refusal(self, answer: httpx.Response) -> DeliveryError:
        status = answer.status_code
        wait_s = self._retry_after_s(answer.headers.get("retry-after", ""))
        if status == 429 or (status == 503 and wait_s is not None):
            wait_s = THROTTLED_WAIT_S if wait_s is None else wait_s
            return Throttled(
                f"{self._name}: answered {status}, retry in {wait_s:.0f} s.",
                wait_s,
            )
        if status in RETRY_STATUSES or status >= 500 or status < 300:
            return Unavailable(f"{self._name}: answered {status}.")
        if status in ROW_STATUSES:
            return Rejected(f"{self._name}: answered {status}.")
        advice = ADVICE.get(status, "check the url and the receiver")
        if status < 400:
            advice = "redirects are not followed; put the final address into url"
        return Rejected(f"{self._name}: answered {status}; {advice}.", "destination")

    def _retry_after_s(self, text: str) -> float | None:
        """Return seconds to wait; None if the header is absent or unreadable."""
        if re.fullmatch(r"\d{1,9}", text.strip(), re.ASCII):
            return float(text)
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, TypeError):
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max(0.0, (moment - self._clock()).total_seconds())


def connect(
    name: str,
    settings: common.Settings,
    env: Mapping[str, str],
    transport: httpx.BaseTransport | None = None,
) -> Webhook:
    """Return the destination `name`.

    Raises:
        ConfigError: the url or the secret is not usable.
    """
    assert isinstance(settings, Settings)
    try:
        url = common.expand(name, settings.url, env)
        _checked_url(url, allow_private=settings.allow_private)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}.") from None
    try:
        secrets = tuple(map(secret_bytes, env.get(settings.secret_env, "").split()))
    except ValueError as error:
        raise ConfigError(f"{name}: {settings.secret_env}: {error}.") from None
    if not secrets:
        raise ConfigError(
            f"{name}: the environment variable {settings.secret_env} is not set."
        )
    return Webhook(
        name,
        url,
        secrets,
        batch_rows=settings.batch_rows,
        timeout_s=settings.timeout_s,
        allow_private=settings.allow_private,
        transport=transport,
    )


def signature(secret: bytes, webhook_id: str, timestamp: int, body: bytes) -> str:
    """Return the header `webhook-signature`; `timestamp` is seconds since 1970."""
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    digest = hmac.digest(secret, signed, hashlib.sha256)
    return "v1," + base64.b64encode(digest).decode()


def _checked_url(url: str, *, allow_private: bool) -> None:
    """Raise ValueError if personal data must not be sent to the URL."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        raise ValueError("the url is not valid") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError("the url must begin with https:// and a host")
    if parsed.userinfo:
        raise ValueError("the url must not contain a user name or password")
    if parsed.scheme == "http":
        if not is_loopback(parsed.host):
            raise ValueError("plain http is for this machine only; use https")
    elif is_private(parsed.host) and not allow_private:
        raise ValueError(
            "https to a private address needs allow_private: true beside the url"
        )


def _masked(reason: str, change: Change) -> str:
    """Return the reason without any personal data it may repeat."""
    for identifier in (*change.add, *change.remove):
        if identifier.value and identifier.type != "profile_id":
            parts = re.split(re.escape(identifier.value), reason, flags=re.IGNORECASE)
            reason = f"<{identifier.type}>".join(parts)
    return re.sub(r"\S+@\S+", "<email>", reason)[:MAX_REASON_CHARS]
