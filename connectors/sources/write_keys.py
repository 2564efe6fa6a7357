"""Write keys: authenticate clients, and define what they may send.

The table `write_keys` of `control.db` stores the SHA-256 of each key; the key itself is
shown once, on creation. `KeyStore` changes the table, `KeyRing` looks keys up in
memory.
"""

import hmac
import math
import re
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple, get_args

import msgspec
from msgspec.structs import replace

from connectors.errors import ConfigError
from connectors.events.canonical import TYPES
from connectors.events.policy import Policy
from connectors.home import Home
from connectors.sources.key_text import (
    LONGEST_KEY,
    Kind,
    is_wellformed,
    key_digest,
    key_hint,
    looks_own,
    new_text,
)

__all__ = [
    "DEFAULT_RATES",
    "MAX_BATCH_BYTES",
    "PATH_GROUPS",
    "KeyRing",
    "KeyStore",
    "PathGroup",
    "State",
    "WriteKey",
]

PathGroup = Literal[
    "segment", "rudder", "posthog", "jitsu", "native", "webhook", "form"
]
"""Endpoints of one family of clients."""

PATH_GROUPS: tuple[PathGroup, ...] = get_args(PathGroup)

State = Literal["live", "expiring", "expired", "revoked"]

DEFAULT_RATES: dict[Kind, tuple[float, int]] = {
    "browser": (100, 500),
    "server": (1000, 5000),
    "admin": (0, 0),
}
"""Events per second, and the burst after a pause."""

SCHEMA = """
create table if not exists write_keys (
    id text primary key,
    name text not null,
    sha256 blob not null,  -- of the key's text
    record text not null  -- the WriteKey as JSON
)
"""

MAX_BATCH_BYTES = 10 << 20
_NAME = re.compile(r"[a-z0-9]([a-z0-9_-]{0,62}[a-z0-9])?")


