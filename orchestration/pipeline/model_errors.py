"""Errors of dbt with the file and line to edit.

dbt and the engine report lines of the compiled SQL, not of the source.
"""

import re
from collections.abc import Iterable
from difflib import SequenceMatcher
from functools import cache
from pathlib import Path
from typing import Any

from connectors.config_files import nearest

__all__ = ["parse_failure", "run_failures", "without_values"]

CONDITIONS = Path("macros") / "audience" / "conditions.sql"

_ROW_ERROR = re.compile(r"(Conversion|Constraint|Invalid Input|Out of Range) Error")
"""DuckDB errors that quote values of rows; others quote names in SQL."""

_EXCERPT = re.compile(r"(\s*LINE \d+: )")
_HEAD = re.compile(r"^\w+ Error in \w+ \S+ \((\S+)\)\s*")
_STATEMENT_LINE = re.compile(r"^\s*LINE (\d+): (.*)\n\s*\^\s*$", re.MULTILINE)
_JINJA_LINE = re.compile(r"^\s*line (\d+)\n(.*)", re.MULTILINE)
_CALL = re.compile(r"^\s*(\w+\('[^']*')", re.MULTILINE)
_UNDEFINED = re.compile(r"'(\w+)' is undefined\..*", re.DOTALL)
_TRACE = re.compile(r"\n\s*> (in|called by) .*", re.DOTALL)
_ARGUMENT = re.compile(r"macro 'dbt_macro__(\w+)' takes no keyword argument '(\w+)'")
_MACRO = re.compile(r"\{%-?\s*macro (\w+)\(([^)]*)\)")


def run_failures(nodes: Iterable[Any], project: Path) -> str:
    """Return one line per failed result of dbt, without values of rows."""
    lines = []
    for result in nodes:
        if result.status not in ("error", "fail", "runtime error"):
            continue
        message, node = result.message or result.status, result.node
        if result.status == "error" and node.resource_type == "model":
            line = _engine_line(message, node, project) or _line(message, node.raw_code)
            lines.append(_format(node.original_file_path, line, message, project))
        else:
            lines.append(f"{node.name}: {without_values(' '.join(message.split()))}")
    return "\n".join(lines) or (
        "dbt stopped without naming a model. Run `dbt build` to see its output."
    )


def parse_failure(error: object, project: Path) -> str:
    """Return the error that stopped dbt before it ran anything."""
    message = str(error)
    head = _HEAD.match(message)
    if head is None or not (project / head[1]).is_file():
        return without_values(message)
    source = (project / head[1]).read_text(encoding="utf-8")
    return _format(head[1], _line(message, source), message, project)


def without_values(message: str) -> str:
    """A message of dbt without what it may quote of a row."""
    if found := _ROW_ERROR.search(message):
        # Values may hold quotes themselves, or stand without any. The excerpt of the
        # statement holds none.
        told, *excerpt = _EXCERPT.split(message[found.end() :], maxsplit=1)
        told = re.sub(r"['\"].*['\"]", "'…'", told, flags=re.DOTALL)
        told = re.sub(r"(?<!\w)[+-]?\d[\w.,:+-]*", "…", told)
        message = "".join((message[: found.end()], told, *excerpt))
    return re.sub(r"[^\s'\"(<]+@[^\s'\")>]+", "…@…", message)


def _format(path: str, line: int | None, message: str, project: Path) -> str:
    place = path if line is None else f"{path}, line {line}"
    text = _TRACE.sub("", _HEAD.sub("", message))
    undefined = _UNDEFINED.search(text)
    argument = _ARGUMENT.search(text)
    macros = _conditions(project / CONDITIONS)
    if undefined:
        text = f"`{undefined[1]}` is not defined.{nearest(undefined[1], macros)}"
    elif argument:
        macro, name = argument.groups()
        text = f"`{macro}` has no argument `{name}`."
        text += nearest(name, macros.get(macro, ()))
    for excerpt in (_STATEMENT_LINE, _JINJA_LINE):
        text = excerpt.sub(lambda match: f"in `{match[2].strip()}`", text)
    return f"{place}: {without_values(' '.join(text.split()))}"


@cache
def _conditions(path: Path) -> dict[str, tuple[str, ...]]:
    """Return the conditions of audiences with their arguments."""
    if not path.is_file():
        return {}
    return {
        name: tuple(re.findall(r"(\w+)(?:=\w+)?", arguments))
        for name, arguments in _MACRO.findall(path.read_text(encoding="utf-8"))
    }


def _line(message: str, source: str) -> int | None:
    """Return the line of the source that Jinja or dbt refers to, if any."""
    if match := _JINJA_LINE.search(message):
        return int(match[1])
    text = _HEAD.sub("", message)
    words = [re.escape(call) for call in _CALL.findall(text)]
    words += [rf"\b{word}\b" for word in re.findall(r"'(\w+)'", text)]
    for word in words:
        for number, line in enumerate(source.splitlines(), 1):
            if re.search(word, line):
                return number
    return None


def _engine_line(message: str, node: Any, project: Path) -> int | None:
    """Return the source line for the statement line that the engine reports.

    Lines that Jinja left unchanged map directly. For replaced lines, return the first
    line of the replaced block, where the macro call begins.
    """
    match = _STATEMENT_LINE.search(message)
    if match is None or not node.compiled_code:
        return None
    if node.contract.enforced:
        # dbt checks the contract with its own query, before it writes the statement.
        statement = f"\nDESCRIBE (select * from (\n{node.compiled_code}"
    elif node.build_path:
        statement = (project / node.build_path).read_text()
    else:
        return None
    compiled = node.compiled_code.strip()
    before, inside, _ = statement.partition(compiled)
    raw = str(node.raw_code)
    source = raw.strip().splitlines()
    lines = compiled.splitlines() if inside else []
    # dbt may write a comment above the statement.
    expected = int(match[1]) - 1 - before.count("\n")
    excerpt = match[2].strip(" .")
    same = [number for number, line in enumerate(lines) if excerpt in line]
    at = min(same, key=lambda number: abs(number - expected), default=-1)
    first = 1 + raw[: len(raw) - len(raw.lstrip())].count("\n")
    matcher = SequenceMatcher(None, source, lines, autojunk=False)
    for kind, i1, i2, j1, j2 in matcher.get_opcodes():
        if j1 <= at < j2:
            is_line_by_line = kind == "equal" or i2 - i1 == j2 - j1
            return first + i1 + (at - j1 if is_line_by_line else 0)
    return None
