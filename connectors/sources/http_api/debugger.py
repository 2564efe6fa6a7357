"""The live debugger: streams events and their dispositions.

Every worker sends its decisions to each watcher's socket in a shared folder, so any
worker can serve a watcher. Without watchers the only cost is listing the folder twice a
second. A watcher that falls behind misses events; the collector never waits for it.
"""

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from connectors.events.decisions import AdmissionDecision
from connectors.events.naming import event_name

__all__ = ["Debugger", "Filter", "seen_of"]

_END = ".watch"
_BYTES = 160 << 10  # per datagram; a larger payload is omitted


class Filter(msgspec.Struct, frozen=True):
    """A watcher's filter; None matches everything."""

    source: str | None = None
    event: str | None = None
    disposition: str | None = None


class Seen(msgspec.Struct, omit_defaults=True):
    """One decided item, as sent to watchers."""

    received_at: str
    source: str
    disposition: str
    id: str | None = None
    type: str | None = None
    event: str | None = None
    reason: str | None = None
    violations: list[str] = []
    transformations: list[str] = []
    contract_version: int | None = None
    payload: Any = None
    is_cut: bool = False  # the payload was too large and is omitted

    def is_wanted(self, by: Filter) -> bool:
        return (
            by.source in (None, self.source)
            and by.event in (None, self.event)
            and by.disposition in (None, self.disposition)
        )


class Debugger:
    """Sends to the watchers of all workers, and serves this worker's watchers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._watchers: dict[Path, socket.socket] = {}

    @property
    def is_watched(self) -> bool:
        return bool(self._watchers)

    def look(self) -> None:
        """Update the list of watchers."""
        paths = set(self._folder.glob(f"*{_END}"))
        for path in self._watchers.keys() - paths:
            self._watchers.pop(path).close()
        for path in paths - self._watchers.keys():
            watcher = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            watcher.setblocking(False)
            try:
                watcher.connect(str(path))
            except OSError:  # its worker died without removing it
                watcher.close()
                path.unlink(missing_ok=True)
            else:
                self._watchers[path] = watcher

    def show(self, seen: Seen) -> None:
        data = msgspec.json.encode(seen)
        if len(data) > _BYTES:
            seen.payload, seen.is_cut = None, True
            data = msgspec.json.encode(seen)
        for watcher in self._watchers.values():
            with suppress(OSError):  # its buffer is full or it is gone
                watcher.send(data)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator["asyncio.Queue[Seen]"]:
        """Yield a queue of all workers' decisions from now on."""
        path = self._folder / f"{secrets.token_hex(4)}{_END}"
        queue: asyncio.Queue[Seen] = asyncio.Queue(1000)
        loop = asyncio.get_running_loop()
        inlet = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        inlet.setblocking(False)
        inlet.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        inlet.bind(str(path))
        os.chmod(path, 0o600)

        def read() -> None:
            with suppress(BlockingIOError):
                while True:
                    data = inlet.recv(2 * _BYTES)
                    with suppress(asyncio.QueueFull):
                        queue.put_nowait(msgspec.json.decode(data, type=Seen))

        loop.add_reader(inlet, read)
        self.look()
        try:
            yield queue
        finally:
            loop.remove_reader(inlet)
            inlet.close()
            path.unlink(missing_ok=True)


def seen_of(
    item: Any, decision: AdmissionDecision, applied: list[str], source: str, at: str
) -> Seen:
    """Return one decided item, under its contract's event name."""
    fields = item if type(item) is dict else {}
    text = _text(fields.get("event") or fields.get("name"))
    return Seen(
        received_at=at,
        source=source,
        disposition=decision.disposition,
        id=decision.message_id or _text(fields.get("messageId") or fields.get("uuid")),
        type=_text(fields.get("type")),
        event=decision.event
        or decision.changed.get("event")
        or (event_name(text) if text else None),
        reason=decision.reason,
        violations=decision.violations,
        transformations=applied,
        contract_version=decision.contract_version,
        payload={**fields, **decision.changed} if decision.is_kept else None,
    )


def _text(value: Any) -> str | None:
    return value if type(value) is str else None
