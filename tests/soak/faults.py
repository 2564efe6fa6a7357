"""Runs the collector under faults for a long time; see `docs/reliability.md`.

`python -m tests.soak.faults kill fuzz` runs those two. `power_cut` and `full_disk`
mount file systems (root, on Linux), `slow_disk` needs strace, `one_event` wrk,
`openapi` schemathesis, which SCHEMATHESIS names. Quick versions of most are
tests.
"""

import json
import os
import platform
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from connectors.home import Home
from connectors.ingest.inbox import land_inbox
from connectors.landing.segments import Record, segments_folder
from tests.support import PROJECT
from tests.support.collecting import collecting, make_key, wait_until
from tests.support.load import Load, books, event, sending

KEY = "WK_TEST_1"
AUTH = {"authorization": f"Bearer {KEY}"}


@contextmanager
def a_home() -> Iterator[Home]:
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        home = Home(Path(folder) / "home")
        make_key(home, KEY)
        yield home


def a_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def rss_mb(*processes: int) -> float:
    statuses = [Path(f"/proc/{p}/status").read_text() for p in processes]
    sizes = [re.search(r"VmRSS:\s*(\d+)", text) for text in statuses]
    return sum(int(size[1]) for size in sizes if size) / 1024


def kill() -> dict[str, Any]:
    """A1: kill -9 all processes, twenty times, under load."""
    load, port = Load(), a_port()
    ready_s = []
    with a_home() as home:
        rounds = 0
        with sending(f"http://127.0.0.1:{port}", batch=100, load=load):
            while rounds < 20 or len(load.acknowledged) < 100_000:
                rounds += 1
                started = time.monotonic()
                with collecting(home, "--workers", "2", port=port) as collector:
                    ready_s.append(time.monotonic() - started)
                    load.wait_for(random.randint(1_000, 12_000))
                    collector.kill()
        with collecting(home, port=port):
            kept = books(home)
        kept.assert_kept(load)
        return {
            "rounds": rounds,
            "acknowledged": len(load.acknowledged),
            "lost": len(load.acknowledged - kept.stored.keys()),
            "torn lines landed": kept.reasons["segment_damaged"],
            "sent again and stored twice": kept.stored.total() - len(kept.stored),
            "start to first answer, s, at most": round(max(ready_s), 2),
        }


def kill_worker() -> dict[str, Any]:
    """A1: how long no answer comes when the only worker is killed."""
    gaps_s = []
    with a_home() as home, collecting(home) as collector:
        for _ in range(20):
            os.kill(collector.workers()[0], signal.SIGKILL)
            killed_at = time.monotonic()
            wait_until(lambda: _answers(collector.url))
            gaps_s.append(time.monotonic() - killed_at)
            time.sleep(1.1)  # a worker that dies sooner is replaced with a pause
    return {"kills": 20, "gap s, at most": round(max(gaps_s), 3)}


def _answers(url: str) -> bool:
    try:
        return httpx.get(url + "/healthz").is_success
    except httpx.HTTPError:
        return False


def power_cut() -> dict[str, Any]:
    """A2: take the disk as of one moment, without the page cache."""
    unsynced = (
        *("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync"),
        *("-e", "inject=fsync,fdatasync:retval=0"),
    )
    figures: dict[str, Any] = {}
    for name, cuts, prefix in (
        ("as it is", 12, ()),
        ("control, with syncs left out", 2, unsynced),
    ):
        lost = acknowledged = 0
        for _ in range(cuts):
            stored, acknowledged_ids = _cut(prefix)
            lost += len(acknowledged_ids - stored)
            acknowledged += len(acknowledged_ids)
        figures[name] = {"cuts": cuts, "acknowledged": acknowledged, "lost": lost}
    return figures


