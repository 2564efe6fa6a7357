"""A local test destination that receives audience changes and shows its members.

It verifies signatures, applies each `webhook-id` once, and appends each applied
delivery to `<folder>/sandbox.ndjson`, from which it restores its state. It listens on
127.0.0.1 only. The page masks addresses; the JSON answers do not.
"""

from __future__ import annotations

import hmac
import os
import re
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal, Self
from urllib.parse import unquote

import msgspec

from connectors.destinations.protocol import Identifier
from connectors.destinations.webhook import AudienceChanged, signature
from connectors.errors import ConfigError
from connectors.webhook_secrets import secret_bytes
from orchestration.demo.sandbox.deliveries import Delivery, Members
from orchestration.demo.sandbox.page import HEADERS, content, page

__all__ = ["Answer", "Attempt", "Sandbox"]

WINDOW_S = 300  # Standard Webhooks' reference libraries, read 2026-11-21
MAX_BODY_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Answer:
    """A scripted answer; `applied` decides whether the changes are applied.

    `refused` are profile ids that are not applied and that the answer names.
    """

    status: int = 200
    body: bytes | None = None  # None: the default answer
    headers: Mapping[str, str] = field(default_factory=dict)
    fault: Literal["none", "hang", "reset"] = "none"
    applied: bool = False
    refused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Attempt:
    """One correctly signed request, applied or not."""

    webhook_id: str
    timestamp: int  # seconds since 1970, as signed
    signature: str
    received_at: datetime


