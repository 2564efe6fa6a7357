"""Worker processes on one listening socket, and the process that looks after them.

The parent holds the socket, the rules and nothing else: it forks the workers, replaces
one that dies at once, and on SIGHUP reads the rules anew and swaps all workers without
closing the socket. Clients that connect meanwhile wait in its queue. The parent runs no
thread and no loop, so that a fork is safe.
"""

import asyncio
import gc
import os
import resource
import select
import signal
import socket
import sqlite3
import ssl
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, cast

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from connectors.errors import ConfigError, LandingError
from connectors.events.admission import Admission
from connectors.events.fingerprint import Fingerprints
from connectors.events.identifiers import IdentifierRules
from connectors.events.placeholders import Placeholders
from connectors.events.rulebook import Rulebook
from connectors.home import Home
from connectors.landing.manifest import sync_folder
from connectors.landing.segments import SegmentWriter, recover, segments_folder
from connectors.sources.forms import Forms
from connectors.sources.http_api.admin import Admin
from connectors.sources.http_api.app import Collector
from connectors.sources.http_api.debugger import Debugger
from connectors.sources.http_api.ingestion import Ingestion
from connectors.sources.http_api.metrics import Metrics
from connectors.sources.http_api.request_admission import RequestAdmission
from connectors.sources.http_api.running import announce, only_one
from connectors.sources.inbound_webhooks import InboundWebhooks
from connectors.sources.rate_limits import Buckets
from connectors.sources.write_keys import KeyRing

__all__ = ["Settings", "serve"]

Say = Callable[[str], None]

BACKLOG = 2048
IDLE_S = 65
"""A connection without a request is closed after this time: longer than the minute that
load balancers keep theirs."""

REQUEST_S = 60
"""A request has to arrive whole within this time of its first byte."""

MAX_HEADER_BYTES = 64 << 10
MAX_CONNECTIONS = 4096
OPERATOR_CONNECTIONS = 32
"""Kept free for operators while senders have all the others."""

DRAIN_S = 8
LINGER_S = 1.0
"""While draining, a client that was about to send on an open connection still may."""

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_READY = b"+"
_MIN_LIFE_S = 1.0  # a worker that dies sooner is replaced with a pause


@dataclass(frozen=True, slots=True)
class Settings:
    host: str
    port: int  # 0: a free one
    workers: int
    tls_cert: Path | None = None
    tls_key: Path | None = None
    admin_host: str = "127.0.0.1"
    admin_port: int | None = None  # None: the one after `port`


@dataclass(frozen=True, slots=True)
class _Rules:
    identifiers: IdentifierRules
    placeholders: Placeholders
    rulebook: Rulebook
    webhooks: InboundWebhooks
    forms: Forms

    @classmethod
    def load(cls, project: Path) -> "_Rules":
        faults = []
        found: list[Any] = []
        for load in (
            IdentifierRules.load,
            Placeholders.load,
            Rulebook.load,
            InboundWebhooks.load,
            Forms.load,
        ):
            try:
                found.append(load(project))
            except ConfigError as error:
                faults.append(str(error))
        if faults:
            raise ConfigError("\n".join(faults))
        return cls(*found)


def serve(home: Home, project: Path, settings: Settings, *, say: Say) -> None:
    """Collect events until SIGTERM or SIGINT; returns when all is answered.

    `say` is told the address once requests are answered there.

    Raises:
        ConfigError: a rule, the address or the certificate cannot be used, or another
            collector runs on this home folder.
    """
    _raise_limits()
    rules = _Rules.load(project)
    tls = _tls_faults(settings)
    if tls:
        raise ConfigError(tls)
    lock = only_one(home)
    try:
        folder = segments_folder(home)
        if not folder.exists():
            folder.mkdir(parents=True)
            sync_folder(home.inbox)
            sync_folder(home.path)
        recover(folder)
        listening = _listening(settings.host, settings.port, "--host or --port")
        admin_port = settings.admin_port
        if admin_port is None:
            admin_port = settings.port + 1 if 0 < settings.port < 65535 else 0
        operators = _listening(
            settings.admin_host, admin_port, "--admin-host or --admin-port"
        )
        with tempfile.TemporaryDirectory(prefix="loomline-") as shared:
            parent = _Parent(
                home, project, settings, rules, listening, operators, Path(shared), lock
            )
            parent.run(say)
    finally:
        os.close(lock)


