"""The demo's requests: generated, signed, sent to a collector, and landed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import httpx
import pyarrow.parquet as pq
import pytest

from connectors.errors import LandingError
from connectors.home import Home
from connectors.ingest.inbox import land_inbox
from connectors.landing.manifest import Manifest
from connectors.landing.prepare import prepare
from orchestration.demo.forms_and_webhooks import (
    NEWSLETTER,
    STRIPE,
    Request,
    collect,
    collector,
    expected_of,
    read_requests,
    send,
)
from orchestration.demo.generator import AS_OF, generate
from orchestration.demo.last_login import read_lines

PROJECT = Path(__file__).parents[2]
SECRET = "whsec_0123456789abcdef"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An empty home, which commands in this test's environment use."""
    monkeypatch.setenv("LOOMLINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LOOMLINE_PROJECT", str(PROJECT))
    monkeypatch.setenv("STRIPE_WEBHOOK_SECRET", SECRET)
    home = Home(tmp_path / "home")
    prepare(home)
    return home


@pytest.mark.parametrize("events", [1_000, 20_000])
def test_the_truth_counts_what_contracts_and_requests_become(
    tmp_path: Path, events: int
) -> None:
    truth = generate(tmp_path, events=events, seed=7, as_of=AS_OF)
    calls, requests = map(json.loads, read_lines(tmp_path)), read_requests(tmp_path)
    renewals = [c for c in calls if c.get("event") == "demo_subscription_renewed"]
    texts = [c for c in renewals if type(c["properties"]["amount"]) is str]
    assert texts and len(texts) < len(renewals) / 5
    assert truth.expected["demo_subscription_renewed"] == {
        "quarantined": len(texts),
        "admitted": len(renewals) - len(texts),
    }
    for path, became in ((STRIPE, "dropped"), (NEWSLETTER, "rejected")):
        counts = Counter(r.expected for r in requests if r.path == path)
        assert counts[became] and counts["admitted"]
        del counts[None]
        assert truth.expected[path] == dict(counts)
    sent = Counter(r.content["id"] for r in requests if r.path == STRIPE)
    assert 2 in sent.values()  # delivered twice
    assert any(r.expected is None for r in requests)  # forged


def test_a_collector_makes_of_the_requests_what_the_truth_says(
    tmp_path: Path, home: Home
) -> None:
    generate(tmp_path, events=1_000, seed=7, as_of=AS_OF)
    requests = read_requests(tmp_path)
    with collector(PROJECT) as url:
        send(url, requests, SECRET)
        with pytest.raises(LandingError, match="401"):
            send(url, requests, "whsec_not_the_collectors")
    land_inbox(home, PROJECT)
    assert decided(home) == expected(requests)


def decided(home: Home) -> Counter[tuple[str, str]]:
    """(Channel, disposition) → count of landed items."""
    return Counter(
        (row["channel"], row["disposition"])
        for file in Manifest(home).files()
        if file.stream == "dispositions"
        for row in pq.read_table(home.raw / file.path).to_pylist()
    )


def expected(requests: list[Request]) -> dict[tuple[str, str], int]:
    return {
        ({STRIPE: "webhook", NEWSLETTER: "form"}[path], disposition): count
        for path, counts in expected_of(requests).items()
        for disposition, count in counts.items()
    }


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_killed_between_sending_and_noting_it_the_counts_hold(
    tmp_path: Path, home: Home, share: float
) -> None:
    generate(tmp_path, events=1_000, seed=7, as_of=AS_OF)
    requests = read_requests(tmp_path)
    with collector(PROJECT) as url:  # killed afterwards: nothing is landed or noted
        send(url, requests[: round(len(requests) * share)], SECRET)
    collect(home, PROJECT, tmp_path, SECRET)
    assert decided(home) == expected(requests)

    (tmp_path / "sent").unlink()  # killed again, after landing
    collect(home, PROJECT, tmp_path, SECRET)
    assert decided(home) == expected(requests)


def test_the_collector_ends_with_a_demo_that_is_killed(home: Home) -> None:
    code = (
        "import sys, time; from pathlib import Path; "
        "from orchestration.demo.forms_and_webhooks import collector\n"
        "with collector(Path(sys.argv[1])) as url: print(url, flush=True); "
        "time.sleep(60)"
    )
    demo = subprocess.Popen(
        [sys.executable, "-c", code, str(PROJECT)], stdout=subprocess.PIPE, text=True
    )
    assert demo.stdout is not None
    url = demo.stdout.readline().strip()
    assert httpx.get(url + "/healthz").is_success
    demo.send_signal(signal.SIGKILL)
    demo.wait()
    demo.stdout.close()
    until = time.monotonic() + 20
    while _answers(url):
        assert time.monotonic() < until
        time.sleep(0.05)
    with collector(PROJECT) as again:  # the home is free again
        assert httpx.get(again + "/healthz").is_success


def _answers(url: str) -> bool:
    try:
        return httpx.get(url + "/healthz").is_success
    except httpx.TransportError:
        return False


def test_without_their_variables_the_examples_are_off_and_the_collector_says_so(
    home: Home,
) -> None:
    # Empty, not removed: a `.env` may set them.
    env = {**os.environ, "STRIPE_WEBHOOK_SECRET": "", "NEWSLETTER_FORM": ""}
    command = [str(Path(sys.executable).parent / "loomline"), "collect", "--port", "0"]
    with subprocess.Popen(
        [*command, "--admin-port", "0"], env=env, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        url = lines[0].split()[-1]
        answers = [
            httpx.post(url + STRIPE, content=b"{}"),
            httpx.post(url + NEWSLETTER, data={"email": "ann@shop.example"}),
        ]
        process.terminate()
    assert lines[2:] == [
        "Webhooks from stripe are off: STRIPE_WEBHOOK_SECRET is not set.\n",
        "The form newsletter is off: NEWSLETTER_FORM is not set.\n",
    ]
    assert [answer.status_code for answer in answers] == [404, 404]
