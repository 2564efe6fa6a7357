"""Verifies the signatures of webhooks, in the schemes providers use.

| scheme               | signed content                | headers (lower case)          |
|----------------------|-------------------------------|-------------------------------|
| `standard_webhooks`  | `<id>.<timestamp>.<body>`     | webhook-id, -timestamp,       |
|                      |                               | -signature; or svix-…         |
| `stripe`             | `<timestamp>.<body>`          | stripe-signature: `t=…,v1=…`  |
| `github`             | `<body>`; no time, so a copy  | x-hub-signature-256:          |
|                      | can be sent again             | `sha256=…`                    |
| `none`               | nothing                       |                               |

Each is HMAC-SHA256 over the body's raw bytes (the providers' manuals, read 2026-11-21):
https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
https://docs.stripe.com/webhooks/signature
https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
"""

import base64
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from connectors.webhook_secrets import secret_bytes

__all__ = ["SCHEMES", "TIMED", "BadSignature", "Scheme", "Signature", "read_secrets"]

Scheme = Literal["standard_webhooks", "stripe", "github", "none"]
SCHEMES: tuple[str, ...] = get_args(Scheme)

TIMED = frozenset({"standard_webhooks", "stripe"})
"""Schemes that sign the time of sending, which limits how long a copy is valid."""

MIN_SECRET_BYTES = 16
_SECONDS = re.compile(r"\d{1,12}", re.ASCII)


class BadSignature(ValueError):
    """Not signed with a known secret, or too old. The sender does not learn which."""

    def __init__(self) -> None:
        super().__init__("The signature is not valid.")


@dataclass(frozen=True, slots=True)
class Signature:
    """One sender's signing scheme; `secrets` has several entries during a rotation."""

    scheme: Scheme
    secrets: tuple[bytes, ...] = ()
    tolerance_s: float = 300  # between the sender's clock and ours, either way

    def check(self, headers: Mapping[str, str], body: bytes, now_s: float) -> None:
        """Return if the sender signed the body; header names are in lower case.

        Raises:
            BadSignature: the signature is missing, wrong or too old.
        """
        if self.scheme == "none":
            return
        time, signed, signatures = _read(self.scheme, headers)
        is_late = time is not None and abs(now_s - time) > self.tolerance_s
        if is_late or not self._is_signed(signed + body, signatures):
            raise BadSignature

    def _is_signed(self, signed: bytes, signatures: list[str]) -> bool:
        made = (
            self._written(hmac.digest(key, signed, "sha256")) for key in self.secrets
        )
        texts = [
            text for text in signatures if text.isascii()
        ]  # others raise TypeError
        return any(hmac.compare_digest(one, other) for one in made for other in texts)

    def _written(self, digest: bytes) -> str:
        if self.scheme == "standard_webhooks":
            return base64.b64encode(digest).decode()
        return digest.hex()


def read_secrets(scheme: Scheme, text: str) -> tuple[bytes, ...]:
    """Return the secrets in a variable, separated by commas or spaces.

    Raises:
        ValueError: one is not usable; the message describes a valid secret.
    """
    parts = text.replace(",", " ").split()
    if scheme == "standard_webhooks":
        return tuple(map(secret_bytes, parts))
    # A secret with a space in it would be split into parts short enough to guess.
    if any(len(part.encode()) < MIN_SECRET_BYTES for part in parts):
        raise ValueError(
            f"a secret must have at least {MIN_SECRET_BYTES} characters and no space"
            " or comma, which separate two secrets; agree on another one"
        )
    return tuple(part.encode() for part in parts)


def _read(
    scheme: Scheme, headers: Mapping[str, str]
) -> tuple[int | None, bytes, list[str]]:
    """Return the time of sending, the bytes signed before the body, the signatures."""
    if scheme == "github":
        return None, b"", _of_version(headers, "x-hub-signature-256", "sha256=")
    if scheme == "stripe":
        times = _of_version(headers, "stripe-signature", "t=")
        time = times[0] if len(times) == 1 else ""
        signatures = _of_version(headers, "stripe-signature", "v1=")
        return _seconds(time), f"{time}.".encode(), signatures
    # Svix, from which the standard grew, keeps its own name in its customers' headers.
    kind = "webhook" if "webhook-id" in headers else "svix"
    webhook_id = headers.get(f"{kind}-id", "")
    if not webhook_id.isascii():
        raise BadSignature
    time = headers.get(f"{kind}-timestamp", "")
    signatures = [
        one.removeprefix("v1,")
        for one in headers.get(f"{kind}-signature", "").split(" ")
        if one.startswith("v1,")
    ]
    return _seconds(time), f"{webhook_id}.{time}.".encode(), signatures


def _of_version(headers: Mapping[str, str], name: str, prefix: str) -> list[str]:
    parts = (part.strip() for part in headers.get(name, "").split(","))
    return [part.removeprefix(prefix) for part in parts if part.startswith(prefix)]


def _seconds(text: str) -> int:
    if not _SECONDS.fullmatch(text):
        raise BadSignature
    return int(text)