def _raise_limits() -> None:
    """As many connections as the machine permits, leaving files for segments."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # some systems call no limit a number
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    _Protocol.max_connections = max(min(MAX_CONNECTIONS, soft - 128), 16)
    _AdminProtocol.max_connections = _Protocol.max_connections + OPERATOR_CONNECTIONS


def _listening(host: str, port: int, options: str) -> socket.socket:
    until = time.monotonic() + 5
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
        except OSError as error:
            listening.close()
            # Workers of a collector that was killed close the address in a moment.
            if time.monotonic() < until:
                time.sleep(0.05)
                continue
            raise ConfigError(
                f"{host}:{port} cannot be listened on ({error.strerror}); choose "
                f"another {options}."
            ) from error
        listening.listen(BACKLOG)
        listening.setblocking(False)
        return listening


def _url(listening: socket.socket, scheme: str = "http") -> str:
    host, port = listening.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _from_here(url: str) -> str:
    """The address to use on this machine when all of its addresses are listened on."""
    return url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")


def _tls_faults(settings: Settings) -> str | None:
    if settings.tls_cert is None and settings.tls_key is None:
        return None
    if settings.tls_cert is None or settings.tls_key is None:
        return "--tls-cert and --tls-key go together."
    try:
        ssl.create_default_context().load_cert_chain(
            settings.tls_cert, settings.tls_key
        )
    except (OSError, ssl.SSLError) as error:
        return f"The certificate cannot be used: {error}."
    return None


class _Parent:
    """Starts, watches and swaps the workers."""

    def __init__(
        self,
        home: Home,
        project: Path,
        settings: Settings,
        rules: _Rules,
        listening: socket.socket,
        operators: socket.socket,
        shared: Path,
        lock: int,
    ) -> None:
        self._lock = lock
        self._home = home
        self._project = project
        self._settings = settings
        self._rules = rules
        self._listening = listening
        self._operators = operators
        self._shared = shared
        self._workers: dict[int, float] = {}  # process id → when it was started
        self._leaving: set[int] = set()
        self._signals: list[int] = []
        # Workers end when their parent has: its end of this pipe closes with it.
        self._alive, self._hold = os.pipe()

    def run(self, say: Say) -> None:
        wake, waker = os.pipe()
        os.set_blocking(waker, False)
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, self._note)
        if not self._start(self._settings.workers):
            self._end(set(self._workers))
            raise LandingError("The workers could not start; they have said why.")
        operators_url = _url(self._operators)
        announce(self._lock, _from_here(operators_url))
        scheme = "https" if self._settings.tls_cert else "http"
        say(f"Collecting at {_url(self._listening, scheme)}")
        say(f"Metrics and live events at {operators_url}")
        while True:
            select.select([wake], [], [], 1.0)
            with suppress(BlockingIOError):
                os.read(wake, 512)
            pending, self._signals = self._signals, []
            if signal.SIGTERM in pending or signal.SIGINT in pending:
                break
            if signal.SIGHUP in pending:
                self._swap(say)
            self._replace_dead(say)
        self._listening.close()
        self._operators.close()
        self._end(set(self._workers))
        signal.set_wakeup_fd(-1)
        for end in (wake, waker, self._alive, self._hold):
            os.close(end)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signals.append(number)

    def _swap(self, say: Say) -> None:
        """New workers with the rules as they are now; the old ones finish."""
        former, old = self._rules, set(self._workers)
        try:
            self._rules = _Rules.load(self._project)
        except ConfigError as error:
            say(f"{error}\nThe rules that were in force stay in force.")
            return
        if self._start(self._settings.workers):
            self._tell(old)
            say("Workers were replaced; the rules are those of now.")
        else:
            self._rules = former
            self._tell(set(self._workers) - old)
            say("New workers could not start; the old ones go on.")

    def _replace_dead(self, say: Say) -> None:
        for process in self._reaped():
            began_at = self._workers.pop(process, None)
            if began_at is None or process in self._leaving:
                self._leaving.discard(process)
                continue
            say(f"Worker {process} died and is replaced.")
            if time.monotonic() - began_at < _MIN_LIFE_S:
                time.sleep(0.2)
        staying = self._workers.keys() - self._leaving
        if len(staying) < self._settings.workers:
            self._start(self._settings.workers - len(staying))

    def _reaped(self) -> list[int]:
        found = []
        with suppress(ChildProcessError):
            while True:
                process, _ = os.waitpid(-1, os.WNOHANG)
                if process == 0:
                    break
                found.append(process)
                Metrics.forget(self._shared, process)
        return found

    def _start(self, count: int) -> bool:
        """Fork workers and wait until they answer; False when not all of them do."""
        ready, says_ready = os.pipe()
        for _ in range(count):
            try:
                process = os.fork()
            except OSError as error:  # no room for a process; tried again in a second
                sys.stderr.write(f"A worker cannot start: {error.strerror}\n")
                break
            if process == 0:
                self._become_worker(says_ready)  # does not return
            self._workers[process] = time.monotonic()
        os.close(says_ready)
        answers = b""
        until = time.monotonic() + 10
        while len(answers) < count and time.monotonic() < until:
            if select.select([ready], [], [], 0.1)[0]:
                answer = os.read(ready, count)
                if not answer:
                    break  # one died on the way
                answers += answer
        os.close(ready)
        return len(answers) == count

    def _tell(self, processes: set[int]) -> None:
        for process in processes:
            self._leaving.add(process)
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)

    def _end(self, processes: set[int]) -> None:
        self._tell(processes)
        until = time.monotonic() + DRAIN_S + 1
        left = processes | self._leaving
        while left and time.monotonic() < until:
            left -= set(self._reaped())
            left = {process for process in left if _is_alive(process)}
            time.sleep(0.01)
        for process in left:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def _become_worker(self, says_ready: int) -> None:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGHUP, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a terminal's, to all
            os.close(self._hold)
            os.close(self._lock)  # held by the parent alone
            worker = _Worker(self._home, self._rules, self._shared)
            code = worker.run(
                self._listening,
                self._operators,
                self._settings,
                self._alive,
                says_ready,
            )
        except Exception as error:  # noqa: BLE001 - nothing may leave a fork
            sys.stderr.write(f"A worker stopped: {type(error).__name__}: {error}\n")
        finally:
            os._exit(code)  # not the parent's way out: it has locks and folders


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


class _Worker:
    """One process: its application, its segment, its loop."""

    def __init__(self, home: Home, rules: _Rules, shared: Path) -> None:
        # Requests leave next to no cycles. Looking for some every 700 objects, which is
        # some 60 events, costs a third of what taking an event in costs.
        gc.freeze()
        gc.set_threshold(100_000)
        self._keys = KeyRing(home)
        self._metrics = Metrics(shared)
        self._debugger = Debugger(shared)
        self._writer = SegmentWriter(segments_folder(home), self._committed)
        admission = Admission(rules.identifiers, rules.rulebook, rules.placeholders)
        self._ingestion = Ingestion(
            admission=RequestAdmission(admission, rules.rulebook),
            keys=self._keys,
            buckets=Buckets(shared / "rates"),
            writer=self._writer,
            webhooks=rules.webhooks,
            forms=rules.forms,
            fingerprints=Fingerprints(home),
            debugger=self._debugger,
            metrics=self._metrics,
        )
        self._app = Collector(
            self._ingestion,
            keys=self._keys,
            writer=self._writer,
            metrics=self._metrics,
        )
        self._admin = Admin(
            self._app,
            keys=self._keys,
            writer=self._writer,
            debugger=self._debugger,
            metrics=self._metrics,
        )
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(
        self,
        listening: socket.socket,
        operators: socket.socket,
        settings: Settings,
        alive: int,
        says_ready: int,
    ) -> int:
        config = _config(
            self._app,
            _Protocol,
            # Behind a proxy: FORWARDED_ALLOW_IPS names those whose word is taken.
            proxy_headers=bool(os.environ.get("FORWARDED_ALLOW_IPS")),
        )
        if settings.tls_cert is not None:
            config.ssl = _tls(settings)
        admin = _config(self._admin, _AdminProtocol, proxy_headers=False)
        server = _Server(config, self._app, admin, operators)
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(self._serve(server, listening, alive, says_ready))
        self._writer.close()
        self._count()
        return 0

    async def _serve(
        self, server: "_Server", listening: socket.socket, alive: int, says_ready: int
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._writer.start()
        self._loop.add_reader(alive, self._orphaned, server, alive)
        chores = asyncio.create_task(self._chores(server, says_ready))
        await server.serve(sockets=[listening])
        chores.cancel()

    def _orphaned(self, server: "_Server", alive: int) -> None:
        """The parent has died: end as if it had said so."""
        assert self._loop is not None
        self._loop.remove_reader(alive)
        server.leave()

    async def _chores(self, server: "_Server", says_ready: int) -> None:
        """What is looked after while requests are served."""
        while not server.started:
            await asyncio.sleep(0.005)
        os.write(says_ready, _READY)
        os.close(says_ready)
        while True:
            await asyncio.sleep(0.5)
            server.drop_late()
            self._count()
            # Whatever fails now (no file left to open, a locked database) may be well
            # at the next look: a revoked key has to be noticed then.
            with suppress(OSError):
                self._debugger.look()
            with suppress(sqlite3.Error):  # which may wait for whoever changes keys
                await asyncio.to_thread(self._keys.refresh)

    def _count(self) -> None:
        self._metrics.put("loomline_commits_total", self._writer.count_syncs)
        self._metrics.put("loomline_commit_failures_total", self._writer.count_failures)
        with suppress(OSError):  # counts are not worth failing for
            self._metrics.save()
            self._metrics.tell_fault(self._writer.error)

    def _committed(self, waiting: list[Any], error: OSError | None) -> None:
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop has ended, and nobody waits any more
            self._loop.call_soon_threadsafe(
                self._ingestion.settled, waiting, error is None
            )


def _config(
    app: Collector | Admin, protocol: type["_Protocol"], *, proxy_headers: bool
) -> uvicorn.Config:
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=proxy_headers,
        backlog=BACKLOG,
        limit_concurrency=None,
        timeout_keep_alive=IDLE_S,
        timeout_graceful_shutdown=DRAIN_S,
    )
    config.load()
    return config


def _tls(settings: Settings) -> ssl.SSLContext:
    """TLS 1.2 and later, without CBC suites."""
    assert settings.tls_cert is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.load_cert_chain(settings.tls_cert, settings.tls_key)
    return context


class _Server(uvicorn.Server):
    """Uvicorn's server with a second socket for operators; says when it drains."""

    def __init__(
        self,
        config: uvicorn.Config,
        app: Collector,
        admin: uvicorn.Config,
        operators: socket.socket,
    ) -> None:
        super().__init__(config)
        self._app = app
        self._admin = admin
        self._operators = operators

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # Uvicorn serves all its sockets with one application and one certificate.
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            self._operator_connected, sock=self._operators, backlog=self._admin.backlog
        )
        self.servers.append(server)

    def _operator_connected(self) -> "_Protocol":
        return _AdminProtocol(self._admin, self.server_state, app_state={})

    def leave(self) -> None:
        self._app.is_draining = True
        self.should_exit = True

    def drop_late(self) -> None:
        """Close connections whose request does not arrive."""
        earliest = asyncio.get_running_loop().time() - REQUEST_S
        for connection in list(self.server_state.connections):
            begun_at = getattr(connection, "begun_at", None)
            if begun_at is not None and begun_at < earliest:
                connection.transport.abort()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._app.is_draining = True
        super().handle_exit(sig, frame)


