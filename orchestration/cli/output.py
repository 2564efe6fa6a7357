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

STARTED = time.monotonic()  # this module is imported before any slow one

stderr = Console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def print_json(value: Any) -> None:
    """Print one object on standard output."""
    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")


def say(message: str) -> None:
    stderr.print(message, markup=False, highlight=False, soft_wrap=True)


def since_start() -> float:
    """Return the seconds since the command started."""
    return time.monotonic() - STARTED


@contextmanager
def stages() -> Iterator[Callable[[str], None]]:
    """Show each stage with its seconds while the command works, on a terminal only.

    Call the yielded function at the start of each stage. The lines disappear at the
    end, because the summary repeats them.
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
    # Dagster sends its steps' standard error through another process, which would
    # print these lines late and out of order.
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