class Sandbox:
    """The receiver; `script` has its first answers, `rule` can answer any delivery.

    Args:
        secret: `whsec_<base64>`, shared with the sender.
        port: 0 picks a free port.
    """

    def __init__(
        self,
        folder: Path,
        secret: str,
        port: int = 0,
        script: Iterable[Answer] = (),
        *,
        rule: Callable[[AudienceChanged], Answer | None] = lambda _: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.attempts: list[Attempt] = []
        try:
            self._secret = secret_bytes(secret)
        except ValueError as error:
            raise ConfigError(f"Invalid webhook secret: {error}.") from None
        self._port = port
        self._script = deque(script)
        self._rule = rule
        self._clock = clock
        self.folder = folder.absolute()
        self._file = folder / "sandbox.ndjson"
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._server: _Server | None = None
        self._duplicates = 0
        self._deliveries: dict[str, Delivery] = {}
        self._audiences: dict[str, Members] = {}
        self._restore()

    @property
    def url(self) -> str:
        """Return the address while started."""
        if self._server is None:
            raise RuntimeError("The sandbox is not started.")
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> None:
        self._stopping.clear()
        self._server = _Server(self, self._port)
        threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        ).start()

    def stop(self) -> None:
        """Close immediately, including connections that wait for an answer."""
        if self._server is not None:
            self._stopping.set()
            self._server.shutdown()
            self._server.server_close()
            self._server.hang_up()
            self._server = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def members(self, audience: str) -> dict[str, frozenset[Identifier]]:
        """Return the current members of an audience with their identifiers."""
        with self._lock:
            members = self._audiences.get(audience, {})
            return {profile_id: frozenset(ids) for profile_id, ids in members.items()}

    def audiences(self) -> dict[str, int]:
        """Return the count of members per audience."""
        with self._lock:
            return {name: len(ids) for name, ids in sorted(self._audiences.items())}

    def deliveries(self) -> dict[str, int]:
        """Return counts of applied deliveries and of their changes."""
        with self._lock:
            applied = list(self._deliveries.values())
            return {
                "count": len(applied),
                "added": sum(delivery.count("add") for delivery in applied),
                "removed": sum(delivery.count("remove") for delivery in applied),
                "resent": sum(delivery.count("resend") for delivery in applied),
                "refused": sum(len(delivery.refused) for delivery in applied),
                "duplicates": self._duplicates,
            }

    def page(self) -> str:
        """Return the HTML page: audiences, some members, the last deliveries."""
        with self._lock:
            return page(self._audiences, list(self._deliveries.values()))

    def content(self) -> str:
        """Return the part of the page that changes with deliveries."""
        with self._lock:
            return content(self._audiences, list(self._deliveries.values()))

    def receive(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """Verify and apply a request, unless scripted otherwise; return the answer."""
        attempt = self._verified(headers, body)
        if attempt is None:
            return Answer(401, b'{"error":"signature or timestamp"}')
        with self._lock:
            self.attempts.append(attempt)
            try:
                content = msgspec.json.decode(body, type=AudienceChanged)
            except msgspec.DecodeError:
                return Answer(400, b'{"error":"not an audience.changed"}')
            scripted = self._script.popleft() if self._script else None
            answer = scripted or self._rule(content) or Answer(applied=True)
            earlier = self._deliveries.get(attempt.webhook_id)
            if earlier is not None:
                self._duplicates += 1
            elif answer.applied:
                earlier = Delivery(
                    attempt.webhook_id, attempt.received_at, answer.refused, content
                )
                self._record(earlier)
        if answer.body is not None:
            return answer
        if earlier is None:
            return Answer(answer.status, b"", answer.headers, answer.fault)
        # A repeated delivery gets the first answer again, which may have been lost.
        refused = [{"profile_id": p, "reason": "refused"} for p in earlier.refused]
        result = {"refused": refused, "received": len(earlier.content.changes)}
        return Answer(
            answer.status, msgspec.json.encode(result), answer.headers, answer.fault
        )

    def wait_for_stop(self) -> None:
        self._stopping.wait()

    def _verified(self, headers: Mapping[str, str], body: bytes) -> Attempt | None:
        webhook_id = headers.get("webhook-id", "")
        signed_at = headers.get("webhook-timestamp", "")
        signatures = headers.get("webhook-signature", "")
        if not webhook_id or not re.fullmatch(r"\d{1,12}", signed_at, re.ASCII):
            return None
        timestamp, now = int(signed_at), self._clock()
        if abs(now.timestamp() - timestamp) > WINDOW_S:
            return None
        expected = signature(self._secret, webhook_id, timestamp, body).encode()
        sent = [text.encode() for text in signatures.split(" ")]
        if not any(hmac.compare_digest(expected, one) for one in sent):
            return None
        return Attempt(webhook_id, timestamp, signatures, now)

    def _record(self, delivery: Delivery) -> None:
        line = msgspec.json.encode(delivery) + b"\n"
        handle = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(handle, "ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self._apply(delivery)

    def _restore(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        if not self._file.exists():
            return
        with self._file.open("r+b") as file:
            whole = 0
            for line in file:
                if not line.endswith(b"\n"):
                    file.truncate(whole)  # cut off by a crash, so never answered
                    break
                whole += len(line)
                self._apply(msgspec.json.decode(line, type=Delivery))

    def _apply(self, delivery: Delivery) -> None:
        self._deliveries[delivery.webhook_id] = delivery
        members = self._audiences.setdefault(delivery.content.audience, {})
        for change in delivery.content.changes:
            if change.profile_id in delivery.refused:
                continue
            known = members.setdefault(change.profile_id, set())
            known.update(change.add)
            known.difference_update(change.remove)
            if not known:
                del members[change.profile_id]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, sandbox: Sandbox, port: int) -> None:
        self.sandbox = sandbox
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request: object, client_address: object) -> None:
        assert isinstance(request, socket.socket)
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: object) -> None:
        assert isinstance(request, socket.socket)
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore senders that hang up."""

    def hang_up(self) -> None:
        for connection in tuple(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                self._open.discard(connection)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    server: _Server

    def do_POST(self) -> None:
        length = self.headers.get("content-length", "")
        if not re.fullmatch(r"\d{1,12}", length, re.ASCII):
            return self._send(Answer(411, b"", {"connection": "close"}))
        if int(length) > MAX_BODY_BYTES:
            return self._send(Answer(413, b"", {"connection": "close"}))
        body = self.rfile.read(int(length))
        answer = self.server.sandbox.receive(
            {name.lower(): value for name, value in self.headers.items()}, body
        )
        if answer.fault == "hang":
            self.server.sandbox.wait_for_stop()
            self.close_connection = True
        elif answer.fault == "reset":
            # Closing a socket with no time to linger sends a reset.
            self.connection.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            self.connection.close()
            self.close_connection = True
        else:
            self._send(answer)

    def do_GET(self) -> None:
        sandbox = self.server.sandbox
        host = self.headers.get("host", "").rpartition(":")[0]
        path = unquote(self.path.partition("?")[0])
        if host not in ("127.0.0.1", "localhost"):
            # DNS rebinding: a foreign page must not read this server.
            self._send(Answer(403, b""))
        elif path == "/":
            self._send(Answer(200, sandbox.page().encode(), HEADERS))
        elif path == "/content":
            self._send(Answer(200, sandbox.content().encode(), HEADERS))
        elif path == "/healthz":
            self._json({"status": "ok", "folder": str(sandbox.folder)})
        elif path == "/audiences":
            self._json(sandbox.audiences())
        elif path == "/deliveries":
            self._json(sandbox.deliveries())
        elif path.removeprefix("/audiences/") in sandbox.audiences():
            members = sandbox.members(path.removeprefix("/audiences/"))
            self._json({person: sorted(known) for person, known in members.items()})
        else:
            self._send(Answer(404, b""))

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: a request line may name a person."""

    def _json(self, content: object) -> None:
        self._send(Answer(200, msgspec.json.encode(content)))

    def _send(self, answer: Answer) -> None:
        body = answer.body or b""
        self.send_response(answer.status)
        headers = {"content-type": "application/json", **answer.headers}
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
