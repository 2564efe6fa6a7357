"""The supervisor: worker processes on one listening socket.

The parent holds only the socket and the rules: it forks the workers, replaces a dead
one immediately, and on SIGHUP reloads the rules and swaps all workers without closing
the socket. Clients that connect meanwhile wait in its queue. The parent has no threads
and no event loop, so that forking is safe.
"""

import os
import resource
import select
import signal
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType

from connectors.errors import ConfigError, LandingError
from connectors.home import Home
from connectors.landing.manifest import sync_folder
from connectors.landing.segments import recover, segments_folder
from connectors.sources.http_api.collector_lock import announce, only_one
from connectors.sources.http_api.metrics import Metrics
from connectors.sources.http_api.protocol import (
    MAX_CONNECTIONS,
    AdminProtocol,
    Protocol,
)
from connectors.sources.http_api.worker import (
    BACKLOG,
    DRAIN_S,
    CollectorRules,
    Settings,
    Worker,
)

__all__ = ["serve"]

Say = Callable[[str], None]

OPERATOR_CONNECTIONS = 32
"""Connections reserved for operators when senders use all others."""

_MIN_LIFE_S = 1.0  # a worker that dies sooner is replaced with a pause


def serve(home: Home, project: Path, settings: Settings, *, say: Say) -> None:
    """Collect events until SIGTERM or SIGINT; return once all requests are answered.

    `say` is called with the URLs once they accept requests.

    Raises:
        ConfigError: a rule, the address or the certificate is not usable, or another
            collector is running on this home folder.
    """
    _raise_limits()
    rules = CollectorRules.load(project)
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
            parent = _Supervisor(
                home, project, settings, rules, listening, operators, Path(shared), lock
            )
            parent.run(say)
    finally:
        os.close(lock)


def _raise_limits() -> None:
    """Allow as many connections as the machine permits, minus files for segments."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # some systems report no numeric limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    Protocol.max_connections = max(min(MAX_CONNECTIONS, soft - 128), 16)
    AdminProtocol.max_connections = Protocol.max_connections + OPERATOR_CONNECTIONS


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
            # Workers of a killed collector release the address within a moment.
            if time.monotonic() < until:
                time.sleep(0.05)
                continue
            raise ConfigError(
                f"Cannot listen on {host}:{port} ({error.strerror}); choose "
                f"another {options}."
            ) from error
        listening.listen(BACKLOG)
        listening.setblocking(False)
        return listening


def _url(listening: socket.socket, scheme: str = "http") -> str:
    host, port = listening.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _from_here(url: str) -> str:
    """Return a URL for this machine if the server listens on all addresses."""
    return url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")


def _tls_faults(settings: Settings) -> str | None:
    if settings.tls_cert is None and settings.tls_key is None:
        return None
    if settings.tls_cert is None or settings.tls_key is None:
        return "--tls-cert and --tls-key must be used together."
    try:
        ssl.create_default_context().load_cert_chain(
            settings.tls_cert, settings.tls_key
        )
    except (OSError, ssl.SSLError) as error:
        return f"The certificate is not usable: {error}."
    return None


class _Supervisor:
    """Starts, watches and swaps the workers."""

    def __init__(
        self,
        home: Home,
        project: Path,
        settings: Settings,
        rules: CollectorRules,
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
        # Workers exit when the parent does: its end of this pipe closes with it.
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
            raise LandingError("The workers could not start; see their messages above.")
        operators_url = _url(self._operators)
        announce(self._lock, _from_here(operators_url))
        scheme = "https" if self._settings.tls_cert else "http"
        say(f"Collecting at {_url(self._listening, scheme)}")
        say(f"Metrics and live events at {operators_url}")
        self._say_off(say)
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
        """Start new workers with the current rules; the old ones finish and exit."""
        previous, old = self._rules, set(self._workers)
        try:
            self._rules = CollectorRules.load(self._project)
        except ConfigError as error:
            say(f"{error}\nThe previous rules stay in force.")
            return
        if self._start(self._settings.workers):
            self._tell(old)
            say("Workers were replaced; the new rules are in force.")
            self._say_off(say)
        else:
            self._rules = previous
            self._tell(set(self._workers) - old)
            say("New workers could not start; the old ones continue.")

    def _say_off(self, say: Say) -> None:
        for source, variable in self._rules.webhooks.off.items():
            say(f"Webhooks from {source} are off: {variable} is not set.")
        for form, variable in self._rules.forms.off.items():
            say(f"The form {form} is off: {variable} is not set.")

    def _replace_dead(self, say: Say) -> None:
        for process in self._reaped():
            began_at = self._workers.pop(process, None)
            if began_at is None or process in self._leaving:
                self._leaving.discard(process)
                continue
            say(f"Worker {process} died and was replaced.")
            if time.monotonic() - began_at < _MIN_LIFE_S:
                time.sleep(0.2)
        staying = self._workers.keys() - self._leaving
        if len(staying) < self._settings.workers:
            self._start(self._settings.workers - len(staying))

    def _reaped(self) -> list[int]:
        ended = []
        with suppress(ChildProcessError):
            while True:
                process, _ = os.waitpid(-1, os.WNOHANG)
                if process == 0:
                    break
                ended.append(process)
                Metrics.forget(self._shared, process)
        return ended

    def _start(self, count: int) -> bool:
        """Fork workers and wait until they are ready; return whether all are."""
        ready, says_ready = os.pipe()
        for _ in range(count):
            try:
                process = os.fork()
            except OSError as error:  # process limit reached; retried in a second
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
                    break  # one died while starting
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
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # sent by a closing terminal
            os.close(self._hold)
            os.close(self._lock)  # only the parent holds it
            worker = Worker(self._home, self._rules, self._shared)
            code = worker.run(
                self._listening,
                self._operators,
                self._settings,
                self._alive,
                says_ready,
            )
        except Exception as error:  # noqa: BLE001 - a fork must not return
            sys.stderr.write(f"A worker stopped: {type(error).__name__}: {error}\n")
        finally:
            os._exit(code)  # skip the parent's cleanup of locks and folders


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
