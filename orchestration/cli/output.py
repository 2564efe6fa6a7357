"""Output of commands: JSON on standard output, everything else on standard error."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

__all__ = ["Json", "print_json", "say", "since_start", "stages", "stderr"]

STARTED = time.monotonic()  # this module is imported before anything that takes long

stderr = Console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def print_json(value: Any) -> None:
    """Print one object on standard output."""
    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")


def say(message: str) -> None:
    stderr.print(message, markup=False, highlight=False, soft_wrap=True)


def since_start() -> float:
    """Seconds since the command was started."""
    return time.monotonic() - STARTED


@contextmanager
def stages() -> Iterator[Callable[[str], None]]:
    """A line per stage with its seconds, while the command works; only on a terminal.

    The yielded function is told which stage begins. The lines are gone at the end: the
    summary has them.
    """
    spent: dict[str, float] = {}
    stage, since = "start", 0.0

    def begin(name: str) -> None:
        nonlocal stage, since
        now = since_start()
        spent[stage] = spent.get(stage, 0) + now - since
        stage, since = name, now
        spent.setdefault(name, 0)

    def lines() -> Text:
        seconds = {**spent, stage: spent.get(stage, 0) + since_start() - since}
        return Text("\n").join(
            Text(f"{name} {s:.0f} s", style="bold" if name == stage else "dim")
            for name, s in seconds.items()
            if name == stage or s >= 1
        )

    if not stderr.is_terminal:
        yield begin
        return
    # Dagster sends what its steps write on standard error through another process,
    # which prints it late and in the middle of our lines.
    with os.fdopen(os.dup(2), "w") as stderr.file:
        try:
            with Live(
                get_renderable=lines,
                console=stderr,
                transient=True,
                refresh_per_second=2,
                redirect_stdout=False,
                redirect_stderr=False,
            ):
                yield begin
        finally:
            stderr.file = sys.stderr
