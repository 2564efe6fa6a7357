"""The collector under faults: acknowledged events are stored, and no others.

`docs/reliability.md` lists the faults by row (A1 …), with the figures of long runs.
"""

import http.client
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from connectors.home import Home
from connectors.landing.segments import recover, segments_folder
from connectors.sources.write_keys import KeyStore
from tests.support import PROJECT
from tests.support.collecting import (
    COMMAND,
    Collecting,
    collecting,
    landed,
    make_key,
    wait_until,
)
from tests.support.load import Load, books, event, sending

KEY = "WK_TEST_1"
AUTH = {"authorization": f"Bearer {KEY}"}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    make_key(home, KEY)
    return home


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def health(collector: Collecting) -> int:
    return httpx.get(collector.url + "/healthz").status_code


def answers(collector: Collecting) -> bool:
    try:
        return collector.post("/v1/batch", {"batch": []}, headers=AUTH).is_success
    except httpx.HTTPError:
        return False


def post(collector: Collecting, message_id: str) -> int:
    return collector.post("/v1/track", event(message_id), headers=AUTH).status_code


# A1: killed


def test_nothing_acknowledged_is_lost_when_all_processes_are_killed(home: Home) -> None:
    load = Load()
    port = free_port()
    with sending(f"http://127.0.0.1:{port}", load=load):
        for _ in range(3):
            with collecting(home, "--workers", "2", port=port) as collector:
                load.wait_for(1_500)
                collector.kill()
    with collecting(home, port=port):  # takes over the segments of dead workers
        found = books(home)
    assert load.resets.total() > 0
    found.assert_kept(load)


def test_a_killed_worker_is_replaced_and_its_connections_alone_break(
    home: Home,
) -> None:
    with collecting(home, "--workers", "2") as collector:
        with sending(collector.url) as load:
            load.wait_for(500)
            victim, *others = collector.workers()
            os.kill(victim, signal.SIGKILL)
            killed_at = time.monotonic()
            wait_until(lambda: len(set(collector.workers()) - {victim}) == 2)
            assert time.monotonic() - killed_at < 1.5
            load.wait_for(500)
        assert set(others) < set(collector.workers())
        books(home).assert_kept(load)


def test_the_gap_of_an_only_worker_is_shorter_than_a_second_and_a_half(
    home: Home,
) -> None:
    with collecting(home) as collector:
        assert post(collector, "before") == 200
        os.kill(collector.workers()[0], signal.SIGKILL)
        killed_at = time.monotonic()
        wait_until(lambda: answers(collector))
        assert time.monotonic() - killed_at < 1.5
        assert post(collector, "after") == 200
        assert books(home).stored.keys() == {"before", "after"}


def test_workers_end_with_their_parent_and_answer_what_they_have(home: Home) -> None:
    port = free_port()
    with collecting(home, "--workers", "2", port=port) as collector:
        workers = collector.workers()
        with sending(collector.url) as load:
            load.wait_for(500)
            os.kill(collector.process.pid, signal.SIGKILL)
            collector.process.wait(10)
            wait_until(lambda: not any(Path(f"/proc/{p}").exists() for p in workers))
            with collecting(home, port=port):
                load.wait_for(500)
    books(home).assert_kept(load)


# A3: torn


@pytest.mark.parametrize(
    "tail",
    [
        b'{"source":"web","scope":"we',
        b"\0" * 5000,
        b"\0" * 3_000_000,
        os.urandom(700),
        b"\n\n\xff\xfe\n",
        b'{"source":"web","scope":"web","channel":"http","received_at":1,"items":["\xc3',
        b"",
    ],
    ids=["cut", "zeros", "many zeros", "noise", "line breaks", "half UTF-8", "nothing"],
)
def test_a_torn_end_is_cut_off_and_what_follows_starts_afresh(
    home: Home, tail: bytes
) -> None:
    with collecting(home) as collector:
        for number in range(5):
            assert post(collector, f"m{number}") == 200
        collector.kill()
    (part,) = segments_folder(home).glob("*.part")
    with part.open("ab") as file:
        file.write(tail)
    with collecting(home) as collector:
        assert post(collector, "after") == 200
        found = books(home)
    assert found.stored == dict.fromkeys(["after", *(f"m{n}" for n in range(5))], 1)
    assert found.reasons.keys() == {None}