class WriteKey(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one key, without the key itself."""

    id: str
    name: str  # the source of its events
    kind: Kind
    scope: str  # message ids are unique within it
    policy: Policy
    rate: float  # events per second
    burst: int  # events
    paths: frozenset[PathGroup] | None  # None: all
    max_batch_bytes: int  # decompressed
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    hint: str  # the key's first characters

    def state(self, at: datetime) -> State:
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is None:
            return "live"
        return "expiring" if at < self.expires_at else "expired"

    def is_live(self, at: datetime) -> bool:
        return self.state(at) in ("live", "expiring")


class KeyStore:
    """The write keys of one installation; changes are on disk when a method returns."""

    def __init__(
        self, home: Home, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._db = _open(home)
        self._clock = clock

    def create(
        self,
        name: str,
        kind: Kind = "server",
        *,
        scope: str | None = None,
        policy: Policy | None = None,
        rate: float | None = None,
        burst: int | None = None,
        paths: Iterable[PathGroup] | None = None,
        max_batch_bytes: int = MAX_BATCH_BYTES,
        value: str | None = None,
    ) -> tuple[WriteKey, str]:
        """Create a key, or import `value`; the key's text is not stored.

        `scope` defaults to the name, `rate` and `burst` to the kind's values.

        Raises:
            ConfigError: lists every fault, such as a name or a value that already has
                a live key.
        """
        text = new_text(kind) if value is None else value
        faults = []
        if kind == "admin":
            if (policy, rate, burst, paths) != (None,) * 4:
                faults.append(
                    "An admin key accepts no events: omit the rate, the burst and what "
                    "is allowed, or choose another kind."
                )
            paths = ()
        key = WriteKey(
            id=secrets.token_hex(6),
            name=name,
            kind=kind,
            scope=name if scope is None else scope,
            policy=policy or Policy(),
            rate=DEFAULT_RATES[kind][0] if rate is None else rate,
            burst=DEFAULT_RATES[kind][1] if burst is None else burst,
            paths=None if paths is None else frozenset(paths),
            max_batch_bytes=max_batch_bytes,
            created_at=self._clock(),
            hint=key_hint(text),
        )
        faults += _faults(key, text)
        digest = key_digest(text)
        with self._changing():
            live = [k for k in self.list() if k.is_live(key.created_at)]
            if any(k.name == name for k in live):
                faults.append(
                    f"{name} already has a key. Replace it with `loomline keys rotate "
                    f"{name}`, or choose another name."
                )
            if any(k.id in self._ids_of(digest) for k in live):
                faults.append("This value is already in use; revoke its key first.")
            if faults:
                raise ConfigError("\n".join(faults))
            self._insert(key, digest)
        return key, text

    def list(self) -> tuple[WriteKey, ...]:
        """Return all keys, including ended ones, by name, oldest first."""
        rows = self._db.execute("select record from write_keys order by name, rowid")
        return tuple(_read(record) for (record,) in rows.fetchall())

    def rotate(self, name: str, keep_s: float = 86_400) -> tuple[WriteKey, str]:
        """Create a key like the current one, which stays valid for `keep_s` seconds.

        A key that is already expiring keeps its end unless the new one is earlier.
        With `keep_s` 0 only the new key is live.

        Raises:
            ConfigError: the name has no live key.
        """
        if not 0 <= keep_s <= 10 * 365 * 86_400:
            raise ConfigError("The old key can stay valid for 0 s to ten years.")
        at = self._clock()
        end = at + timedelta(seconds=keep_s)
        with self._changing():
            live = [k for k in self.list() if k.name == name and k.is_live(at)]
            if not live:
                raise ConfigError(
                    "No live key has this name; `loomline keys list` shows all."
                )
            text = new_text(live[-1].kind)
            key = replace(
                live[-1],
                id=secrets.token_hex(6),
                created_at=at,
                expires_at=None,
                hint=key_hint(text),
            )
            for previous in live:
                self._update(
                    replace(previous, expires_at=min(previous.expires_at or end, end))
                )
            self._insert(key, key_digest(text))
        return key, text

    def revoke(self, which: str) -> tuple[WriteKey, ...]:
        """End the live keys with this name, or the one with this id or text.

        Raises:
            ConfigError: there is no such live key.
        """
        at = self._clock()
        with self._changing():
            ids = self._ids_of(key_digest(which))
            live = [k for k in self.list() if k.is_live(at)]
            keys = [k for k in live if k.id == which or k.id in ids]
            keys = keys or [k for k in live if k.name == which]
            if not keys:
                raise ConfigError(
                    "This key is mistyped or truncated: its checksum does not match."
                    if looks_own(which) and not is_wellformed(which)
                    else "No live key has this name or id; "
                    "`loomline keys list` shows all."
                )
            ended = tuple(replace(k, revoked_at=at) for k in keys)
            for key in ended:
                self._update(key)
        return ended

    def close(self) -> None:
        self._db.close()

    def _ids_of(self, digest: bytes) -> set[str]:
        rows = self._db.execute(
            "select id from write_keys where sha256 = ?", (digest,)
        ).fetchall()
        return {id_ for (id_,) in rows}

    def _insert(self, key: WriteKey, digest: bytes) -> None:
        self._db.execute(
            "insert into write_keys values (?, ?, ?, ?)",
            (key.id, key.name, digest, _write(key)),
        )

    def _update(self, key: WriteKey) -> None:
        self._db.execute(
            "update write_keys set record = ? where id = ?", (_write(key), key.id)
        )

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Serialize changes, so that what was read is still true when writing."""
        with self._db:
            self._db.execute("begin immediate")
            yield


class _Held(NamedTuple):
    digest: bytes
    key: WriteKey
    until_s: float


class KeyRing:
    """The live keys in memory, for one process of a server.

    Create it in the process that uses it: SQLite connections do not survive a fork.
    """

    def __init__(self, home: Home, clock: Callable[[], float] = time.time) -> None:
        self._db = _open(home)
        self._clock = clock
        self._version = -1
        self._held: dict[bytes, _Held] = {}
        # By the key's text, and only for existing keys: requests with unknown keys
        # cannot make it grow, and every change empties it.
        self._by_text: dict[str, _Held] = {}
        self.refresh()

    def find(self, text: str) -> WriteKey | None:
        """Return the live key with this text, or None.

        `id:secret`, as Jitsu's clients send it, is one text. With HTTP Basic, pass the
        user if the password is empty (Segment, RudderStack), else `user:password`.
        """
        # Before `_held` is read: a key found while another thread refreshes then goes
        # into the dictionary that is discarded.
        by_text = self._by_text
        held = by_text.get(text)
        if held is None:
            held = self._look_up(text)
            if held is None:
                return None
            by_text[text] = held
        if self._clock() >= held.until_s:
            by_text.pop(text, None)
            return None
        return held.key

    def of_source(self, name: str) -> WriteKey | None:
        """Return a live key with this name, or None."""
        now_s = self._clock()
        return next(
            (
                held.key
                for held in self._held.values()
                if held.key.name == name and now_s < held.until_s
            ),
            None,
        )

    def refresh(self) -> bool:
        """Reload the keys if the database has changed; return whether it had.

        Cheap enough for every second: an unchanged database costs microseconds.
        """
        # First, so that a concurrent change is seen the next time.
        (version,) = self._db.execute("pragma data_version").fetchone()
        if version == self._version:
            return False
        # In order: the value of an ended key may belong to a newer key.
        rows = self._db.execute("select sha256, record from write_keys order by rowid")
        held = {}
        for digest, record in rows.fetchall():
            key = _read(record)
            if key.revoked_at is None:
                until_s = key.expires_at.timestamp() if key.expires_at else math.inf
                held[digest[:16]] = _Held(digest, key, until_s)
        self._held, self._by_text, self._version = held, {}, version
        return True

    def close(self) -> None:
        self._db.close()

    def _look_up(self, text: str) -> _Held | None:
        """Look up half the hash, then compare all of it in constant time."""
        if len(text) > LONGEST_KEY:
            return None
        digest = key_digest(text)
        held = self._held.get(digest[:16])
        if held is None or not hmac.compare_digest(held.digest, digest):
            return None
        return held


def _open(home: Home) -> sqlite3.Connection:
    home.make()
    home.control.touch(mode=0o600)
    db = sqlite3.connect(
        home.control, isolation_level=None, timeout=30, check_same_thread=False
    )
    db.execute(SCHEMA)
    return db


def _faults(key: WriteKey, text: str) -> list[str]:
    faults = []
    for name, what in {key.scope: "scope", key.name: "name"}.items():
        if not _NAME.fullmatch(name):
            faults.append(
                f"{name!r} cannot be a {what}: use up to 64 lower-case letters, "
                "digits, _ and -, beginning and ending with a letter or digit."
            )
    if key.kind != "admin":
        if not 0 < key.rate < math.inf:
            faults.append("The rate must be more than 0 events per second.")
        if key.burst < 1:
            faults.append("The burst must be 1 event or more.")
    for what, allowed, known in (
        ("type of call", key.policy.types, TYPES),
        ("group of paths", key.paths, PATH_GROUPS),
    ):
        for name in sorted((allowed or frozenset()) - {*known}):
            faults.append(f"{name!r} is not a {what}; choose from {', '.join(known)}.")
    if key.max_batch_bytes > MAX_BATCH_BYTES:
        faults.append(
            f"A batch's maximum size must be {MAX_BATCH_BYTES:,} bytes or less, the "
            "limit of one request."
        )
    if not 1 <= key.policy.max_event_bytes <= key.max_batch_bytes:
        faults.append(
            f"An event's maximum size must be 1 to {key.max_batch_bytes:,} bytes, the "
            "maximum size of a batch."
        )
    if not re.fullmatch(rf"[!-~]{{1,{LONGEST_KEY}}}", text):
        faults.append(
            f"A value must be 1 to {LONGEST_KEY} printable ASCII characters without "
            "spaces: other characters do not survive HTTP headers."
        )
    elif looks_own(text) and not is_wellformed(text):
        faults.append(
            "The value looks like a key made by Loomline, but its checksum does not "
            "match: it is mistyped or truncated."
        )
    return faults


def _write(key: WriteKey) -> str:
    return msgspec.json.encode(key, order="deterministic").decode()


def _read(record: str) -> WriteKey:
    return msgspec.json.decode(record, type=WriteKey)