def _cut(prefix: tuple[str, ...]) -> tuple[set[str], set[str]]:
    with tempfile.TemporaryDirectory(prefix="faults-") as folder, ExitStack() as stack:
        image, copy = Path(folder) / "image", Path(folder) / "copy"
        with image.open("wb") as file:
            file.truncate(192 << 20)
        subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
        home = Home(_mounted(stack, image, Path(folder) / "disk") / "home")
        make_key(home, KEY)
        os.sync()
        with (
            collecting(home, "--workers", "2", prefix=prefix) as collector,
            sending(collector.url, batch=50) as load,
        ):
            load.wait_for(random.randint(1_000, 6_000))
            group = collector.process.pid
            os.killpg(group, signal.SIGSTOP)
            time.sleep(0.2)  # for answers in transit
            acknowledged = set(load.acknowledged)
            shutil.copyfile(image, copy)
            load.stop.set()
            os.killpg(group, signal.SIGCONT)
        after = Home(_mounted(stack, copy, Path(folder) / "after") / "home")
        with collecting(after):
            kept = books(after)
        assert "segment_damaged" not in kept.reasons
        kept.assert_balanced()
        return set(kept.stored), acknowledged


def _mounted(stack: ExitStack, image: Path, at: Path) -> Path:
    at.mkdir()
    subprocess.run(["mount", "-o", "loop", str(image), str(at)], check=True)
    stack.callback(subprocess.run, ["umount", "-l", str(at)], check=True)
    return at


def full_disk() -> dict[str, Any]:
    """A4: fill a disk of 3 MB; landing makes room, without a restart."""
    with a_home() as home, ExitStack() as stack:
        folder = segments_folder(home)
        folder.mkdir()
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], check=True
        )
        stack.callback(subprocess.run, ["umount", "-l", str(folder)], check=True)
        with collecting(home) as collector, sending(collector.url) as load:
            wait_until(lambda: load.statuses[503] > 20, timeout_s=60)
            told = load.statuses[200]
            wait_until(lambda: load.statuses[503] > 300, timeout_s=60)
            told_while_full = load.statuses[200] - told
            is_red = httpx.get(collector.url + "/healthz").status_code == 503
            land_inbox(home, PROJECT)
            emptied_at = time.monotonic()
            told = load.statuses[200]
            wait_until(lambda: load.statuses[200] > told)
            back_s = time.monotonic() - emptied_at
            load.stop.set()
        books(home).assert_kept(load)
    return {
        "2xx while full": told_while_full,
        "health red": is_red,
        "back after s": round(back_s, 2),
        "lost": 0,
    }


def slow_disk() -> dict[str, Any]:
    """A7: delay each sync by 300 ms; 32 clients, batches of 500."""
    figures: dict[str, Any] = {}
    for name in ("as it is", "300 ms a sync"):
        with a_home() as home, collecting(home) as collector, ExitStack() as stack:
            if name != "as it is":
                (worker,) = collector.workers()
                tracer = subprocess.Popen(
                    [
                        *("strace", "-f", "-qq", "-o", "/dev/null"),
                        *("-e", "trace=fdatasync", f"--attach={worker}"),
                        *("-e", "inject=fdatasync:delay_enter=300000"),
                    ]
                )
                stack.callback(tracer.wait, 10)
                stack.callback(tracer.send_signal, signal.SIGINT)
                time.sleep(1)
            load = stack.enter_context(sending(collector.url, senders=32, batch=500))
            load.wait_for(40_000, timeout_s=120)
            load.latencies_s.clear()
            before, started = len(load.acknowledged), time.monotonic()
            load.wait_for(100_000, timeout_s=120)
            per_s = (len(load.acknowledged) - before) / (time.monotonic() - started)
            figures[name] = {
                "events/s": round(per_s),
                "p99 s": round(load.percentile_s(99), 2),
            }
    kept = figures["300 ms a sync"]["events/s"] / figures["as it is"]["events/s"]
    return figures | {"kept": f"{kept:.0%}"}


