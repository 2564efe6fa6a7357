"""What tests share: helpers, and no tests."""

from pathlib import Path

__all__ = ["PROJECT"]

PROJECT = Path(__file__).parents[2]
