"""The command line, `loomline`."""

from orchestration.cli.app import main

__all__ = ["main"]
