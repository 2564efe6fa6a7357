"""The text of write keys: creates, recognizes and hashes it."""

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
"""Browser keys are public, as part of a page; admin keys accept no events."""

PREFIXES: dict[Kind, str] = {"browser": "lwb_", "server": "lws_", "admin": "lwa_"}
ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
# The hint shows 4 of them; the other 22 stay secret, which is 131 bits.
RANDOM_CHARACTERS = 26
HINT_CHARACTERS = 4
CHECKSUM_CHARACTERS = 6  # 62^6 > 2^32
LONGEST_KEY = 512  # longer texts are not even hashed

_OWN = re.compile(
    rf"({'|'.join(PREFIXES.values())})"
    rf"[0-9A-Za-z]{{{RANDOM_CHARACTERS + CHECKSUM_CHARACTERS}}}"
)


def looks_own(text: str) -> bool:
    """Return whether a text begins like a key made by Loomline."""
    return text.startswith(tuple(PREFIXES.values()))


def is_wellformed(text: str) -> bool:
    """Return whether a text has the form of Loomline's keys and a matching checksum.

    A text that `looks_own` but is not well-formed was mistyped or truncated; a
    well-formed one that is not found was revoked, has expired or belongs to another
    installation. Does not apply to imported keys.
    """
    return bool(_OWN.fullmatch(text)) and text.endswith(
        _checksum(text[:-CHECKSUM_CHARACTERS])
    )


def new_text(kind: Kind) -> str:
    """Create a key: prefix, random characters, checksum."""
    body = "".join(secrets.choice(ALPHABET) for _ in range(RANDOM_CHARACTERS))
    return PREFIXES[kind] + body + _checksum(PREFIXES[kind] + body)


def _checksum(text: str) -> str:
    rest, digits = zlib.crc32(text.encode()), ""
    for _ in range(CHECKSUM_CHARACTERS):
        rest, digit = divmod(rest, 62)
        digits += ALPHABET[digit]
    return digits


def key_hint(text: str) -> str:
    """Return enough to distinguish keys, at most a quarter of the secret."""
    if looks_own(text):
        return text[: len(PREFIXES["server"]) + HINT_CHARACTERS]
    return text[: min(HINT_CHARACTERS, len(text) // 4)]


def key_digest(text: str) -> bytes:
    """Return the hash of a key, which is stored instead of it."""
    # 128 random bits cannot be guessed, so no slow hash is needed. JSON can contain
    # lone surrogates, which have no UTF-8.
    return sha256(text.encode(errors="surrogatepass")).digest()
