"""Routes of operators are on the admin port, and not on the public one."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from connectors.home import Home
from tests.support import PROJECT
from tests.support.certificates import certificate
from tests.support.collecting import (
    COMMAND,
    Collecting,
    collecting,
    make_key,
    wait_until,
)

KEY = {"Authorization": "Bearer WK_TEST_1"}
ADMIN = "A" * 30
ADMIN_KEY = {"Authorization": f"Bearer {ADMIN}"}
PAGE = {"Origin": "https://shop.example"}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return with_keys(tmp_path / "home")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collecting]:
    """One collector for all tests that do not change its state."""
    home = with_keys(tmp_path_factory.mktemp("operators") / "home")
    with collecting(home, "--workers", "2") as collector:
        yield collector


def with_keys(path: Path) -> Home:
    home = Home(path)
    make_key(home)
    make_key(home, ADMIN, name="debug", kind="admin")
    return home


def status_of_stream(url: str, **asked: Any) -> int:
    with httpx.stream("GET", f"{url}/debug/stream", timeout=10, **asked) as answer:
        return answer.status_code


def two_free_ports() -> int:
    """Return a free port that is followed by another free one."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as one:
            port = int(one.getsockname()[1])
            with suppress(OSError), socket.create_server(("127.0.0.1", port + 1)):
                return port


def tail(home: Home, *arguments: str) -> "Tail":
    env = {
        "LOOMLINE_HOME": str(home.path),
        "LOOMLINE_PROJECT": str(PROJECT),
        "LOOMLINE_ADMIN_KEY": ADMIN,
    }
    return Tail([*COMMAND, "tail", *arguments], os.environ | env)


class Tail:
    """Runs `loomline tail` in a separate process."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def watches(self) -> str:
        """Return the address that it reports to watch."""
        assert self._process.stderr is not None
        line = self._process.stderr.readline()
        assert line.startswith("Watching "), line
        return line.split()[1].rstrip(";")

    def ended(self) -> tuple[int, str, str]:
        out, said = self._process.communicate(timeout=30)
        return self._process.returncode, out, said

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=30)


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("path", ["/metrics", "/debug/stream"])
def test_the_published_port_has_no_operator_routes(
    shared: Collecting, path: str, slash: str
) -> None:
    for headers in ({}, KEY, ADMIN_KEY):
        for method in ("GET", "HEAD", "POST", "OPTIONS"):
            answer = httpx.request(method, shared.url + path + slash, headers=headers)
            assert answer.status_code == 404
    assert path not in httpx.get(shared.url + "/openapi.json").json()["paths"]
    assert httpx.head(shared.admin_url + path + slash).status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_is_answered_on_both_ports(shared: Collecting, path: str) -> None:
    for url in (shared.url, shared.admin_url):
        assert httpx.get(url + path).json() == {"status": "ok"}


@pytest.mark.parametrize("path", ["/v1/batch", "/batch", "/openapi.json", "/", ""])
def test_the_admin_port_takes_no_events(shared: Collecting, path: str) -> None:
    body = {"event": "e", "userId": "u"}
    answer = httpx.post(shared.admin_url + path, json=body, headers=KEY)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("path", ["/metrics", "/debug/stream", "/healthz", "/other"])
def test_a_page_cannot_read_what_operators_see(shared: Collecting, path: str) -> None:
    for method in ("HEAD", "OPTIONS", "POST"):
        answer = httpx.request(method, shared.admin_url + path, headers=PAGE)
        assert not [name for name in answer.headers if name.startswith("access-")]
        assert method == "HEAD" or answer.status_code in (404, 405)
    url = f"{shared.admin_url}{path}"
    with httpx.stream("GET", url, headers={**PAGE, **ADMIN_KEY}) as answer:
        assert not [name for name in answer.headers if name.startswith("access-")]


@pytest.mark.parametrize("name", ["writeKey", "write_key", "api_key", "token"])
def test_a_key_in_the_address_opens_no_live_view(shared: Collecting, name: str) -> None:
    assert status_of_stream(shared.admin_url, params={name: ADMIN}) == 401
    assert status_of_stream(shared.admin_url, headers=ADMIN_KEY) == 200
    assert status_of_stream(shared.admin_url, headers={"X-Write-Key": ADMIN}) == 200


def test_tail_finds_the_collector_of_its_home(home: Home) -> None:
    code, _, said = tail(home).ended()
    assert code == 2
    assert "No collector is running on" in said and "loomline collect" in said
    with collecting(home) as collector:
        watching = tail(home)
        assert watching.watches() == collector.admin_url
        watching.stop()
        code, _, said = tail(home, "--url", collector.url).ended()
        assert code == 2 and "remove --url" in said
    assert tail(home).ended()[0] == 2
    with collecting(home, "--admin-host", "0.0.0.0") as collector:
        assert collector.admin_url.startswith("http://0.0.0.0:")
        watching = tail(home)
        assert watching.watches() == collector.admin_url.replace("0.0.0.0", "127.0.0.1")
        watching.stop()


def test_operators_go_on_after_a_reload_and_both_ports_end_together(
    home: Home,
) -> None:
    with collecting(home, "--workers", "2") as collector:
        before = collector.workers()
        collector.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(new := collector.workers()) == 2 and new != before)
        wait_until(lambda: not set(before) & set(collector.workers()))
        assert (
            "loomline_storage_ok 1" in httpx.get(f"{collector.admin_url}/metrics").text
        )
        with httpx.stream(
            "GET", f"{collector.admin_url}/debug/stream", headers=ADMIN_KEY
        ) as stream:
            lines = stream.iter_lines()
            assert next(lines) == ": watching"
            collector.process.send_signal(signal.SIGTERM)
            assert not [line for line in lines if line and line[0] != ":"]
        assert collector.process.wait(20) == 0
        for url in (collector.url, collector.admin_url):
            with pytest.raises(httpx.ConnectError):
                httpx.get(f"{url}/healthz")


def test_the_admin_port_is_the_one_after_the_published_unless_it_is_named(
    home: Home,
) -> None:
    port = two_free_ports()
    with collecting(home, admin_port=None, port=port) as collector:
        assert collector.admin_url == f"http://127.0.0.1:{port + 1}"
    with socket.create_server(("127.0.0.1", port)):
        done = subprocess.run(
            [*COMMAND, "collect", "--port", "0", "--admin-port", str(port)],
            env=os.environ
            | {"LOOMLINE_HOME": str(home.path), "LOOMLINE_PROJECT": str(PROJECT)},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 2
    assert f"127.0.0.1:{port} " in done.stderr and "--admin-port" in done.stderr


def test_operators_are_let_in_when_senders_have_all_connections(home: Home) -> None:
    few = ("bash", "-c", 'ulimit -n 160; exec "$@"', "-")
    with collecting(home, prefix=few) as collector:
        host, port = collector.url[7:].split(":")
        held = [socket.create_connection((host, int(port))) for _ in range(60)]
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{collector.url}/healthz")
        assert httpx.get(f"{collector.admin_url}/healthz").is_success
        for one in held:
            one.close()


def test_the_admin_port_speaks_plain_http_beside_https(
    home: Home, tmp_path: Path
) -> None:
    cert, key = certificate(tmp_path)
    tls = ("--tls-cert", str(cert), "--tls-key", str(key))
    with collecting(home, *tls) as collector:
        assert collector.url.startswith("https://")
        assert httpx.get(f"{collector.admin_url}/healthz").is_success
        watching = tail(home)
        assert watching.watches() == collector.admin_url
        watching.stop()
