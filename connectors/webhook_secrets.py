"""Decodes Standard Webhooks secrets, for incoming and outgoing webhooks alike."""

import base64
import binascii

__all__ = ["secret_bytes"]


def secret_bytes(text: str) -> bytes:
    """Return the key in `whsec_<base64 of 24 to 64 bytes>`.

    Raises:
        ValueError: the text is something else; the message describes the format.
    """
    encoded = text.removeprefix("whsec_")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if encoded == text or not 24 <= len(key) <= 64:
        raise ValueError(
            "a secret is whsec_ and the base64 of 24 to 64 random bytes; copy all of it"
        )
    return key