def slow_clients() -> dict[str, Any]:
    """A11: open 500 connections that never finish, beside working clients."""
    with a_home() as home, collecting(home) as collector:
        host, port = collector.url.removeprefix("http://").split(":")
        head = (
            b"POST /v1/batch HTTP/1.1\r\nhost: x\r\nauthorization: Bearer WK_TEST_1\r\n"
        )
        starts = (
            b"",
            b"POST /v1/ba",
            head + b"content-length: 100000\r\n\r\n{",
            head + b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n",
        )
        trickle = (b"", b"x", b" ", b"1\r\n \r\n")
        slow = []
        for number in range(500):
            one = socket.create_connection((host, int(port)))
            one.sendall(starts[number % 4])
            slow.append((one, trickle[number % 4]))
        opened_at = time.monotonic()
        closed_s: list[float] = []
        with sending(collector.url, senders=4, batch=10, pause_s=0.1) as load:
            while slow and time.monotonic() - opened_at < 90:
                left = []
                for one, byte in slow:
                    try:
                        one.setblocking(False)
                        gone = one.recv(100) == b""
                    except BlockingIOError:
                        gone = False
                    except ConnectionResetError:
                        gone = True
                    if not gone:
                        try:
                            one.setblocking(True)
                            one.sendall(byte)
                        except OSError:
                            gone = True
                    if gone:
                        one.close()
                        closed_s.append(time.monotonic() - opened_at)
                    else:
                        left.append((one, byte))
                slow = left
                time.sleep(1)
        assert load.statuses.keys() == {200}, load.statuses
        books(home).assert_kept(load, once=True)
    return {
        "open after 90 s": len(slow),
        "last closed after s": round(max(closed_s), 1),
        "bystanders' failures": load.resets.total(),
        "their p99 ms": round(load.percentile_s(99) * 1000),
        "their requests": load.statuses[200],
    }


_LUA = """
local n = 0
local threads = 0
function setup(thread) thread:set("id", threads); threads = threads + 1 end
function request()
  n = n + 1
  local m = string.format("%s-%d-%d", RUN, id, n)
  return wrk.format("POST", "/v1/track", {["authorization"] = "Bearer WK_TEST_1"},
    '{"type":"track","event":"Cart Updated","userId":"u1","messageId":"' .. m .. '"}')
end
function done(summary, latency)
  io.write(string.format("FIGURES %d %d %d %.3f %.3f\\n", summary.requests,
    summary.errors.status, summary.errors.connect + summary.errors.read
    + summary.errors.write + summary.errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
"""


