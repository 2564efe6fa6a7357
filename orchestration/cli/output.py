"""Output of commands: JSON on standard output, everything else on standard error."""

import sys
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console

__all__ = ["Json", "print_json", "say", "stderr"]

stderr = Console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def print_json(value: Any) -> None:
    """Print one object on standard output."""
    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")


def say(message: str) -> None:
    stderr.print(message, markup=False, highlight=False, soft_wrap=True)
