"""Measures how long after its answer an event has landed, with `loomline land --watch`.

The collector receives events at a steady rate while landing runs beside it. An event
has landed once the manifest lists its file; the manifest is read every few
milliseconds, so the figures are slightly too high. `visible` measures when events
appear in the published tables.
"""

import base64
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow.parquet as pq

from benchmarks.collector import DATA, KEY, event, running, serving
from benchmarks.measure import machine
from connectors.home import Home
from connectors.landing.manifest import Manifest

__all__ = ["main"]

RUN_S = 120
LOADS = ((1000, 10), (1, 1))
"""Events per second, and events per request."""

LOOK_S = 0.01
PATIENCE_S = 30


def main() -> None:
    print(f"freshness: {machine()}, {RUN_S} s each")
    DATA.mkdir(exist_ok=True)
    for events_per_s, batch in LOADS:
        with tempfile.TemporaryDirectory(dir=DATA) as folder:
            home = Home(Path(folder) / "loomline")
            with serving(home.path, 1) as (url, _):
                loomline = str(Path(sys.executable).with_name("loomline"))
                env = {
                    "LOOMLINE_HOME": str(home.path),
                    "LOOMLINE_PROJECT": str(home.path / "project"),
                }
                landing = [loomline, "land", "--watch"]
                with running(landing, env, stderr=subprocess.DEVNULL):
                    delays_s = _delays_s(home, url, events_per_s, batch)
            percentiles = statistics.quantiles(delays_s, n=100, method="inclusive")
            files = Manifest(home).files()
        print(
            f"  {events_per_s:,} events/s: p50 {percentiles[49]:.2f} s, "
            f"p95 {percentiles[94]:.2f} s, p99 {percentiles[98]:.2f} s, "
            f"at most {max(delays_s):.2f} s; {len(delays_s):,} events in "
            f"{sum(file.stream == 'events' for file in files)} files, "
            f"{len(files)} of all streams",
            flush=True,
        )


def _delays_s(home: Home, url: str, events_per_s: int, batch: int) -> list[float]:
    """Return the delay of every event, from its answer until it was listed.

    Raises:
        RuntimeError: an event never was.
    """
    answered_at: dict[str, float] = {}
    ended = threading.Event()

    def send() -> None:
        connection = http.client.HTTPConnection(urlsplit(url).netloc)
        headers = {"Authorization": f"Basic {_basic(KEY)}"}
        due = time.monotonic()
        for number in range(0, RUN_S * events_per_s, batch):
            time.sleep(max(due - time.monotonic(), 0))
            due += batch / events_per_s
            calls = [event(number + index) for index in range(batch)]
            connection.request(
                "POST", "/v1/batch", json.dumps({"batch": calls}), headers
            )
            answer = connection.getresponse()
            answer.read()
            if answer.status == 200:
                at = time.monotonic()
                answered_at.update((call["messageId"], at) for call in calls)
        ended.set()

    sending = threading.Thread(target=send)
    sending.start()
    delays_s: dict[str, float] = {}
    seen: set[int] = set()
    quiet_since = time.monotonic()
    while not ended.is_set() or len(delays_s) < len(answered_at):
        time.sleep(LOOK_S)
        now = time.monotonic()
        for file in Manifest(home).files():
            if file.stream != "events" or file.load_seq in seen or file.tier != "load":
                continue
            seen.add(file.load_seq)
            quiet_since = now
            rows = pq.read_table(home.raw / file.path, columns=["message_id"])
            for id_ in rows["message_id"].to_pylist():
                # It landed before its answer was read: no delay.
                delays_s[id_] = now - answered_at.get(id_, now)
        if now - quiet_since > PATIENCE_S:
            count = len(answered_at) - len(delays_s)
            raise RuntimeError(f"{count} events did not land in time.")
    sending.join()
    return list(delays_s.values())


def _basic(key: str) -> str:
    return base64.b64encode(f"{key}:".encode()).decode()


if __name__ == "__main__":
    main()