class _OneWrite:
    """A transport that sends the head of an answer and its body at once.

    Uvicorn hands them over one after the other, which is one call of the kernel more
    for each request: a tenth of what a request costs.
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


class _Protocol(HttpToolsProtocol):
    """Uvicorn's protocol with limits for clients that do not come to an end."""

    begun_at: float | None = None  # loop time; None while no request is arriving
    _header_bytes = 0  # since the last of a body: of headers, or of what follows it
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
        """Parse what has arrived; an offer of another protocol is passed over.

        Java's client offers HTTP/2 in clear with every request. The parser takes such
        an offer up: it ends the request at its head, and leaves what follows alone. So
        another one reads the head once more, without the offer, and what follows.
        """
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                if not self._is_offered:
                    return  # CONNECT, which is answered with an error
                data = self._head_without_offer() + data[offer.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            else:
                return

    @property
    def _is_offered(self) -> bool:
        """Whether the request at hand is to be read again, without its offer."""
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
        if self.scope["method"] != "HEAD":  # its answer is a head alone
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
        """Close once nothing is under way; what is about to be sent is answered."""
        self._is_draining = True
        if self.cycle is None or self.cycle.response_complete:
            self.loop.call_later(LINGER_S, self._close_idle)
        else:
            self.cycle.keep_alive = False

    def _close_idle(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


class _AdminProtocol(_Protocol):
    """The same for operators, who are let in when senders have all connections."""