def test_a_segment_cut_anywhere_keeps_its_whole_records(
    home: Home, tmp_path: Path
) -> None:
    with collecting(home) as collector:
        for number in range(3):
            assert post(collector, f"m{number}") == 200
        collector.kill()
    (part,) = segments_folder(home).glob("*.part")
    data = part.read_bytes()
    ends = [match.end() for match in re.finditer(b"\n", data)]
    folder = tmp_path / "cut"
    for size in range(len(data) + 1):
        folder.mkdir()
        (folder / part.name).write_bytes(data[:size])
        recover(folder)
        left = b"".join(path.read_bytes() for path in folder.iterdir())
        assert left == data[: max((end for end in ends if end <= size), default=0)]
        shutil.rmtree(folder)


# A4, A6, A20: no room, no folder, no files


def limited(collector: Collecting, kind: int, value: int) -> Callable[[], None]:
    """Set a resource limit on every worker; return a function that lifts it."""
    before = {
        worker: resource.prlimit(worker, kind, (value, -1))
        if kind == resource.RLIMIT_FSIZE
        else resource.prlimit(worker, kind, (value, resource.prlimit(worker, kind)[1]))
        for worker in collector.workers()
    }

    def lift() -> None:
        for worker, limits in before.items():
            resource.prlimit(worker, kind, limits)

    return lift


def test_a_write_that_stops_half_way_is_withdrawn(home: Home) -> None:
    """The kernel writes up to the limit and then fails."""
    with collecting(home) as collector:
        lift = limited(collector, resource.RLIMIT_FSIZE, 10_000)
        # The first segment is there; a new one would have to take more than this.
        with sending(collector.url, batch=2) as load:
            wait_until(lambda: load.statuses[503] > 10)
            assert health(collector) == 503
            good = load.statuses[200]
            assert good > 0
            wait_until(lambda: load.statuses[503] > 50)
            assert load.statuses[200] == good
            lift()
            wait_until(lambda: health(collector) == 200)
            load.wait_for(400)
            load.stop.set()
    books(home).assert_kept(load)


def test_a_full_disk_is_not_called_well_before_it_takes_data(home: Home) -> None:
    """Empty files can still be created on a full disk."""
    with collecting(home) as collector:
        lift = limited(collector, resource.RLIMIT_FSIZE, 0)
        assert post(collector, "lost") == 503
        until = time.monotonic() + 1.6  # it tries again twice a second
        while time.monotonic() < until:
            assert health(collector) == 503
        lift()
        wait_until(lambda: health(collector) == 200)
        assert post(collector, "kept") == 200
        assert books(home).stored == {"kept": 1}


def test_a_deleted_folder_is_noticed_before_an_answer_and_made_again(
    home: Home,
) -> None:
    with collecting(home) as collector:
        assert post(collector, "before") == 200
        assert books(home).stored == {"before": 1}
        shutil.rmtree(segments_folder(home))
        statuses = [post(collector, f"after{number}") for number in range(5)]
        assert statuses[0] == 503
        assert statuses[-1] == 200
        stored = {f"after{n}" for n, status in enumerate(statuses) if status == 200}
        assert books(home).stored.keys() == {"before", *stored}
        assert health(collector) == 200


