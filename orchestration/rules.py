"""Whether the identity rules are still those the warehouse was built with.

Rows that were resolved by other rules cannot be mended by looking at what is new: when
a seed, a model or a macro that decides who is who has changed, all is built anew.
"""

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from connectors.landing.home import Home
from orchestration.project import Project

__all__ = ["building"]


@contextmanager
def building(project: Project) -> Iterator[bool]:
    """Around a build: whether it has to be a full one.

    The answer stays yes until a build has ended well.
    """
    rules = _rules(project)
    former = _read(project.home)
    is_first = former is None and not project.home.warehouse.exists()
    must_rebuild = former != rules and not is_first
    _write(project.home, f"unfinished {rules}" if must_rebuild else rules)
    yield must_rebuild
    _write(project.home, rules)


def _rules(project: Project) -> str:
    files = sorted(
        file
        for folder in ("seeds", "models/identity", "macros/identity")
        for file in (project.path / folder).rglob("*")
        if file.suffix in (".csv", ".sql")
    )
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def _read(home: Home) -> str | None:
    with _control(home) as control:
        row = control.execute("select value from built where name = 'identity'")
        found: tuple[str] | None = row.fetchone()
    return found[0] if found else None


def _write(home: Home, value: str) -> None:
    with _control(home) as control:
        control.execute("insert or replace into built values ('identity', ?)", (value,))
        control.commit()


@contextmanager
def _control(home: Home) -> Iterator[sqlite3.Connection]:
    home.control.touch(mode=0o600)  # the outbox beside holds addresses
    control = sqlite3.connect(home.control, timeout=30)
    try:
        control.execute(
            "create table if not exists built (name text primary key, value text)"
        )
        yield control
    finally:
        control.close()
