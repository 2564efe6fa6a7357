"""The demo's home: it is reused, refused or deleted, and never by surprise."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from connectors.errors import ConfigError
from connectors.home import Home
from connectors.sources.http_api.collector_lock import only_one
from orchestration.demo.demo_home import check_same, delete
from orchestration.demo.generator import AS_OF
from orchestration.demo.run import SEED, STORY, demo
from orchestration.demo.sandbox.server import Sandbox

SECRET = "whsec_" + "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
HELD = {
    "events": 5_000,
    "as_of": AS_OF[1].isoformat(),
    "seed": SEED,
    "story": STORY,
}
NO_PORT = 1  # nothing listens there


def home_of(project: Path, held: dict[str, Any]) -> Home:
    """A demo's home with something collected into it."""
    home = Home(project / "data" / "demo")
    home.make(home.inbox)
    home.demo.write_text(json.dumps(held))
    (home.inbox / "collected").write_text("kept")
    return home


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (HELD, ("5,000 events as of 2026-05-02", "one of 2,000 events as of")),
        (
            HELD | {"events": 2_000, "as_of": "2026-06-01T00:00:00+00:00"},
            ("2,000 events as of 2026-06-01", "as of 2026-05-02"),
        ),
        (HELD | {"events": 2_000, "story": STORY - 1}, ("another version",)),
        ({}, ("partly deleted",)),
    ],
)
def test_a_demo_of_other_arguments_is_not_deleted_without_asking(
    tmp_path: Path, held: dict[str, Any], said: tuple[str, ...]
) -> None:
    home = home_of(tmp_path, held)
    with pytest.raises(ConfigError) as refused:
        demo(tmp_path, events=2_000)
    for text in (*said, "`loomline demo --reset`"):
        assert text in str(refused.value)
    assert (home.inbox / "collected").exists()
    assert json.loads(home.demo.read_bytes()) == held


def test_a_reset_empties_the_home_and_the_same_arguments_keep_it(
    tmp_path: Path,
) -> None:
    home = home_of(tmp_path, HELD)
    check_same(home, HELD)
    assert (home.inbox / "collected").exists()
    delete(home, NO_PORT, print)
    assert list(home.path.iterdir()) == []
    check_same(home, HELD | {"events": 2_000})


def test_no_demo_is_reset_under_a_running_collector(tmp_path: Path) -> None:
    home = home_of(tmp_path, HELD)
    lock = only_one(home)
    try:
        with pytest.raises(ConfigError, match="Stop `make dev` first"):
            delete(home, NO_PORT, print)
        assert (home.inbox / "collected").exists()
    finally:
        os.close(lock)
    delete(home, NO_PORT, print)
    assert list(home.path.iterdir()) == []


def test_no_demo_is_reset_under_its_running_sandbox(tmp_path: Path) -> None:
    home, other = home_of(tmp_path, HELD), home_of(tmp_path / "other", HELD)
    with Sandbox(home.path / "sandbox", SECRET) as sandbox:
        port = int(sandbox.url.rpartition(":")[2])
        with pytest.raises(ConfigError, match="Stop `make dev` first"):
            delete(home, port, print)
        assert (home.inbox / "collected").exists()
        delete(other, port, print)
        assert list(other.path.iterdir()) == []
    delete(home, port, print)
    assert list(home.path.iterdir()) == []
