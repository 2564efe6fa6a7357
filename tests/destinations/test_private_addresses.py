"""Webhooks to addresses that are not on the internet: only when the settings say so."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from connectors.destinations.settings import load_destinations
from connectors.destinations.webhook import Settings, Webhook, connect
from connectors.errors import ConfigError, Rejected, Unavailable
from tests.support.certificates import certificate
from tests.support.deliveries import SECRET, addition, batch_of

Open = Callable[..., Webhook]

PRIVATE = [
    *("127.0.0.1", "127.8.8.8", "localhost", "crm.localhost", "localhost."),
    *("10.1.2.3", "172.16.0.1", "172.31.255.254", "192.168.1.1", "100.64.0.1"),
    *("169.254.169.254", "0.0.0.0", "255.255.255.255", "224.0.0.1", "240.0.0.1"),
    *("192.0.2.1", "198.18.0.1", "203.0.113.9", "192.0.0.1"),
    # The same, in other spellings
    *("127.1", "0", "2130706433", "0x7f000001", "0177.1", "0x7f.1", "10.66051"),
    *("[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[fd00::1]", "[fc00::5]", "[fe80::1]"),
    *("[::ffff:127.0.0.1]", "[::ffff:a9fe:a9fe]", "[64:ff9b::7f00:1]", "[ff02::1]"),
    *("[2002:7f00:1::]", "[2001:db8::1]", "[fec0::1]"),
]
PUBLIC = ["8.8.8.8", "[2606:4700::1111]", "[64:ff9b::808:808]", "[::ffff:8.8.8.8]"]


@pytest.mark.parametrize("host", PRIVATE)
def test_a_private_address_is_refused_where_it_is_configured(host: str) -> None:
    url = f"https://{host}:8443/hooks"
    settings = Settings(kind="webhook", url="${URL}", secret_env="CRM")
    with pytest.raises(ConfigError, match="needs allow_private: true"):
        connect("crm", settings, {"URL": url, "CRM": SECRET})
    with pytest.raises(ValueError, match="needs allow_private: true"):
        Settings(kind="webhook", url=url, secret_env="CRM")
    allowed = settings.model_copy(update={"allow_private": True})
    connect("crm", allowed, {"URL": url, "CRM": SECRET}).close()


@pytest.mark.parametrize("host", [*PUBLIC, "crm.example", "10.example", "localhost.de"])
def test_a_public_address_or_a_name_needs_no_permission(host: str) -> None:
    settings = Settings(kind="webhook", url=f"https://{host}/", secret_env="CRM")
    connect("crm", settings, {"CRM": SECRET}).close()


def test_plain_http_stays_on_this_machine_whatever_is_allowed(tmp_path: Path) -> None:
    for name, url in (("here", "127.0.0.1:1"), ("there", "10.0.0.5")):
        folder = tmp_path / name / name
        folder.mkdir(parents=True)
        text = (
            "type: orchestration.components.Destination\nattributes:\n"
            f"  kind: webhook\n  url: http://{url}\n  secret_env: CRM\n"
        )
        (folder / "defs.yaml").write_text(f"{text}  allow_private: true\n")
    assert list(load_destinations(tmp_path / "here")) == ["here"]
    with pytest.raises(ConfigError, match="line 4: `url`: plain http"):
        load_destinations(tmp_path / "there")


# Where names lead


class Listener:
    """Takes connections, and keeps what is sent on them."""

    def __init__(self, answer: bytes = b"") -> None:
        self.received: list[bytes] = []
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                with connection:
                    self.received.append(connection.recv(65536))
                    connection.sendall(self._answer)

    def stop(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.stop()


def test_a_name_that_leads_to_a_private_address_is_not_connected_to(
    webhook: Open, listener: Listener
) -> None:
    hook = webhook(f"https://localhost:{listener.port}/")
    with pytest.raises(Rejected, match=r"private address \(.+allow_private") as caught:
        hook.push(batch_of(addition("p1")))
    assert caught.value.concerns == "destination"
    assert "example.com" not in str(caught.value)
    assert listener.received == []


def test_a_name_that_leads_elsewhere_when_it_is_connected_to_is_sent_nothing(
    webhook: Open, listener: Listener
) -> None:
    hook = webhook(
        f"https://localhost:{listener.port}/",
        resolve=lambda host, port: ["8.8.8.8"],  # the first time
    )
    for _ in range(2):
        with pytest.raises(Rejected, match="leads to a private address"):
            hook.push(batch_of(addition("p1")))
    assert set(listener.received) <= {b""}


@pytest.mark.parametrize("addresses", [["8.8.8.8", "10.0.0.5"], ["fe80::1%eth0"]])
@pytest.mark.parametrize("host", ["crm.example", "bücher.example"])
def test_one_private_address_of_a_name_is_enough(
    webhook: Open, host: str, addresses: list[str]
) -> None:
    hook = webhook(f"https://{host}/", resolve=lambda host, port: addresses)
    with pytest.raises(Rejected, match="leads to a private address"):
        hook.push(batch_of(addition("p1")))


def test_plain_http_to_a_name_that_is_another_machine_is_refused(webhook: Open) -> None:
    hook = webhook("http://localhost:9/", resolve=lambda host, port: ["10.0.0.5"])
    with pytest.raises(Rejected, match="not this machine") as caught:
        hook.push(batch_of(addition("p1")))
    assert caught.value.concerns == "destination"


def test_a_name_that_leads_nowhere_may_lead_somewhere_later(webhook: Open) -> None:
    with pytest.raises(Unavailable, match="ConnectError"):
        webhook("https://crm.invalid/").push(batch_of(addition("p1")))


@contextmanager
def https(folder: Path) -> Iterator[tuple[str, list[bytes]]]:
    """A receiver with a certificate of this machine, and the bodies it was sent."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    cert, key = certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"https://127.0.0.1:{server.server_port}/", bodies
        finally:
            server.shutdown()
            thread.join()


def test_a_private_address_that_is_allowed_is_delivered_to(
    webhook: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with https(tmp_path) as (url, bodies):
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
        receipt = webhook(url, allow_private=True).push(batch_of(addition("p1")))
        assert (receipt.accepted, len(bodies)) == (1, 1)
        with pytest.raises(Rejected, match="leads to a private address"):
            webhook(url).push(batch_of(addition("p1")))
        assert len(bodies) == 1


def test_a_proxy_may_be_at_a_private_address(
    webhook: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Listener(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
    try:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(Unavailable, match="ProxyError"):
            webhook("https://crm.example/").push(batch_of(addition("p1")))
    finally:
        proxy.stop()
    assert [sent.split(b"\r\n")[0] for sent in proxy.received] == [
        b"CONNECT crm.example:443 HTTP/1.1"
    ]
