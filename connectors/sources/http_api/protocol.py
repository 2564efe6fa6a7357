"""HTTP/1.1 as clients really use it: limits, protocol upgrades, draining."""

import asyncio
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["AdminProtocol", "Protocol"]

MAX_HEADER_BYTES = 64 << 10
MAX_CONNECTIONS = 4096
LINGER_S = 1.0
"""While draining, how long an idle connection may still send a request."""


class _OneWrite:
    """A transport that sends an answer's head and body in one write.

    Uvicorn writes them one after the other, which costs one more system call per
    request: a tenth of its total cost.
    """

    __slots__ = ("_head", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""

    def write(self, data: bytes) -> None:
        is_final = data[:9] == b"HTTP/1.1 " and data[9:10] != b"1"  # not 100 Continue
        if is_final and not self._head:
            self._head = data
        else:
            self._transport.write(self._head + data)
            self._head = b""

    def close(self) -> None:
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()


class Protocol(HttpToolsProtocol):
    """Uvicorn's protocol with limits for clients that never finish."""

    begun_at: float | None = None  # loop time; None while no request is arriving
    _header_bytes = 0  # of headers since the last body, or of what follows it
    _is_draining = False
    max_connections = MAX_CONNECTIONS

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.begun_at = self.loop.time()
        if len(self.connections) > self.max_connections:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self._header_bytes += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
            return
        if self._header_bytes > MAX_HEADER_BYTES:
            self.transport.abort()

    def _parse(self, data: bytes) -> None:
        """Parse incoming data, ignoring offers of another protocol.

        Java's client offers HTTP/2 in plaintext with every request. The parser accepts
        such an offer: it ends the request after its head, and does not parse what
        follows. So a new parser reads the head again without the offer, and the rest.
        """
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                if not self._is_offered:
                    return  # CONNECT, which gets an error
                data = self._head_without_offer() + data[offer.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            else:
                return

    @property
    def _is_offered(self) -> bool:
        """Whether the current request is read again, without its offer."""
        return self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"

    def _head_without_offer(self) -> bytes:
        lines = [
            b"%b %b HTTP/%b"
            % (
                self.parser.get_method(),
                self.url,
                self.parser.get_http_version().encode(),
            )
        ]
        lines += [b"%b: %b" % pair for pair in self.headers if pair[0] != b"upgrade"]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def on_message_begin(self) -> None:
        self.begun_at = self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if self._is_offered:
            return
        super().on_headers_complete()
        if self._is_draining:
            self.cycle.keep_alive = False
        if self.scope["method"] != "HEAD":  # its answer has no body
            self.cycle.transport = cast(Any, _OneWrite(self.transport))

    def on_body(self, body: bytes) -> None:
        self._header_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._is_offered:
            return
        self.begun_at = None
        self._header_bytes = 0
        super().on_message_complete()

    def shutdown(self) -> None:
        """Close once idle; requests still arriving are answered."""
        self._is_draining = True
        if self.cycle is None or self.cycle.response_complete:
            self.loop.call_later(LINGER_S, self._close_idle)
        else:
            self.cycle.keep_alive = False

    def _close_idle(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


class AdminProtocol(Protocol):
    """The same for operators, with connections reserved for them."""