def test_a_home_that_is_gone_is_not_made_up_again(home: Home, tmp_path: Path) -> None:
    with collecting(home) as collector:
        assert post(collector, "before") == 200
        moved = home.path.rename(tmp_path / "moved")
        shutil.rmtree(moved / "inbox")
        assert [post(collector, f"lost{n}") for n in range(3)] == [503] * 3
        assert health(collector) == 503
        assert not home.path.exists()
        (moved / "inbox").mkdir()
        moved.rename(home.path)
        wait_until(lambda: health(collector) == 200)
        assert post(collector, "after") == 200
        assert books(home).stored == {"after": 1}
        # What looks after keys has survived, too.
        store = KeyStore(home)
        store.revoke("web")
        store.close()
        wait_until(lambda: post(collector, "revoked") == 401, timeout_s=5)


def test_a_worker_out_of_file_descriptors_recovers_and_still_sees_revoked_keys(
    home: Home,
) -> None:
    with collecting(home) as collector:
        assert post(collector, "before") == 200
        connection = http.client.HTTPConnection(collector.url[7:], timeout=20)
        connection.connect()
        assert answers(collector)  # so the connection was accepted, too
        lift = limited(collector, resource.RLIMIT_NOFILE, 3)
        shutil.rmtree(segments_folder(home))  # it needs a file now, and gets none
        until = time.monotonic() + 2
        while time.monotonic() < until:
            connection.request("POST", "/v1/track", json.dumps(event("lost")), AUTH)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 503
            connection.request("GET", "/healthz")
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 503
        connection.close()
        lift()
        wait_until(lambda: answers(collector) and health(collector) == 200)
        assert post(collector, "after") == 200
        assert "after" in books(home).stored
        store = KeyStore(home)
        store.revoke("web")
        store.close()
        wait_until(lambda: post(collector, "revoked") == 401, timeout_s=5)


def test_a_collector_that_may_open_only_64_files_loses_nothing(home: Home) -> None:
    with (
        collecting(
            home, prefix=("bash", "-c", 'ulimit -n 64; exec "$@"', "-")
        ) as collector,
        sending(collector.url, senders=4) as load,
    ):
        load.wait_for(100)
        host, port = collector.url[7:].split(":")
        held = [socket.create_connection((host, int(port))) for _ in range(100)]
        before = len(load.acknowledged)
        wait_until(lambda: load.resets or len(load.acknowledged) > before + 200)
        for one in held:
            one.close()
        load.wait_for(200)
    books(home).assert_kept(load)


# A10: duplicates


def test_landing_again_and_restarting_repeats_nothing(home: Home) -> None:
    for _ in range(3):
        with collecting(home) as collector:
            assert post(collector, "same") == 200
            landed(home, "events")
            landed(home, "events")
    # Each request is a row of `raw.events`; the models make one of them.
    found = books(home)
    assert found.received == {"web": 3}
    assert found.stored == {"same": 3}


# A15, A16, A18: stopping, reloading, two at once


def test_stopping_under_load_answers_what_has_begun(home: Home) -> None:
    with collecting(home, "--workers", "2") as collector:
        with sending(collector.url, pause_s=0.5) as load:
            load.wait_for(500)
            started = time.monotonic()
            code = collector.stop()
            assert time.monotonic() - started < 10
            assert code == 0
            load.stop.set()
        # New connections are refused, or reset while they wait to be accepted when the
        # last listener goes; none that was accepted breaks.
        assert load.resets.keys() <= {"ConnectionRefusedError", "ConnectionResetError"}
        assert load.count_broken == 0
        assert load.statuses.keys() == {200}
    assert not list(segments_folder(home).glob("*.part"))
    found = books(home)
    found.assert_balanced()
    assert found.stored == dict.fromkeys(load.acknowledged, 1)


def test_what_was_refused_for_its_rate_is_counted_though_the_collector_stops(
    home: Home,
) -> None:
    make_key(home, "WK_SLOW", name="slow", rate=0.01, burst=1)
    with collecting(home) as collector:
        auth = {"authorization": "Bearer WK_SLOW"}
        with httpx.Client(base_url=collector.url, headers=auth) as client:
            statuses = Counter(
                client.post("/v1/track", json=event(f"m{n}")).status_code
                for n in range(40)
            )
        collector.stop()
    assert statuses[429] > 30
    assert books(home).dispositions == {
        ("slow", "admitted"): statuses[200],
        ("slow", "rate_limited"): statuses[429],
    }


