"""A service that lookups ask."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Service", "answering"]


class Service:
    """A service on this machine that answers as it is told."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.tokens: list[str | None] = []
        self.status = 200
        self.body: bytes = b'{"region": "Europe", "geo": {"city": "Bonn"}}'
        self.may_answer = threading.Event()
        self.may_answer.set()
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                service.asked.append(self.path)
                service.tokens.append(self.headers["Authorization"])
                service.may_answer.wait(10)
                self.send_response(service.status)
                self.send_header("Content-Length", str(len(service.body)))
                self.send_header("Location", "/elsewhere")
                self.end_headers()
                self.wfile.write(service.body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/geo/{{key}}"


@contextmanager
def answering() -> Iterator[Service]:
    service = Service()
    thread = threading.Thread(target=service.server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield service
    finally:
        service.may_answer.set()
        service.server.shutdown()
        thread.join()
        service.server.server_close()
