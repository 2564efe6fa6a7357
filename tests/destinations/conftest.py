from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from connectors.destinations.outbox import Outbox
from connectors.destinations.webhook import Webhook
from connectors.webhook_secrets import secret_bytes
from orchestration.demo.sandbox.server import Sandbox
from tests.support.deliveries import SECRET, Acknowledgements, Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def acknowledge() -> Acknowledgements:
    return Acknowledgements()


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    box = Outbox(tmp_path / "control.db")
    yield box
    box.close()


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Callable[..., Sandbox]]:
    """Starts a sandbox; every one keeps its own folder and is stopped at the end."""
    started: list[Sandbox] = []

    def start(script: Iterable[object] = (), **options: object) -> Sandbox:
        made = Sandbox(tmp_path / f"box{len(started)}", SECRET, 0, script, **options)  # type: ignore[arg-type]
        made.start()
        started.append(made)
        return made

    yield start
    for one in started:
        one.stop()


@pytest.fixture
def webhook() -> Iterator[Callable[..., Webhook]]:
    opened: list[Webhook] = []

    def open_(url: str, timeout_s: float = 5, **options: object) -> Webhook:
        made = Webhook(
            "crm",
            url,
            (secret_bytes(SECRET),),
            timeout_s=timeout_s,
            **options,  # type: ignore[arg-type]
        )
        opened.append(made)
        return made

    yield open_
    for one in opened:
        one.close()
