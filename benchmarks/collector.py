"""Measures the collector under load, against FastAPI and pydantic doing much less.

Both answer once the events are on disk, with one sync for all waiting requests.
Loomline also looks up keys, limits their rate, requires consent, checks seven events in
ten against a contract and transforms another; the peer decodes, validates and appends.
wrk sends to both in turn, on the same machine; the median counts. Events look like
those of Segment's SDK for Node.js, 1.1 KB each.

`python -m benchmarks.collector --minutes 10` instead keeps one worker busy and prints
its memory every minute. `--against FOLDER` compares this checkout with another one that
has its own environment, such as a worktree of an earlier revision.
"""

import argparse
import base64
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks.measure import machine
from connectors.home import Home
from connectors.landing.segments import closed_segments, segments_folder
from orchestration.project import Project

__all__ = ["DATA", "KEY", "event", "main", "running", "serving"]

DATA = Path(__file__).parent / "data"
PEER = ("fastapi==0.165.0", "uvicorn==0.54.0", "uvloop==0.23.0", "httptools==0.9.0")
ROUNDS = 5
RUN_S = 5
WARM_UP_S = 1
LOADS = ((1, 64), (100, 16))
"""Events per request, and connections."""

KEY = "benchmark-write-key"
EVENTS_A_BODY_FILE = 2000

CONTRACT = """
event: order_completed
consent: [analytics]
schema:
  type: object
  required: [order_id, total, currency, products]
  properties:
    order_id: {type: string, minLength: 1}
    total: {type: number, minimum: 0}
    currency: {type: string, enum: [EUR, USD, BRL]}
    products:
      type: array
      items:
        type: object
        required: [sku, quantity]
        properties: {sku: {type: string}, quantity: {type: integer, minimum: 1}}
"""

TRANSFORMATION = """
match: {event: product_viewed}
do:
  - rename: {properties.sku: properties.product_id}
  - set: {properties.site: shop}
"""


class Load(NamedTuple):
    """wrk's figures, and the server's CPU time."""

    events_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float  # of the server, per event


def main(against: Path | None = None) -> None:
    """Compare with the peer, or another checkout; with one worker and with two."""
    print(f"collector: {machine()}, {ROUNDS} rounds of {RUN_S} s")
    wrk = _wrk()
    python = None if against else _peer_environment()
    other = str(against) if against else "FastAPI"
    DATA.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DATA) as folder:  # on a disk, not in memory
        scratch = Path(folder)
        for workers in (1, 2):
            for events, connections in LOADS:
                bodies = _bodies(scratch / f"{events}.ndjson", events)
                ours: list[Load] = []
                theirs: list[Load] = []
                for round_ in range(ROUNDS):
                    peer = (
                        _peer(python, scratch / "peer", workers)
                        if python
                        else serving(scratch / "peer", workers, against)
                    )
                    pair = (
                        (ours, serving(scratch / "loomline", workers)),
                        (theirs, peer),
                    )
                    for runs, server in pair[:: 1 if round_ % 2 else -1]:
                        with server as (url, process):
                            send = (wrk, url, bodies, connections)
                            _load(*send, WARM_UP_S, events, process)
                            runs.append(_load(*send, RUN_S, events, process))
                title = f"{events} per request, {connections} connections"
                _print(f"{title}, {workers} worker{'s' if workers > 1 else ''}")
                _print_runs("loomline collect", ours)
                _print_runs(other, theirs)
                pairs = list(zip(ours, theirs, strict=True))
                rate = statistics.median(
                    a.events_per_s / b.events_per_s for a, b in pairs
                )
                cpu = statistics.median(b.cpu_us / a.cpu_us for a, b in pairs)
                _print(f"  {rate:.2f} x the rate, 1/{cpu:.2f} of the CPU (medians)")


