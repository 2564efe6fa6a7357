"""YAML files that people write: what they hold, and on which line."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from connectors.errors import ConfigError

__all__ = ["ConfigFile"]


class ConfigFile:
    """One YAML file: its `content`, and the place of everything in it.

    Raises:
        ConfigError: the file cannot be read as YAML.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            text = path.read_text(encoding="utf-8")
            self.content: Any = yaml.safe_load(text)
            self._root = yaml.compose(text, Loader=yaml.SafeLoader)
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            mark = getattr(error, "problem_mark", None)
            line = "" if mark is None else f", line {mark.line + 1}"
            raise ConfigError(
                f"{path}{line}: not readable as YAML ({type(error).__name__})."
            ) from error

    def line(self, keys: Iterable[str | int]) -> int:
        """Where the entry stands that these keys lead to, else its nearest holder."""
        node, line = self._root, 1
        for key in keys:
            if isinstance(node, yaml.MappingNode):
                for name, value in node.value:
                    if name.value == str(key):
                        node, line = value, name.start_mark.line + 1
                        break
                else:
                    break
            elif (
                isinstance(node, yaml.SequenceNode)
                and isinstance(key, int)
                and key < len(node.value)
            ):
                node = node.value[key]
                line = node.start_mark.line + 1
            else:
                break
        return line

    def place(self, *keys: str | int) -> str:
        """`path, line N`, as messages begin."""
        return f"{self.path}, line {self.line(keys)}"
