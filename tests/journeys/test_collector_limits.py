"""Limits of the collector: refused requests, at almost no cost to it or others."""

import gzip
import http.client
import json
import os
import socket
import ssl
import statistics
import subprocess
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.home import Home
from connectors.sources.write_keys import KeyStore
from tests.support.collecting import (
    Collecting,
    collecting,
    landed,
    make_key,
    wait_until,
)
from tests.support.fuzzing import Fuzzed, Pipe
from tests.support.load import books, event, sending

KEY = "WK_TEST_1"
AUTH = {"authorization": f"Bearer {KEY}"}
MB = 1 << 20


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    make_key(home, KEY)
    return home


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collecting]:
    """One collector for all tests that do not change its state."""
    home = Home(tmp_path_factory.mktemp("shared") / "home")
    make_key(home, KEY)
    with collecting(home) as collector:
        yield collector


def peak_mb(process: int) -> float:
    """Return the peak memory of a process."""
    text = Path(f"/proc/{process}/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) / 1024


def connect(collector: Collecting) -> socket.socket:
    host, port = collector.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def head(*lines: str) -> bytes:
    start = f"POST /v1/track HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}"
    return "\r\n".join((start, *lines, "", "")).encode()


def gzipped(blank_mb: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    blank = b" " * MB
    return b"".join(packer.compress(blank) for _ in range(blank_mb)) + packer.flush()


# Size


def test_one_large_event_among_many_is_refused_alone_and_kept(home: Home) -> None:
    items: list[dict[str, Any]] = [event(f"m{n}") for n in range(500)]
    items[249] = {"type": "track", "event": "Cart Updated"}
    items[250]["properties"] = {"note": "x" * (11 * MB // 10)}
    with collecting(home) as collector:
        answer = collector.post(
            "/v1/batch", {"batch": items}, headers={**AUTH, "x-loomline-receipts": "1"}
        )
        assert answer.status_code == 200
        receipts = answer.json()["events"]
        found = books(home)
    statuses = Counter(receipt["status"] for receipt in receipts)
    assert statuses == {"admitted": 498, "rejected": 2}
    assert receipts[249]["reason"] == "missing_identity"
    assert receipts[250] == {
        "id": "m250",
        "status": "rejected",
        "reason": "event_too_large",
    }
    found.assert_balanced()
    assert len(found.stored) == 498
    kept = {
        row["reason"]: json.loads(row["payload"])
        for row in landed(home, "dispositions")
        if row["payload"] is not None
    }
    assert kept == {"missing_identity": items[249], "event_too_large": items[250]}


@pytest.mark.parametrize("is_announced", [True, False])
def test_a_body_over_ten_megabytes_is_refused(
    shared: Collecting, *, is_announced: bool
) -> None:
    body = b" " * (10 * MB + 1)
    sent = body if is_announced else iter([body[:MB]] * 11)
    answer = httpx.post(
        shared.url + "/v1/batch", content=sent, headers=AUTH, timeout=30
    )
    assert answer.status_code == 413
    assert answer.json()["code"] == "body_too_large"


def nested_gzip() -> bytes:
    return gzip.compress(gzipped(64))


def zstd_runs() -> bytes:
    """Blocks of four bytes that decompress to 128 KiB each."""
    return zstandard.ZstdCompressor(level=1).compress(b" " * (100 * MB))


BOMBS: dict[str, tuple[Callable[[], bytes], int]] = {
    "gzip": (lambda: gzipped(64), 413),
    "zlib": (lambda: zlib.compress(b" " * (64 * MB)), 413),
    "zstd": (zstd_runs, 413),
    "nested": (nested_gzip, 400),  # decompressed once: the result is not JSON
    "members": (lambda: gzip.compress(b" " * MB) * 64, 413),
    "empty members": (lambda: gzip.compress(b"") * 50_000, 400),
    "cut off": (lambda: gzipped(1)[:-9], 400),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_neither_fills_memory_nor_holds_up_others(
    shared: Collecting, name: str
) -> None:
    make, status = BOMBS[name]
    body = make()
    (worker,) = shared.workers()
    before_mb = peak_mb(worker)
    with bystander(shared) as waits_s:
        started = time.monotonic()
        answer = shared.post("/v1/batch", body, headers=AUTH)
        assert time.monotonic() - started < 5
    assert answer.status_code == status, answer.text
    assert peak_mb(worker) - before_mb < 60
    assert max(waits_s) < 1


@contextmanager
def bystander(collector: Collecting) -> Iterator[list[float]]:
    """Measure how long a normal sender waits for each answer."""
    waits_s: list[float] = []
    is_over = threading.Event()

    def send() -> None:
        with httpx.Client(base_url=collector.url, headers=AUTH) as client:
            while not (is_over.is_set() and waits_s):
                started = time.monotonic()
                assert client.post("/v1/track", json=event("calm")).is_success
                waits_s.append(time.monotonic() - started)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield waits_s
    finally:
        is_over.set()
        thread.join(30)
    assert waits_s


# What JSON can be


ODD = {
    "deep lists": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "brackets without an end": b"[" * (4 * MB),
    "quotes": b"[" * 600 + b'"' * (4 * MB),
    "backslashes": b'{"x":NaN,"a":"' + b"\\\\" * MB + b'"}',
    "digits": b'{"type":"track","event":"e","userId":' + b"1" * (2 * MB) + b"}",
    "1e4000": b'{"type":"track","event":"e","userId":"u","properties":{"a":1e4000}}',
    "exponent": b'{"type":"track","event":"e","userId":"u","properties":'
    b'{"a":0.1e-4009223372036854775808}}',
    "NaN": b'{"type":"track","event":"e","userId":NaN,"anonymousId":"a"}',
    "keys twice": b'{"type":"track","type":"page","userId":"u","userId":"v"}',
    "lone surrogate": b'{"type":"track","event":"\\ud83d","userId":"\\udc00"}',
    "NUL": b'{"type":"track","event":"a\\u0000b","userId":"\\u0000"}',
    "raw NUL": b'{"type":"track","event":"a\x00b","userId":"u"}',
    "not UTF-8": b'{"type":"track","event":"\xff","userId":"u"}',
    "half a form": b"data=%7B%22event%22",
    "many fields": b"data=1" + b"&a=1" * 1000,
    "many nothings": b"[" + b"0," * 200_000 + b"0]",
    "nothing": b"",
    "a batch of batches": b'{"batch":[{"batch":[{"batch":[]}]}]}',
    "names as numbers": b'{"type":1,"event":[2],"userId":{"a":3},"messageId":[[]]}',
}


@pytest.mark.parametrize("name", ODD)
def test_odd_json_is_answered_in_time_and_counted(
    shared: Collecting, name: str
) -> None:
    with bystander(shared) as waits_s:
        answer = shared.post("/v1/batch", ODD[name], headers=AUTH)
    assert answer.status_code in (200, 400, 413), answer.text
    assert "Traceback" not in answer.text
    assert max(waits_s) < 1


def test_a_query_of_many_fields_is_no_query(shared: Collecting) -> None:
    many = "&".join(f"a{number}=1" for number in range(500))
    assert shared.post(f"/v1/track?{many}", event("m")).status_code == 401
    assert shared.post(f"/v1/track?{many}", event("m"), headers=AUTH).is_success
    assert httpx.get(f"{shared.admin_url}/debug/stream?{many}").status_code == 401


FIELDS = [
    *("type", "event", "name", "userId", "anonymousId", "groupId", "messageId", "uuid"),
    *("properties", "traits", "context", "timestamp", "sentAt", "batch", "$group"),
]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    body=st.one_of(
        st.binary(max_size=300),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats()
            | st.text(max_size=20)
            | st.sampled_from(["track", "identify", "$identify", "plan_changed", "u"]),
            lambda inner: (
                st.lists(inner, max_size=5)
                | st.dictionaries(
                    st.sampled_from(FIELDS) | st.text(max_size=5),
                    inner,
                    max_size=6,
                )
            ),
            max_leaves=25,
        ).map(lambda value: json.dumps(value).encode()),
    ),
    policy=st.integers(0, 29),
)
def test_whatever_comes_in_the_books_balance(
    pipe: Pipe, body: bytes, policy: int
) -> None:
    pipe.take(body, policy)


@pytest.fixture(scope="module")
def pipe() -> Pipe:
    return Pipe()


@pytest.mark.parametrize("seed", range(3))
def test_broken_bodies_balance_too(seed: int) -> None:
    fuzzed = Fuzzed(seed)
    for _ in range(700):
        fuzzed.one()
    assert len(fuzzed.dispositions) >= 3


# Slow and endless clients


def test_slow_clients_do_not_hold_up_others(shared: Collecting) -> None:
    """200 clients; `tests/soak` checks that they are disconnected after a minute."""
    starts = (
        b"",
        b"POST /v1/tr",
        head("content-length: 100000") + b"{",
        head("transfer-encoding: chunked") + b"1\r\n{\r\n",
    )
    slow = [connect(shared) for _ in range(200)]
    for number, one in enumerate(slow):
        one.sendall(starts[number % 4])
    with sending(shared.url, senders=4) as load:
        load.wait_for(1_000)
    assert load.statuses.keys() == {200} and not load.resets
    assert load.percentile_s(99) < 1
    for one in slow:
        one.close()


def is_closed(one: socket.socket) -> bool:
    """Return whether the other side closes the connection before the timeout."""
    with suppress(ConnectionError):
        while one.recv(1000):
            pass
    return True


@pytest.mark.slow
@pytest.mark.servers
def test_clients_that_never_finish_are_thrown_out_within_75_s(
    shared: Collecting,
) -> None:
    silent, starting, sending_body = (connect(shared) for _ in range(3))
    starting.sendall(b"POST /v1/tr")
    sending_body.sendall(head("content-length: 9") + b"{")
    began_at = time.monotonic()
    for one in (silent, starting, sending_body):
        one.settimeout(76 - (time.monotonic() - began_at))
        assert is_closed(one)
        one.close()


def test_headers_and_trailers_without_an_end_are_cut_off(shared: Collecting) -> None:
    many = b"".join(b"x-%d: %b\r\n" % (number, b"v" * 1000) for number in range(2_000))
    chunk = head("transfer-encoding: chunked") + b"2\r\n{}\r\n0\r\n"
    starts = (b"POST /v1/track HTTP/1.1\r\n", b"POST /" + b"x" * 3_000_000, chunk)
    for start in starts:
        with connect(shared) as endless:
            with suppress(ConnectionError):
                endless.sendall(start + many)
            assert is_closed(endless)
    assert shared.post("/v1/track", event("m"), headers=AUTH).is_success


def test_a_client_that_goes_away_half_way_is_forgotten(home: Home) -> None:
    with collecting(home) as collector:
        for size in (0, 10, 100_000):
            with connect(collector) as gone:
                gone.sendall(head("content-length: 200000") + b" " * size)
        assert collector.post("/v1/track", event("m"), headers=AUTH).is_success
        assert books(home).received == {"web": 1}


# Rates and keys


def test_a_flood_is_limited_to_the_event_over_all_workers(home: Home) -> None:
    make_key(home, "WK_FLOOD", name="flood", rate=100, burst=500)
    with collecting(home, "--workers", "2") as collector:
        flood: Counter[int] = Counter()
        waits: set[str] = set()
        lock = threading.Lock()

        def post_many(count: int) -> None:
            auth = {"authorization": "Bearer WK_FLOOD"}
            with httpx.Client(base_url=collector.url, headers=auth) as client:
                for number in range(count):
                    name = f"{threading.get_ident()}-{number}"
                    answer = client.post("/v1/track", json=event(name))
                    with lock:
                        flood[answer.status_code] += 1
                        if answer.status_code == 429:
                            waits.add(answer.headers["retry-after"])

        # Many connections, for each worker gets some of them.
        threads = [threading.Thread(target=post_many, args=(35,)) for _ in range(20)]
        started = time.monotonic()
        with sending(collector.url, senders=2, batch=1) as other:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            took_s = time.monotonic() - started
            other.wait_for(20)
        assert other.statuses.keys() == {200} and not other.resets
        collector.stop()
        found = books(home)
    assert flood.keys() == {200, 429}
    assert flood.total() == 700
    assert flood[200] <= 500 + 100 * took_s + 1
    assert all(wait.isdigit() and int(wait) >= 1 for wait in waits)
    assert found.dispositions["flood", "admitted"] == flood[200]
    assert found.dispositions["flood", "rate_limited"] == flood[429]
    assert found.received["flood"] == 700
    found.assert_balanced()


def test_a_revoked_key_is_refused_by_every_worker_within_five_seconds(
    home: Home,
) -> None:
    make_key(home, "WK_SHORT", name="short")
    with collecting(home, "--workers", "3") as collector:
        auth = {"authorization": "Bearer WK_SHORT"}
        # Enough connections that every worker has some of them.
        clients = [
            httpx.Client(base_url=collector.url, headers=auth) for _ in range(24)
        ]
        assert all(c.post("/v1/track", json=event("m")).is_success for c in clients)
        store = KeyStore(home)
        store.revoke("short")
        store.close()
        revoked_at = time.monotonic()
        wait_until(
            lambda: all(
                client.post("/v1/track", json=event("m")).status_code == 401
                for client in clients
            )
        )
        assert time.monotonic() - revoked_at < 5
        for client in clients:
            client.close()


WRONG_KEYS: tuple[dict[str, str], ...] = (
    {},
    {"authorization": "Bearer x"},
    {"authorization": "Bearer WK_TEST_2"},
    {"authorization": "Bearer WK_TEST_"},
    {"authorization": "Bearer wk_test_1"},
    {"authorization": "Bearer WK_TEST_1x"},
    {"authorization": "Bearer XK_TEST_1"},
    {"authorization": "Basic !!!"},
    {"authorization": "Basic V0tfVEVTVF8yOg=="},
    {"authorization": "Basic /////w=="},
    {"authorization": "Digest WK_TEST_1"},
    {"authorization": "WK_TEST_1"},
    {"x-write-key": "WK_TEST_2"},
    {"x-write-key": "x" * 5000},
    {"x-write-key": "' or 1=1 --"},
    {"cookie": "writeKey=WK_TEST_1"},
)


def test_wrong_keys_get_one_answer(shared: Collecting) -> None:
    answers = {
        (answer.status_code, answer.text, answer.headers.get("www-authenticate"))
        for headers in WRONG_KEYS
        for answer in (shared.post("/v1/track", event("m"), headers=headers),)
    }
    assert len(answers) == 1
    assert answers.pop()[0] == 401


def test_how_much_of_a_key_fits_takes_the_same_time(shared: Collecting) -> None:
    """Compares medians; finding a comparison that stops early would need more keys."""
    taken_s: dict[str, list[float]] = {"XK_TEST_1": [], "WK_TEST_2": []}
    connection = http.client.HTTPConnection(shared.url[7:])
    body = json.dumps(event("m"))
    for _ in range(300):
        for key, times in taken_s.items():
            started = time.perf_counter()
            connection.request(
                "POST", "/v1/track", body, {"authorization": f"Bearer {key}"}
            )
            connection.getresponse().read()
            times.append(time.perf_counter() - started)
    connection.close()
    first, last = map(statistics.median, taken_s.values())
    noise_s = statistics.quantiles(taken_s["XK_TEST_1"], n=4)
    assert abs(first - last) < max(noise_s[2] - noise_s[0], 50e-6)


# TLS


def certificate(folder: Path) -> tuple[Path, Path]:
    """Return a self-signed certificate."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=localhost"),
            *("-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key


def handshake(collector: Collecting, context: ssl.SSLContext) -> tuple[str, str]:
    """Return TLS version and cipher suite."""
    host, port = collector.url.removeprefix("https://").split(":")
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        context.wrap_socket(plain) as wrapped,
    ):
        suite = wrapped.cipher()
        assert suite is not None
        return wrapped.version() or "", suite[0]


@pytest.mark.servers
def test_tls_is_1_2_or_later_and_has_no_cbc_suites(home: Home, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    tls = ("--tls-cert", str(cert), "--tls-key", str(key))
    with collecting(home, *tls) as collector:
        answer = httpx.post(
            collector.url + "/v1/track", json=event("m"), headers=AUTH, verify=False
        )
        assert answer.is_success
        assert handshake(collector, ssl.create_default_context())[0] == "TLSv1.3"

        two = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        two.maximum_version = ssl.TLSVersion.TLSv1_2
        version, suite = handshake(collector, two)
        assert version == "TLSv1.2" and ("GCM" in suite or "CHACHA20" in suite)

        cbc = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        cbc.maximum_version = ssl.TLSVersion.TLSv1_2
        cbc.set_ciphers("ECDHE+AES:RSA+AES:!AESGCM:!AESCCM:@SECLEVEL=0")
        assert all("GCM" not in suite["name"] for suite in cbc.get_ciphers()[3:])
        with pytest.raises(ssl.SSLError):
            handshake(collector, cbc)

        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            handshake(collector, old)
        # A client that never shakes hands does not stop the others.
        host, port = collector.url.removeprefix("https://").split(":")
        with socket.create_connection((host, int(port))):
            assert handshake(collector, two)[0] == "TLSv1.2"
        assert books(home).stored == {"m": 1}


# The API as it is described


@pytest.mark.servers
def test_what_the_api_describes_never_fails(home: Home) -> None:
    """Runs the Schemathesis of SCHEMATHESIS; `tests/soak/faults.py` runs it longer."""
    tool = os.environ["SCHEMATHESIS"]
    with collecting(home) as collector:
        done = subprocess.run(
            [
                *(tool, "run", collector.url + "/openapi.json", "--no-color"),
                *("-H", f"Authorization: Bearer {KEY}", "-n", "5"),
                *("--phases", "fuzzing"),
                *("--checks", "not_a_server_error"),
            ],
            capture_output=True,
            text=True,
            cwd=home.path,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout[-3000:]
        books(home).assert_balanced()