def soak(minutes: int) -> None:
    """Keep one worker busy and print its memory; closed segments are deleted."""
    print(f"collector, memory of a worker: {machine()}")
    wrk = _wrk()
    DATA.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DATA) as folder:
        home = Path(folder) / "loomline"
        bodies = _bodies(Path(folder) / "100.ndjson", 100)
        with serving(home, 1) as (url, process):
            (worker,) = process.children()
            before_mb = 0.0
            for minute in range(1, minutes + 1):
                load = _load(wrk, url, bodies, 16, 60, 100, process, home)
                rss_mb = worker.memory_info().rss / 2**20
                before_mb = before_mb or rss_mb
                grown = rss_mb / before_mb - 1
                _print(
                    f"minute {minute}: {rss_mb:.0f} MB ({grown:+.1%}), "
                    f"{load.events_per_s:,.0f} events/s, p99 {load.p99_ms:.1f} ms"
                )


def _bodies(path: Path, events: int) -> Path:
    """Write bodies with this many events each, one per line, like Segment's SDK."""
    count = max(EVENTS_A_BODY_FILE // events, 20)
    with path.open("w") as file:
        for number in range(count):
            batch = [event(number * events + index) for index in range(events)]
            body = {"batch": batch, "writeKey": KEY, "sentAt": "2026-11-21T10:00:00Z"}
            file.write(json.dumps(body, separators=(",", ":")) + "\n")
    return path


def event(number: int) -> dict[str, Any]:
    """Return an event: of ten, seven orders, a page, an identify, a product view."""
    products = [{"sku": f"sku-{number % 97}-{i}", "quantity": i + 1} for i in range(3)]
    call: dict[str, Any] = {"type": "track"}
    match number % 10:
        case 0:
            properties = {"sku": f"sku-{number}", "price": 12.5, "currency": "EUR"}
            call |= {"event": "Product Viewed", "properties": properties}
        case 1:
            properties = {"url": "https://shop.example/sale", "title": "Sale"}
            call = {"type": "page", "name": "Sale", "properties": properties}
        case 2:
            traits = {"email": f"ana{number}@shop.example", "plan": "free"}
            call = {"type": "identify", "traits": traits}
        case _:
            order = {"order_id": f"o-{number}", "total": 42.5, "currency": "EUR"}
            properties = {**order, "products": products, "coupon": "SPRING"}
            call |= {"event": "Order Completed", "properties": properties}
    granted = {"advertising": True, "analytics": True}
    return {
        **call,
        "messageId": str(uuid.uuid5(uuid.NAMESPACE_OID, str(number))),
        "timestamp": "2026-11-21T10:00:00.480Z",
        "userId": f"user_{number % 1000}",
        "anonymousId": f"anon-{number % 1000}",
        "integrations": {"All": True},
        "context": {
            "ip": "203.0.113.7",
            "locale": "pt-BR",
            "timezone": "America/Sao_Paulo",
            "userAgent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 "
            "Firefox/140.0",
            "campaign": {"source": "newsletter", "medium": "email", "name": "spring"},
            "page": {
                "path": "/checkout/confirmation",
                "url": "https://shop.example/checkout/confirmation?gclid=abc",
                "referrer": "https://search.example/",
                "title": "Thank you for your order",
            },
            "consent": {"categoryPreferences": granted},
            "device": {"id": "dev-1", "type": "browser"},
            "screen": {"width": 1920, "height": 1080, "density": 2},
            "library": {"name": "@segment/analytics-node", "version": "3.1.0"},
        },
        "_metadata": {"nodeVersion": "v20.20.2", "jsRuntime": "node"},
    }


@contextmanager
def serving(
    home: Path, workers: int, checkout: Path | None = None
) -> Iterator[tuple[str, psutil.Popen]]:
    """Run `loomline collect` on its own home and rules; yield its URL and process.

    Uses the command of `checkout`, by default of this environment.
    """
    shutil.rmtree(home, ignore_errors=True)
    project = home / "project"
    source = checkout or Project.find().path
    shutil.copytree(source / "seeds", project / "seeds")
    shutil.copy(source / "dbt_project.yml", project)
    for kind, text in (("contracts", CONTRACT), ("transformations", TRANSFORMATION)):
        folder = project / "connectors" / "events" / kind
        folder.mkdir(parents=True)
        (folder / "010_benchmark.yml").write_text(text)
    python = checkout / ".venv" / "bin" / "python" if checkout else Path(sys.executable)
    loomline = str(python.with_name("loomline"))
    env = {"LOOMLINE_HOME": str(home), "LOOMLINE_PROJECT": str(project)}
    create = [loomline, "keys", "create", "--name", "web", "--kind", "server"]
    create += ["--value", KEY, "--rate", "1e7", "--burst", str(10**7)]
    subprocess.run(create, env={**os.environ, **env}, check=True, capture_output=True)
    command = [loomline, "collect", "--port", "0", "--workers", str(workers)]
    with running(command, env, stdout=subprocess.PIPE) as process:
        line = process.stdout.readline().decode()
        if not line.startswith("Collecting at "):
            raise RuntimeError(f"The collector did not start: {line}")
        yield line.split()[-1], process


@contextmanager
def _peer(
    python: Path, folder: Path, workers: int
) -> Iterator[tuple[str, psutil.Popen]]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    script = Path(__file__).with_name("collector_peer.py")
    command = [str(python), str(script), str(folder), str(port), str(workers)]
    with running(command, {"PYTHONPATH": str(script.parent)}) as process:
        until = time.monotonic() + 30
        while len(list(folder.iterdir())) < workers:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("The peer did not start.")
            time.sleep(0.1)
        time.sleep(0.5)  # from opening its file to listening
        yield f"http://127.0.0.1:{port}", process


@contextmanager
def running(
    command: list[str], env: dict[str, str], *, stop_s: float = 30, **more: Any
) -> Iterator[psutil.Popen]:
    """Yield the process, then terminate it; kill it after `stop_s`."""
    process = psutil.Popen(command, env={**os.environ, **env}, **more)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(stop_s)
        except psutil.TimeoutExpired:
            process.kill()
            raise


def _load(
    wrk: str,
    url: str,
    bodies: Path,
    connections: int,
    for_s: int,
    events: int,
    server: psutil.Popen,
    thrown_away: Path | None = None,
) -> Load:
    """Send for this many seconds.

    Raises:
        RuntimeError: a request failed.
    """
    script = Path(__file__).with_name("collector_load.lua")
    authorization = "Basic " + base64.b64encode(f"{KEY}:".encode()).decode()
    command = [wrk, "-t1", f"-c{connections}", f"-d{for_s}s", "-s", str(script)]
    command += [f"{url}/v1/batch", "--", str(bodies), authorization]
    cpu_s = _cpu_s(server)
    sending = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    while thrown_away is not None and sending.poll() is None:
        time.sleep(1)
        for path in closed_segments(segments_folder(Home(thrown_away))):
            path.unlink()
    output, _ = sending.communicate()
    cpu_s = _cpu_s(server) - cpu_s
    seen = json.loads(output.splitlines()[-1])
    if seen["failed"] or not seen["requests"]:
        raise RuntimeError(f"Requests failed: {seen}")
    count = seen["requests"] * events
    return Load(
        count / seen["wall_s"], seen["p50_ms"], seen["p99_ms"], cpu_s / count * 1e6
    )


def _cpu_s(server: psutil.Popen) -> float:
    times = [process.cpu_times() for process in server.children(recursive=True)]
    times.append(server.cpu_times())
    return float(sum(time.user + time.system for time in times))


def _wrk() -> str:
    """Return the path of a load generator cheaper than what it measures.

    Raises:
        RuntimeError: it is not installed; one in Python would measure itself.
    """
    path = shutil.which("wrk")
    if path is None:
        raise RuntimeError("Install wrk: `apt install wrk`, or `brew install wrk`.")
    return path


def _peer_environment() -> Path:
    """Return a separate environment: the product does not depend on FastAPI."""
    folder = DATA / "fastapi-0.165.0"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *PEER], check=True)
        (folder / "ready").touch()
    return python


def _print_runs(what: str, runs: list[Load]) -> None:
    def median(name: str) -> float:
        return float(statistics.median(getattr(run, name) for run in runs))

    _print(
        f"  {what}: {median('events_per_s'):,.0f} events/s, "
        f"p50 {median('p50_ms'):.1f} ms, p99 {median('p99_ms'):.1f} ms, "
        f"{median('cpu_us'):.1f} µs of CPU per event"
    )


def _print(text: str) -> None:
    print(f"  {text}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, help="Watch the memory for this long.")
    parser.add_argument("--against", type=Path, help="A checkout to compare with.")
    options = parser.parse_args()
    if options.minutes:
        soak(options.minutes)
    else:
        main(options.against)
