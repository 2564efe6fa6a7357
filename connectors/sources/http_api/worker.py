"""A worker process of the collector: application, segment, and event loop."""

import asyncio
import gc
import os
import socket
import sqlite3
import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from connectors.errors import ConfigError
from connectors.events.admission import Admission
from connectors.events.fingerprint import Fingerprints
from connectors.events.identifiers import IdentifierRules
from connectors.events.placeholders import Placeholders
from connectors.events.rulebook import Rulebook
from connectors.home import Home
from connectors.landing.segment_writer import SegmentWriter
from connectors.landing.segments import segments_folder
from connectors.sources.forms import Forms
from connectors.sources.http_api.admin import Admin
from connectors.sources.http_api.app import Collector
from connectors.sources.http_api.debugger import Debugger
from connectors.sources.http_api.ingestion import Ingestion
from connectors.sources.http_api.metrics import Metrics
from connectors.sources.http_api.protocol import AdminProtocol, Protocol
from connectors.sources.http_api.request_admission import RequestAdmission
from connectors.sources.inbound_webhooks import InboundWebhooks
from connectors.sources.rate_limits import Buckets
from connectors.sources.write_keys import KeyRing

__all__ = ["CollectorRules", "Settings", "Worker"]

BACKLOG = 2048
IDLE_S = 65
"""Idle connections are closed after this time: longer than the minute for which load
balancers keep theirs."""

REQUEST_S = 60
"""A request must arrive completely within this time of its first byte."""

DRAIN_S = 8
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
READY = b"+"


@dataclass(frozen=True, slots=True)
class Settings:
    host: str
    port: int  # 0: any free port
    workers: int
    tls_cert: Path | None = None
    tls_key: Path | None = None
    admin_host: str = "127.0.0.1"
    admin_port: int | None = None  # None: `port` + 1


@dataclass(frozen=True, slots=True)
class CollectorRules:
    identifiers: IdentifierRules
    placeholders: Placeholders
    rulebook: Rulebook
    webhooks: InboundWebhooks
    forms: Forms

    @classmethod
    def load(cls, project: Path) -> "CollectorRules":
        faults = []
        rules: list[Any] = []
        for load in (
            IdentifierRules.load,
            Placeholders.load,
            Rulebook.load,
            InboundWebhooks.load,
            Forms.load,
        ):
            try:
                rules.append(load(project))
            except ConfigError as error:
                faults.append(str(error))
        if faults:
            raise ConfigError("\n".join(faults))
        return cls(*rules)


class Worker:
    """One process: its application, segment, and event loop."""

    def __init__(self, home: Home, rules: CollectorRules, shared: Path) -> None:
        # Requests leave almost no cycles. Collecting every 700 objects, which is about
        # 60 events, would cost a third of the time per event.
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
            Protocol,
            # Behind a proxy: FORWARDED_ALLOW_IPS lists the trusted proxies.
            proxy_headers=bool(os.environ.get("FORWARDED_ALLOW_IPS")),
        )
        if settings.tls_cert is not None:
            config.ssl = _tls(settings)
        admin = _config(self._admin, AdminProtocol, proxy_headers=False)
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
        """Shut down because the parent has died."""
        assert self._loop is not None
        self._loop.remove_reader(alive)
        server.leave()

    async def _chores(self, server: "_Server", says_ready: int) -> None:
        """Run periodic tasks while requests are served."""
        while not server.started:
            await asyncio.sleep(0.005)
        os.write(says_ready, READY)
        os.close(says_ready)
        while True:
            await asyncio.sleep(0.5)
            server.drop_late()
            self._count()
            # A failure (too many open files, a locked database) may be temporary: keep
            # going, so that a revoked key is noticed later.
            with suppress(OSError):
                self._debugger.look()
            with suppress(sqlite3.Error):  # a command may be changing keys
                await asyncio.to_thread(self._keys.refresh)

    def _count(self) -> None:
        self._metrics.put("loomline_commits_total", self._writer.count_syncs)
        self._metrics.put("loomline_commit_failures_total", self._writer.count_failures)
        with suppress(OSError):  # metrics are not worth failing for
            self._metrics.save()
            self._metrics.tell_fault(self._writer.error)

    def _committed(self, waiting: list[Any], error: OSError | None) -> None:
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop has ended: no request is waiting
            self._loop.call_soon_threadsafe(
                self._ingestion.settled, waiting, error is None
            )


def _config(
    app: Collector | Admin, protocol: type["Protocol"], *, proxy_headers: bool
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
    """Return a context for TLS 1.2 and later, without CBC suites."""
    assert settings.tls_cert is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.load_cert_chain(settings.tls_cert, settings.tls_key)
    return context


class _Server(uvicorn.Server):
    """Uvicorn's server with a second socket for operators; reports draining."""

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

    def _operator_connected(self) -> "Protocol":
        return AdminProtocol(self._admin, self.server_state, app_state={})

    def leave(self) -> None:
        self._app.is_draining = True
        self.should_exit = True

    def drop_late(self) -> None:
        """Close connections whose request does not arrive in time."""
        earliest = asyncio.get_running_loop().time() - REQUEST_S
        for connection in list(self.server_state.connections):
            begun_at = getattr(connection, "begun_at", None)
            if begun_at is not None and begun_at < earliest:
                connection.transport.abort()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._app.is_draining = True
        super().handle_exit(sig, frame)
