"""Whether a webhook really comes from its sender: the schemes providers sign with.

| scheme               | what is signed                | headers (small letters)       |
|----------------------|-------------------------------|-------------------------------|
| `standard_webhooks`  | `<id>.<timestamp>.<body>`     | webhook-id, -timestamp,       |
|                      |                               | -signature; or svix-…         |
| `stripe`             | `<timestamp>.<body>`          | stripe-signature: `t=…,v1=…`  |
| `github`             | `<body>`; no time, so what    | x-hub-signature-256:          |
|                      | was seen can be sent again    | `sha256=…`                    |
| `none`               | nothing                       |                               |

Each is HMAC-SHA256 over the body's own bytes (the providers' manuals, read 2026-11-21):
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
"""Schemes that sign the time of sending, which bounds how long a copy is of use."""

MIN_SECRET_BYTES = 16
_SECONDS = re.compile(r"\d{1,12}", re.ASCII)


class BadSignature(ValueError):
    """Not signed with a known secret, or too long ago. The sender is not told which."""

    def __init__(self) -> None:
        super().__init__("The signature does not hold.")


@dataclass(frozen=True, slots=True)
class Signature:
    """How one sender signs; `secrets` are several while one replaces another."""

    scheme: Scheme
    secrets: tuple[bytes, ...] = ()
    tolerance_s: float = 300  # between the sender's clock and ours, either way

    def check(self, headers: Mapping[str, str], body: bytes, now_s: float) -> None:
        """Return when the body is the sender's; header names are in small letters.

        Raises:
            BadSignature: it is not, or nothing proves that it is.
        """
        if self.scheme == "none":
            return
        time, signed, given = _read(self.scheme, headers)
        is_late = time is not None and abs(now_s - time) > self.tolerance_s
        if is_late or not self._is_signed(signed + body, given):
            raise BadSignature

    def _is_signed(self, signed: bytes, given: list[str]) -> bool:
        made = (
            self._written(hmac.digest(key, signed, "sha256")) for key in self.secrets
        )
        texts = [text for text in given if text.isascii()]  # others raise TypeError
        return any(hmac.compare_digest(one, other) for one in made for other in texts)

    def _written(self, digest: bytes) -> str:
        if self.scheme == "standard_webhooks":
            return base64.b64encode(digest).decode()
        return digest.hex()


def read_secrets(scheme: Scheme, text: str) -> tuple[bytes, ...]:
    """The secrets of a variable, where commas or blanks stand between them.

    Raises:
        ValueError: one cannot be used; the message says what a secret looks like.
    """
    parts = text.replace(",", " ").split()
    if scheme == "standard_webhooks":
        return tuple(map(secret_bytes, parts))
    # Half a secret that held a blank would be one that can be guessed.
    if any(len(part.encode()) < MIN_SECRET_BYTES for part in parts):
        raise ValueError(
            f"a secret has at least {MIN_SECRET_BYTES} characters and holds no blank"
            " and no comma, which stand between two; agree on another one"
        )
    return tuple(part.encode() for part in parts)


def _read(
    scheme: Scheme, headers: Mapping[str, str]
) -> tuple[int | None, bytes, list[str]]:
    """When it was sent, what is signed before the body, and the signatures given."""
    if scheme == "github":
        return None, b"", _of_version(headers, "x-hub-signature-256", "sha256=")
    if scheme == "stripe":
        times = _of_version(headers, "stripe-signature", "t=")
        time = times[0] if len(times) == 1 else ""
        given = _of_version(headers, "stripe-signature", "v1=")
        return _seconds(time), f"{time}.".encode(), given
    # Svix, from which the standard grew, keeps its own name in its customers' headers.
    kind = "webhook" if "webhook-id" in headers else "svix"
    webhook_id = headers.get(f"{kind}-id", "")
    if not webhook_id.isascii():
        raise BadSignature
    time = headers.get(f"{kind}-timestamp", "")
    given = [
        one.removeprefix("v1,")
        for one in headers.get(f"{kind}-signature", "").split(" ")
        if one.startswith("v1,")
    ]
    return _seconds(time), f"{webhook_id}.{time}.".encode(), given


def _of_version(headers: Mapping[str, str], name: str, prefix: str) -> list[str]:
    parts = (part.strip() for part in headers.get(name, "").split(","))
    return [part.removeprefix(prefix) for part in parts if part.startswith(prefix)]


def _seconds(text: str) -> int:
    if not _SECONDS.fullmatch(text):
        raise BadSignature
    return int(text)
