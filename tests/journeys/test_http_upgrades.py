"""Requests with `Upgrade`, and requests that follow them on the connection."""

import json
import re
import socket
from collections.abc import Iterator

import pytest

from connectors.home import Home
from tests.support.collecting import Collecting, collecting, landed, make_key

OFFERS = {
    "unknown": b"Connection: Upgrade\r\nUpgrade: foo\r\n",
    "HTTP/2 in clear": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n",
    "a web socket": b"connection: keep-alive, Upgrade\r\nupgrade:websocket \r\n",
    "several": b"Connection: upgrade\r\nUpgrade: foo/1, h2c\r\nUpgrade: bar\r\n",
}
GET = b"GET %b HTTP/1.1\r\nHost: x\r\n%b\r\n"
LAST = b"Connection: close\r\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("upgrades") / "home")
    make_key(home)
    return home


@pytest.fixture(scope="module")
def collector(home: Home) -> Iterator[Collecting]:
    with collecting(home) as collector:
        yield collector


def answers(collector: Collecting, *packets: bytes) -> list[int]:
    """Return the status of each answer until the collector closes the connection."""
    host, port = collector.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for packet in packets:
            connection.sendall(packet)
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", received)]


def track(id: str, more: bytes, *, is_chunked: bool = False) -> bytes:
    body = json.dumps({"event": "e", "userId": "u", "messageId": id}).encode()
    head = b"POST /v1/track HTTP/1.1\r\nHost: x\r\nX-Write-Key: WK_TEST_1\r\n" + more
    if is_chunked:
        sent = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        return head + b"Transfer-Encoding: chunked\r\n\r\n" + sent
    return head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


@pytest.mark.parametrize("name", OFFERS)
def test_a_request_behind_an_offer_to_upgrade_is_answered(
    collector: Collecting, name: str
) -> None:
    offer = OFFERS[name]
    first, second = GET % (b"/healthz", offer), GET % (b"/nowhere", LAST)
    assert answers(collector, first + second) == [200, 404]
    middle = GET % (b"/nowhere", offer)
    assert answers(collector, first + middle + first + second) == [200, 404, 200, 404]
    assert answers(collector, GET % (b"/nowhere", b"") + first + second) == [
        *(404, 200, 404)
    ]


@pytest.mark.parametrize("name", OFFERS)
def test_a_request_that_comes_byte_by_byte_may_offer_to_upgrade(
    collector: Collecting, name: str
) -> None:
    sent = track(f"{name} slow", OFFERS[name]) + GET % (b"/nowhere", LAST)
    assert answers(collector, *(sent[i : i + 1] for i in range(len(sent)))) == [
        *(200, 404)
    ]


@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize("name", OFFERS)
def test_events_of_requests_that_offer_to_upgrade_are_stored(
    home: Home, collector: Collecting, name: str, is_chunked: bool
) -> None:
    ids = [f"{name} {number} {is_chunked}" for number in range(3)]
    sent = [track(id, OFFERS[name], is_chunked=is_chunked) for id in ids]
    last = GET % (b"/healthz", LAST)
    assert answers(collector, b"".join(sent) + last) == [200] * 4
    stored = [event["message_id"] for event in landed(home, "events")]
    assert [id for id in stored if id in ids] == ids


def test_an_old_client_that_offers_to_upgrade_is_answered_and_let_go(
    collector: Collecting,
) -> None:
    offer = OFFERS["unknown"]
    old = GET.replace(b"1.1", b"1.0") % (b"/healthz", offer)
    assert answers(collector, old) == [200]
    closing = GET % (b"/healthz", offer.replace(b"Upgrade\r\n", b"Upgrade, close\r\n"))
    assert answers(collector, closing + GET % (b"/nowhere", b"")) == [200]


def test_a_tunnel_is_refused(collector: Collecting) -> None:
    sent = b"CONNECT shop.example:443 HTTP/1.1\r\nHost: x\r\n\r\n"
    assert answers(collector, sent) == [400]
    assert answers(collector, GET % (b"/healthz", LAST)) == [200]
