"""The texts of write keys: how they are made, told apart and hashed."""

import re
import secrets
import string
import zlib
from hashlib import sha256
from typing import Literal

__all__ = [
    "LONGEST_KEY",
    "Kind",
    "is_wellformed",
    "key_digest",
    "key_hint",
    "looks_own",
    "new_text",
]

Kind = Literal["browser", "server", "admin"]
"""Browser keys can be read by anybody who opens the page; admin keys take no events."""

PREFIXES: dict[Kind, str] = {"browser": "lwb_", "server": "lws_", "admin": "lwa_"}
ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
# The hint shows 4 of them; 22 stay secret, which is 131 bits.
RANDOM_CHARACTERS = 26
HINT_CHARACTERS = 4
CHECKSUM_CHARACTERS = 6  # 62^6 > 2^32
LONGEST_KEY = 512  # longer texts are not even hashed

_OWN = re.compile(
    rf"({'|'.join(PREFIXES.values())})"
    rf"[0-9A-Za-z]{{{RANDOM_CHARACTERS + CHECKSUM_CHARACTERS}}}"
)


def looks_own(text: str) -> bool:
    """Whether a text begins as keys made here do."""
    return text.startswith(tuple(PREFIXES.values()))


def is_wellformed(text: str) -> bool:
    """Whether a text is a key as they are made here, with the checksum that fits.

    One that `looks_own` and is not well-formed was mistyped or cut off; one that is
    well-formed and not found was revoked, has expired or is another installation's.
    Says nothing about imported keys.
    """
    return bool(_OWN.fullmatch(text)) and text.endswith(
        _checksum(text[:-CHECKSUM_CHARACTERS])
    )


def new_text(kind: Kind) -> str:
    """Make a key: prefix, random characters, checksum."""
    body = "".join(secrets.choice(ALPHABET) for _ in range(RANDOM_CHARACTERS))
    return PREFIXES[kind] + body + _checksum(PREFIXES[kind] + body)


def _checksum(text: str) -> str:
    rest, digits = zlib.crc32(text.encode()), ""
    for _ in range(CHECKSUM_CHARACTERS):
        rest, digit = divmod(rest, 62)
        digits += ALPHABET[digit]
    return digits


def key_hint(text: str) -> str:
    """Enough to tell keys apart, never more than a quarter of what is secret."""
    if looks_own(text):
        return text[: len(PREFIXES["server"]) + HINT_CHARACTERS]
    return text[: min(HINT_CHARACTERS, len(text) // 4)]


def key_digest(text: str) -> bytes:
    """Return what is kept of a key."""
    # Of 128 random bits nobody finds the text again, so no slow hash is needed. JSON
    # can hold lone surrogates, which have no UTF-8.
    return sha256(text.encode(errors="surrogatepass")).digest()