def one_event() -> dict[str, Any]:
    """A14: send a million requests of one event each, on kept connections."""
    done = failed = resets = 0
    seconds = 0.0
    p50s, p99s = [], []
    with a_home() as home, collecting(home) as collector:
        (worker,) = collector.workers()
        memory = []
        stop = threading.Event()

        def land() -> None:
            while not stop.wait(10):
                land_inbox(home, PROJECT)

        landing = threading.Thread(target=land)
        script = home.path / "one.lua"
        landing.start()
        run = 0
        while done < 1_000_000:
            run += 1
            script.write_text(_LUA.replace("RUN", f'"r{run}"'))
            started = time.monotonic()
            output = subprocess.run(
                ["wrk", "-t2", "-c64", "-d20s", "-s", str(script), collector.url],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            seconds += time.monotonic() - started
            figures = re.search(r"FIGURES (.*)", output)
            assert figures is not None, output
            values = [float(text) for text in figures[1].split()]
            done += int(values[0])
            failed += int(values[1])
            resets += int(values[2])
            p50s.append(values[3])
            p99s.append(values[4])
            memory.append(rss_mb(worker))
        stop.set()
        landing.join()
        collector.stop()
        kept = books(home)
        kept.assert_balanced()
    return {
        "requests": done,
        "not 2xx": failed,
        "resets": resets,
        "requests/s": round(done / seconds),
        "p50 ms": round(sum(p50s) / len(p50s), 1),
        "p99 ms": round(max(p99s), 1),
        "MB after first and last 20 s": [round(memory[0]), round(memory[-1])],
        "stored ids": len(kept.stored),
        "stored twice": kept.stored.total() - len(kept.stored),
        "lost": max(done - failed - len(kept.stored), 0),
    }


def backlog() -> dict[str, Any]:
    """A17: start with a million records in segments, one of them torn."""
    import msgspec

    with a_home() as home:
        folder = segments_folder(home)
        folder.mkdir()
        for segment in range(20):
            lines = [
                msgspec.json.encode(
                    Record(
                        source="web",
                        scope="web",
                        channel="http",
                        received_at=time.time_ns() // 1000,
                        items=[event(f"{segment}-{number}")],
                    )
                )
                for number in range(50_000)
            ]
            end = ".part" if segment == 19 else ".ndjson"
            path = folder / f"20200101T000000-{segment:016x}{end}"
            path.write_bytes(b"\n".join(lines) + b"\n" + b'{"torn' * (end == ".part"))
        started = time.monotonic()
        with collecting(home) as collector:
            assert httpx.post(
                collector.url + "/v1/track", json=event("after"), headers=AUTH
            ).is_success
            ready_s = time.monotonic() - started
        started = time.monotonic()
        land_inbox(home, PROJECT)
        land_s = time.monotonic() - started
        kept = books(home)
        kept.assert_balanced()
    return {
        "records": 1_000_000,
        "start to first answer s": round(ready_s, 2),
        "landed": kept.stored.total(),
        "landing s": round(land_s, 1),
    }


def fuzz(count: int = 1_000_000) -> dict[str, Any]:
    """Send bodies made of broken pieces of real ones, through admission and landing."""
    from tests.support.fuzzing import Fuzzed

    seed = random.randrange(1 << 32)
    fuzzed = Fuzzed(seed)
    started = time.monotonic()
    for number in range(count):
        fuzzed.one()
        if number % 50_000 == 0:
            print(f"{number:,} bodies", file=sys.stderr)
    return {
        "seed": seed,
        "bodies": count,
        "items": fuzzed.count_items,
        "dispositions": dict(fuzzed.dispositions),
        "exceptions": 0,
        "seconds": round(time.monotonic() - started),
    }


def openapi(cases: int = 10_000) -> dict[str, Any]:
    """Schemathesis over what `/openapi.json` promises."""
    tool = os.environ["SCHEMATHESIS"]
    with a_home() as home, collecting(home) as collector:
        done = failed = 0
        while done < cases:
            process = subprocess.run(
                [
                    *(tool, "run", collector.url + "/openapi.json"),
                    *("-H", f"Authorization: Bearer {KEY}", "--no-color"),
                    *("--checks", "not_a_server_error", "-n", "50"),
                    *("--workers", "2", "--phases", "fuzzing"),
                ],
                capture_output=True,
                text=True,
                cwd=home.path,
            )
            match = re.search(r"(\d+) generated", process.stdout)
            assert match is not None, process.stdout[-3000:]
            done += int(match[1])
            failed += process.returncode != 0
            said = process.stdout[-3000:] if process.returncode else ""
            print(f"{done:,} cases {said}", file=sys.stderr)
        books(home).assert_balanced()
    return {"cases": done, "runs with a 5xx": failed}


RUNS: dict[str, Callable[[], dict[str, Any]]] = {
    run.__name__: run
    for run in (
        kill,
        kill_worker,
        power_cut,
        full_disk,
        slow_disk,
        slow_clients,
        one_event,
        backlog,
        fuzz,
        openapi,
    )
}


def main(names: list[str] | None = None) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    print(f"{os.cpu_count()} cores, {platform.platform()}, {time.strftime('%Y-%m-%d')}")
    for name in names or RUNS:
        print(f"{name}: {json.dumps(RUNS[name]())}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
