"""Every error Loomline raises on purpose.

    LoomlineError
    ├── ConfigError              a file or an environment variable needs correcting
    ├── LandingError             landing stopped partway; retrying resumes it
    ├── SourceError              the input is missing or not recognized
    └── DeliveryError            a destination did not confirm a batch
        ├── Retryable            the same batch may be sent again
        │   ├── Throttled        … after `retry_after_s` seconds
        │   └── Unavailable      … after a while
        └── Permanent            sending the same batch again cannot help
            └── Rejected         refused, because of its rows or the destination

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
    """Base class of every error Loomline raises on purpose."""


class ConfigError(LoomlineError):
    """The configuration is not usable; the message lists every fault."""


class LandingError(LoomlineError):
    """Landing stopped partway; nothing is lost, and retrying resumes it."""


class DeliveryError(LoomlineError):
    """A destination did not confirm a batch."""


class Retryable(DeliveryError):
    """The batch was not confirmed and may be sent again."""


class Throttled(Retryable):
    """The destination asks to wait `retry_after_s` seconds."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(Retryable):
    """The destination did not answer, or its answer confirms nothing."""


class Permanent(DeliveryError):
    """Sending the same batch again cannot help.

    `concerns` is "rows" when fewer or other rows may pass, "destination" when no row
    would (a wrong address, a refused key): the batch is not split, and all rows stay
    pending until the configuration is corrected.
    """

    def __init__(
        self, message: str, concerns: Literal["rows", "destination"] = "rows"
    ) -> None:
        super().__init__(message)
        self.concerns = concerns


class Rejected(Permanent):
    """The destination refused the batch as a whole."""


class SourceError(LoomlineError):
    """The input is missing or not recognized; the message names it."""