def test_reloading_under_load_fails_no_request(home: Home) -> None:
    with collecting(home, "--workers", "2") as collector:
        with sending(collector.url) as load:
            for _ in range(3):
                before = set(collector.workers())
                load.wait_for(300)
                collector.process.send_signal(signal.SIGHUP)
                wait_until(
                    lambda before=before: not before & set(collector.workers()), 15
                )
            load.wait_for(300)
            load.stop.set()
        assert load.statuses.keys() == {200} and not load.resets
        books(home).assert_kept(load, once=True)


def test_a_broken_contract_keeps_the_old_rules(home: Home, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(
        PROJECT / "connectors",
        project / "connectors",
        ignore=shutil.ignore_patterns("*.py", "__pycache__"),
    )
    for name in ("seeds", "dbt_project.yml"):
        source = PROJECT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, project / name)
    contract = project / "connectors" / "events" / "contracts" / "plan_changed.yml"
    rule = (
        "event: plan_changed\non_violation: quarantine\n"
        "schema: {type: object, required: [plan_type]}\n"
        "examples: {accepted: [{plan_type: a}], refused: "
        "[{properties: {}, because: plan_type}]}\n"
    )
    contract.write_text(rule)
    bad = {**event("bad"), "event": "plan_changed", "properties": {}}

    def status(collector: Collecting) -> str:
        headers = {**AUTH, "x-loomline-receipts": "1"}
        answer = collector.post("/v1/track", bad, headers=headers).json()
        return str(answer["events"][0]["status"])

    with collecting(home, project=project) as collector:
        assert status(collector) == "quarantined"
        workers = collector.workers()
        contract.write_text("event: [broken")
        collector.process.send_signal(signal.SIGHUP)
        assert collector.process.stdout is not None
        told = collector.process.stdout.readline()
        while "stay in force" not in told:
            assert collector.process.poll() is None
            told = collector.process.stdout.readline()
        assert collector.workers() == workers
        assert status(collector) == "quarantined"
        contract.write_text(rule.replace("quarantine", "flag"))
        collector.process.send_signal(signal.SIGHUP)
        wait_until(lambda: status(collector) == "admitted")


