"""Decodes bytes to JSON values without losing what strict parsers reject.

SDKs do send bare NaN and Infinity, halves of surrogate pairs, integers beyond 2^63 and
floats with more digits than a double holds. A strict parser would refuse the whole
item; here each becomes the nearest value that both JSON and SQL can hold:

| sent                                | kept as                          |
|-------------------------------------|----------------------------------|
| NaN, Infinity, -Infinity            | null                             |
| integer outside [-2^63, 2^63)       | its digits, as text              |
| float of more digits than a double  | its digits, as text              |
| lone surrogate, e.g. "\\ud83d"       | the six characters `\\ud83d`      |
| the 501st level of nesting          | its JSON text                    |
"""

import json
import re
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

__all__ = ["MAX_DEPTH", "Undecodable", "decode_item"]

MAX_DEPTH = 500
"""Deepest nesting of a decoded value; half of what the interpreter's stack allows."""

_strict = msgspec.json.Decoder().decode
_BOM = b"\xef\xbb\xbf"
# Digits and the point become "0": eighteen in a row may be a number that a double
# cannot hold.
_DIGITS_TO_0 = bytes(48 if 48 <= b <= 57 or b == 46 else b for b in range(256))
_LONG_NUMBER = b"0" * 18
_INT64 = range(-(2**63), 2**63)
_LARGE = 16_384
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
# An unterminated string extends to the end, so it is scanned only once.
_STRING_OR_BRACKET = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[{]|[\]}]', re.DOTALL)
_HEX = "[0-9a-fA-F]"
_SURROGATE = re.compile(  # escapes before it, then a whole pair or one half of it
    rf"(?<!\\)((?:\\\\)*)\\u(?:[dD][89abAB]{_HEX}{{2}}\\u[dD][c-fC-F]{_HEX}{{2}}"
    rf"|([dD][89a-fA-F]{_HEX}{{2}}))"
)


class Undecodable(ValueError):
    """The bytes are not a JSON value. `reason` is a code without user data."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def decode_item(data: bytes) -> Any:
    """Decode one JSON value without losing anything (see the module's table).

    Raises:
        Undecodable: the bytes are not UTF-8 or not JSON.
    """
    is_deep = len(data) > 2 * MAX_DEPTH and _may_be_deep(data)
    if not is_deep and _LONG_NUMBER not in data.translate(_DIGITS_TO_0):
        try:
            return _strict(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass  # the tolerant decoder below decides
    return _tolerant(data, is_deep)


def _tolerant(data: bytes, is_deep: bool) -> Any:
    try:
        text = data.removeprefix(_BOM).decode()
    except UnicodeDecodeError:
        raise Undecodable("not_utf8") from None
    try:
        return json.loads(
            _SURROGATE.sub(_without_half, _folded(text) if is_deep else text),
            strict=False,
            parse_constant=lambda _: None,
            parse_int=_integer,
            parse_float=_float,
        )
    except (ValueError, RecursionError):  # still too deep: unclosed brackets
        raise Undecodable("not_json") from None


def _integer(text: str) -> int | str:
    if len(text) > 20:  # never int(): quadratic, and capped by the interpreter
        return text
    value = int(text)
    return value if value in _INT64 else text


def _float(text: str) -> float | str:
    value = float(text)
    is_infinite = value - value != 0
    if is_infinite or (len(text) > 17 and not _is_exact(text, value)):
        return text
    return value


def _is_exact(text: str, value: float) -> bool:
    try:
        return Decimal(text) == Decimal(repr(value))
    except InvalidOperation:  # an exponent with more digits than a decimal allows
        return False


def _without_half(match: re.Match[str]) -> str:
    half = match[2]
    return match[0] if half is None else f"{match[1]}\\\\u{half.lower()}"


def _may_be_deep(data: bytes) -> bool:
    """Return whether the nesting may exceed MAX_DEPTH; quickly False for most data."""
    # Counting the brackets of a batch takes longer than the rest.
    if len(data) < _LARGE and data.count(b"{") + data.count(b"[") <= MAX_DEPTH:
        return False
    brackets = data.translate(None, _NO_BRACKETS)
    for _ in range(16):
        if len(brackets) <= MAX_DEPTH:  # 32 levels were removed, 250 can be left
            return False
        brackets = brackets.replace(b"{}", b"").replace(b"[]", b"")
    return True


def _folded(text: str) -> str:
    """Return JSON in which values below MAX_DEPTH are strings of their JSON text."""
    parts = []
    depth = start = end = 0
    for token in _STRING_OR_BRACKET.finditer(text):
        mark = token[0]
        if mark in ("[", "{"):
            depth += 1
            if depth == MAX_DEPTH + 1:
                start = token.start()
                parts.append(text[end:start])
        elif mark in ("]", "}"):
            if depth == MAX_DEPTH + 1:
                end = token.end()
                parts.append(json.dumps(text[start:end], ensure_ascii=False))
            depth -= 1
    return "".join((*parts, text[end:]))
