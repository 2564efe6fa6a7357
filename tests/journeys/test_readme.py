"""Runs the README's commands from first to last in a fresh checkout."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import httpx

from orchestration.cli.app import STOP_S
from tests.support import PROJECT
from tests.support.checkouts import Checkout

ANSWERS_AT = {
    ".venv/bin/loomline sandbox": ("http://127.0.0.1:8787/",),
    "make dev": (
        "http://127.0.0.1:8787/",
        "http://127.0.0.1:8080/healthz",
        "http://127.0.0.1:3000/server_info",
    ),
}
"""Commands that stay, and where they answer once they are up."""

BESIDE = {".venv/bin/loomline collect": ("http://127.0.0.1:8080/healthz",)}
"""… and those that stay while the next are typed in another terminal."""

THE_TESTS_THEMSELVES = "make test"


def readme() -> str:
    return (PROJECT / "README.md").read_text()


def commands() -> list[str]:
    blocks = re.findall(r"^```console\n(.*?)^```", readme(), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


@contextmanager
def staying(
    checkout: Checkout, command: str, addresses: tuple[str, ...]
) -> Iterator[None]:
    """Start the command and wait for all its addresses; stop it at the end."""
    process = subprocess.Popen(
        command,
        shell=True,
        cwd=checkout.path,
        env=checkout.env(),
        start_new_session=True,
    )
    try:
        for address in addresses:
            deadline = time.monotonic() + 120
            while True:
                try:
                    assert httpx.get(address, timeout=5).is_success
                    break
                except httpx.TransportError:
                    assert process.poll() is None, f"{command} ended"
                    assert time.monotonic() < deadline, f"nothing answers at {address}"
                    time.sleep(0.5)
        yield
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(STOP_S + 60)  # extra time for a busy machine
    for address in addresses:  # it took everything it had started with it
        try:
            httpx.get(address, timeout=5)
        except httpx.TransportError:
            continue
        raise AssertionError(f"{address} still answers after {command} was stopped")


@dataclass(frozen=True)
class SmallDemo(Checkout):
    """A checkout whose demo has a fortieth of the events."""

    def env(self) -> dict[str, str]:
        return super().env() | {"LOOMLINE_DEMO_EVENTS": "5000"}


def test_every_command_of_the_readme_works_in_its_order(checkout: Checkout) -> None:
    checkout = SmallDemo(checkout.path)
    found = commands()
    assert found[0] == "make demo"
    assert THE_TESTS_THEMSELVES in found
    exports = ""
    with ExitStack() as beside:
        for command in found:
            if command == THE_TESTS_THEMSELVES:
                continue
            if command in ANSWERS_AT:
                with staying(checkout, command, ANSWERS_AT[command]):
                    pass
            elif command in BESIDE:
                beside.enter_context(
                    staying(checkout, exports + command, BESIDE[command])
                )
            elif command.startswith("export "):
                exports += command + "; "
            else:
                done = checkout.run(exports + command)
                if command.startswith("curl "):
                    assert done.stdout and done.stdout in readme()
    assert (checkout.path / "data" / "demo" / "summary.json").exists()
    assert (checkout.path / "data" / "mine" / "warehouse.duckdb").exists()


def test_the_commands_in_the_table_exist(checkout: Checkout) -> None:
    rows = re.findall(r"^\| `loomline ([a-z-]+)([^`]*)`", readme(), re.MULTILINE)
    assert len(rows) >= 6
    for name, arguments in rows:
        text = checkout.loomline(name, "--help")
        for option in re.findall(r"--[a-z-]+", arguments):
            assert option in text, f"loomline {name} has no {option}"


def test_the_audience_shown_is_the_one_shipped() -> None:
    model = PROJECT / "models" / "audiences" / "aud_cart_abandoners.sql"
    shown = re.search(r"^```sql\n(.*?)^```", readme(), re.MULTILINE | re.DOTALL)
    assert shown is not None
    assert shown[1] in model.read_text()