def test_a_second_collector_on_a_home_is_refused(home: Home) -> None:
    with collecting(home) as collector:
        second = subprocess.run(
            [*COMMAND, "collect", "--port", "0"],
            env={**os.environ, "LOOMLINE_HOME": str(home.path)},
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert second.returncode == 2
        assert f"process {collector.process.pid}" in second.stderr
        assert "Another collector is running on" in second.stderr
        assert post(collector, "m") == 200


def test_a_backlog_is_not_read_before_the_first_answer(home: Home) -> None:
    """A17, with 2,000 segments; a million records in `tests/soak/faults.py`."""
    with collecting(home) as collector:
        assert post(collector, "m") == 200
        collector.stop()
    folder = segments_folder(home)
    (segment,) = folder.glob("*.ndjson")
    for number in range(2_000):
        os.link(segment, folder / f"20200101T000000-{number:016x}.ndjson")
    started = time.monotonic()
    with collecting(home) as collector:
        assert post(collector, "after") == 200
    assert time.monotonic() - started < 10


def test_collecting_imports_nothing_of_the_warehouse() -> None:
    code = (
        "import sys, connectors.sources.http_api.supervisor\n"
        "heavy = {'dagster', 'dbt', 'sqlmesh', 'duckdb', 'pandas'}\n"
        "print(sorted(heavy & {name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


# What no limit of a process can do: strace and faketime, chosen by `-m servers`


class Tracing:
    """Runs strace on processes for a time, optionally on `path` only."""

    def __init__(
        self, processes: list[int], fault: str, path: Path | None = None
    ) -> None:
        calls = fault.partition(":")[0]
        self._process = subprocess.Popen(
            [
                *("strace", "-f", "-o", "/dev/null"),
                *(("-P", str(path)) if path else ()),
                *("-e", f"trace={calls}", "-e", f"inject={fault}"),
                *(f"--attach={process}" for process in processes),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stderr is not None
        for _ in processes:
            line = self._process.stderr.readline()
            assert "attached" in line, line

    def __enter__(self) -> "Tracing":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.communicate(timeout=10)


@pytest.mark.servers
@pytest.mark.parametrize(
    "fault",
    [
        "fdatasync,fsync:error=EIO",
        "fdatasync:error=EIO",
    ],
)
def test_nothing_is_acknowledged_while_the_disk_fails(home: Home, fault: str) -> None:
    with collecting(home) as collector, sending(collector.url) as load:
        load.wait_for(300)
        with Tracing(collector.workers(), fault):
            wait_until(lambda: load.statuses[503] > 5)
            good = load.statuses[200]
            for _ in range(20):
                assert health(collector) == 503
            wait_until(lambda: load.statuses[503] > 60)
            assert load.statuses[200] == good
        wait_until(lambda: health(collector) == 200)
        load.wait_for(300)
        load.stop.set()
    books(home).assert_kept(load)


@pytest.mark.servers
def test_bytes_the_kernel_claims_but_never_wrote_are_not_acknowledged(
    home: Home,
) -> None:
    """A6: the write is skipped but reports the length of the line."""
    with collecting(home) as collector:
        assert post(collector, "before") == 200
        (part,) = segments_folder(home).glob("*.part")
        length = part.stat().st_size - len("before") + len("lost00")
        fault = f"write:retval={length}"
        with Tracing(collector.workers(), fault, part):
            # The clock has as many digits, so the line is as long as the one before.
            assert post(collector, "lost00") == 503
        wait_until(lambda: health(collector) == 200)
        assert post(collector, "after") == 200
    assert books(home).stored == {"before": 1, "after": 1}


@pytest.mark.servers
def test_a_slow_disk_is_shared_by_those_who_wait_for_it(home: Home) -> None:
    """A7: 300 ms per sync, 32 clients, one sync for all of them."""

    with (
        collecting(home) as collector,
        Tracing(collector.workers(), "fdatasync:delay_enter=300000"),
        sending(collector.url, senders=32, batch=5) as load,
    ):
        load.wait_for(320)
        load.latencies_s.clear()
        before, started = len(load.acknowledged), time.monotonic()
        load.wait_for(1_600)
        per_s = (len(load.acknowledged) - before) / (time.monotonic() - started)
    # 32 clients that wait for an answer: at best 32 × 5 events every 300 ms.
    assert per_s > 0.7 * 32 * 5 / 0.3
    assert load.percentile_s(99) < 0.7


@pytest.mark.servers
@pytest.mark.parametrize("jump", ["+400d", "-400d", "@2038-01-19 03:14:05"])
def test_a_clock_that_jumps_loses_and_misfiles_nothing(
    home: Home, tmp_path: Path, jump: str
) -> None:
    clock = tmp_path / "clock"

    def set_clock(to: str) -> None:
        beside = clock.with_suffix(".new")
        beside.write_text(to)
        beside.replace(clock)  # libfaketime reads it for every clock call

    set_clock("+0")
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    env = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    with collecting(home, env=env) as collector:
        for number in range(5):
            assert post(collector, f"before{number}") == 200
        set_clock(jump)
        for number in range(5):
            assert post(collector, f"jumped{number}") == 200
        set_clock("+0")
        for number in range(5):
            assert post(collector, f"after{number}") == 200
    rows = landed(home, "events")
    assert len(rows) == len({row["message_id"] for row in rows}) == 15
    books(home).assert_balanced()
    years = {row["message_id"][:5]: row["received_at"].year for row in rows}
    assert years["after"] == years["befor"] != years["jumpe"]
