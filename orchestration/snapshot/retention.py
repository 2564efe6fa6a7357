"""Versions of the snapshot: lists them, and deletes those readers no longer need."""

import os
import re
import shutil
from collections.abc import Callable

from connectors.home import Home

__all__ = ["READERS_S", "current_version", "retire", "version_names"]

READERS_S = 3600.0
"""A version that is neither current nor the previous one is deleted this long after it
was replaced, so that readers that began with it can finish."""


def version_names(home: Home) -> dict[int, str]:
    """Return every existing version, complete or not, by its number."""
    if not home.published.is_dir():
        return {}
    found = (
        re.fullmatch(r"\d{8}T\d{6}Z-(\d{4,})", path.name)
        for path in home.published.iterdir()
    )
    return {int(match[1]): match[0] for match in found if match}


def current_version(home: Home) -> str | None:
    try:
        return os.readlink(home.published / "current")
    except FileNotFoundError:
        return None


def retire(home: Home, clock: Callable[[], float]) -> None:
    """Delete leftovers of killed calls, and versions readers no longer need."""
    versions = version_names(home)
    current = current_version(home)
    newest = next((n for n, name in versions.items() if name == current), 0)
    whole = sorted(number for number in versions if number <= newest)
    kept = whole[-2:]
    for number, name in versions.items():
        path = home.published / name
        if number in kept:
            continue
        if number in whole and clock() - path.stat().st_mtime <= READERS_S:
            continue
        # Rename first: a version under its own name must be complete.
        path.replace(path.with_name(f".{name}.gone"))
    if home.published.is_dir():
        for path in home.published.glob(".*"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
