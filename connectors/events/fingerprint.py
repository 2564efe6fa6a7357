"""Fingerprints: a weak identifier for visitors without one, derived from the request.

An event without identifiers gets one, and so does a person's identify call, which links
the earlier events without identifiers to that person.

    keyed hash of (scope, IP address, user agent, accepted languages)

The key is a random salt of the UTC day, shared by all processes through `control.db`.
Once the salt is deleted, a fingerprint can no longer be traced to a visitor, nor two
days' fingerprints to the same one. The inputs are never stored. A fingerprint is still
personal data: off unless the source's key names the consent category that permits it.
"""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from hashlib import blake2b
from secrets import token_bytes

import msgspec

from connectors.events.policy import Policy
from connectors.home import Home

__all__ = ["PERIOD_S", "Fingerprints", "is_permitted"]

PERIOD_S = 86_400
"""Lifetime of one salt: a UTC day."""

_SALT_BYTES = 32
_encode = msgspec.json.encode

_SCHEMA = """
create table if not exists salts (
    period integer primary key,  -- days since 1970, UTC
    salt blob not null
)
"""


class Fingerprints:
    """Makes fingerprints with the salts in `control.db`, which other tables share."""

    def __init__(self, home: Home) -> None:
        self._control = home.control
        self._current = (-1, b"")  # period and its salt

    def stamp(
        self, now_s: float, scope: str, ip: str, user_agent: str, language: str
    ) -> str:
        """Return 32 hex digits, the same for the same four texts within one day."""
        period, salt = self._current
        if now_s // PERIOD_S != period:
            period = int(now_s // PERIOD_S)
            salt = self._salt(period)
            self._current = period, salt
        # As JSON, so that different texts never join to the same bytes.
        shown = _encode((scope, ip, user_agent, language))
        return blake2b(shown, key=salt, digest_size=16).hexdigest()

    def _salt(self, period: int) -> bytes:
        """Return the salt of the period; the first caller creates it."""
        self._control.parent.mkdir(parents=True, exist_ok=True)
        self._control.touch(mode=0o600)
        with closing(sqlite3.connect(self._control, timeout=30)) as db:
            db.execute("pragma secure_delete = on")  # overwrite deleted rows
            with db:
                db.execute(_SCHEMA)
                db.execute(
                    "insert or ignore into salts values (?, ?)",
                    (period, token_bytes(_SALT_BYTES)),
                )
                # Keep the day before: two processes' clocks differ at midnight.
                old = db.execute("delete from salts where period < ?", (period - 1,))
                salt: bytes
                (salt,) = db.execute(
                    "select salt from salts where period = ?", (period,)
                ).fetchone()
            if old.rowcount:  # remove it from the write-ahead log, too
                db.execute("pragma wal_checkpoint(truncate)")
        return salt


def is_permitted(
    policy: Policy, statement: Mapping[str, bool] | None, gpc: bool
) -> bool:
    """Return whether an event's sender may get a fingerprint.

    Only if the source's category for it is granted: by the statement, or without one
    by a key that takes silence for consent. A browser that sends Global Privacy
    Control has refused advertising, whatever the statement says.
    """
    category = policy.fingerprint
    if category is None or (gpc and category == "advertising"):
        return False
    if statement is None:
        return policy.no_consent == "assume_true"
    return statement.get(category) is True
