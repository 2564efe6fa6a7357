"""The lock of a home folder's collector, and the operators' URL."""

import fcntl
import os
import time
from pathlib import Path

from connectors.errors import ConfigError
from connectors.home import Home
from connectors.locks import is_held

__all__ = ["admin_url", "announce", "is_running", "only_one"]


def only_one(home: Home) -> int:
    """Lock this home folder for one collector; return the lock's descriptor.

    Raises:
        ConfigError: another collector holds it, or the home folder is not usable.
    """
    path = _path(home)
    home.make()
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    until = time.monotonic() + 2
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < until:
                time.sleep(0.05)
                continue
            holder = os.pread(lock, 200, 0).decode(errors="replace").partition("\n")[0]
            os.close(lock)
            raise ConfigError(
                f"Another collector is running on {home.path} ({holder}). Stop it, or "
                "give this one its own home folder (LOOMLINE_HOME)."
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, _holder(), 0)
        return lock


def announce(lock: int, url: str) -> None:
    """Write the operators' URL to the lock file, for `admin_url`."""
    os.pwrite(lock, _holder() + f"{url}\n".encode(), 0)


def is_running(home: Home) -> bool:
    """Return whether a collector is running on this home folder."""
    return is_held(_path(home))


def admin_url(home: Home) -> str | None:
    """Return the operators' URL of the collector running on this home folder.

    None if no collector is running.
    """
    if not is_running(home):
        return None
    _, _, url = _path(home).read_text().partition("\n")
    return url.strip() or None  # still starting


def _path(home: Home) -> Path:
    return home.path / "collect.lock"


def _holder() -> bytes:
    return f"process {os.getpid()}\n".encode()
