"""The home folder of a demo: kept for the same arguments, deleted on request only."""

import shutil
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import msgspec

from connectors.errors import ConfigError
from connectors.home import Home
from connectors.sources.http_api.collector_lock import is_running
from orchestration.pipeline.run import locked

__all__ = ["check_same", "delete", "has_sandbox"]

_RESET = (
    "`loomline demo --reset` deletes it, with everything collected into it, and starts "
    "a new one."
)


def check_same(home: Home, wanted: Mapping[str, Any]) -> None:
    """Check that the home is empty or holds a demo of these arguments.

    Raises:
        ConfigError: it holds another demo, or other files.
    """
    if not home.demo.exists():
        if home.path.exists() and any(home.path.iterdir()):
            raise ConfigError(
                f"{home.path} contains other files than a demo. Move them away, then "
                "run the demo again."
            )
        return
    held = msgspec.json.decode(home.demo.read_bytes())
    if held == wanted:
        return
    if not held:
        raise ConfigError(f"The demo in {home.path} is partly deleted. {_RESET}")
    if _arguments(held) == _arguments(wanted):
        raise ConfigError(
            f"The demo in {home.path} was made by another version of Loomline, whose "
            f"generated events differ. {_RESET}"
        )
    raise ConfigError(
        f"{home.path} holds a demo of {_arguments(held)}, and you asked for one of "
        f"{_arguments(wanted)}. Use the arguments of that demo to continue it. {_RESET}"
    )


def delete(home: Home, sandbox_port: int, say: Callable[[str], None]) -> None:
    """Delete the home's demo, if any.

    Raises:
        ConfigError: a collector or the sandbox is running on it.
    """
    if not home.demo.exists():
        return
    with locked(home, say):
        # They would go on writing to deleted files, and a second collector could start.
        if is_running(home) or has_sandbox(home, sandbox_port):
            raise ConfigError(
                f"A collector or the sandbox is running on {home.path}. Stop "
                "`make dev` first, then reset the demo."
            )
        # If this is interrupted, the folder is still an (incomplete) demo.
        home.demo.write_bytes(b"{}")
        for path in set(home.path.iterdir()) - {home.demo}:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        home.demo.unlink()
    say(f"Deleted the demo in {home.path}.")


def has_sandbox(home: Home, port: int) -> bool:
    """Return whether the sandbox of this home answers on the port."""
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=2)
        return answer.is_success and answer.json().get("folder") == str(
            home.path / "sandbox"
        )
    except (httpx.HTTPError, ValueError):
        return False


def _arguments(demo: Mapping[str, Any]) -> str:
    return f"{demo['events']:,} events as of {demo['as_of']}"
