"""Every error Loomline raises on purpose.

    LoomlineError
    ├── ConfigError              a file or a variable must be corrected by somebody
    ├── LandingError             landing stopped half-way; doing it again goes on
    ├── SourceError              what should be read is missing or not recognised
    └── DeliveryError            a destination did not confirm a batch
        ├── Retryable            the same batch may be sent again
        │   ├── Throttled        … after `retry_after_s` seconds
        │   └── Unavailable      … after a while
        └── Permanent            sending the same batch again cannot help
            └── Rejected         refused, because of its rows or of the destination

Messages carry ids and counts and say what to do; never personal data.
"""

from __future__ import annotations

from typing import Literal

__all__ = [
    "ConfigError",
    "DeliveryError",
    "LandingError",
    "LoomlineError",
    "Permanent",
    "Rejected",
    "Retryable",
    "SourceError",
    "Throttled",
    "Unavailable",
]


class LoomlineError(Exception):
    """Anything Loomline raises on purpose."""


class ConfigError(LoomlineError):
    """A configuration cannot be used; the message lists every fault."""


class LandingError(LoomlineError):
    """Landing stopped half-way; nothing is lost, and doing it again goes on."""


class DeliveryError(LoomlineError):
    """A destination did not confirm a batch."""


class Retryable(DeliveryError):
    """Not confirmed; the same batch may be sent again."""


class Throttled(Retryable):
    """The destination asks to wait `retry_after_s` seconds."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(Retryable):
    """No answer, or none that confirms anything."""


class Permanent(DeliveryError):
    """Sending the same batch again cannot help.

    `concerns` says why: "rows" when fewer or other rows may pass, "destination" when
    no row would (a wrong address, a refused key), so that nothing is split and all
    rows stay pending until somebody has corrected it.
    """

    def __init__(
        self, message: str, concerns: Literal["rows", "destination"] = "rows"
    ) -> None:
        super().__init__(message)
        self.concerns = concerns


class Rejected(Permanent):
    """The destination refused the batch as a whole."""


class SourceError(LoomlineError):
    """What should be read is missing or not recognised; the message says which."""
