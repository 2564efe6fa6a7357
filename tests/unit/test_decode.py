"""Bytes become JSON values without losing what strict parsers refuse."""

import json
import math
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.events.decode import MAX_DEPTH, Undecodable, decode_item


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (b'{"a":NaN,"b":Infinity,"c":-Infinity}', {"a": None, "b": None, "c": None}),
        (b"9223372036854775807", 2**63 - 1),
        (b"-9223372036854775808", -(2**63)),
        (b"9223372036854775808", "9223372036854775808"),
        (b"18446744073709551616", "18446744073709551616"),
        (b"-9223372036854775809", "-9223372036854775809"),
        (b"1" * 5000, "1" * 5000),
        (b"1e4000", "1e4000"),
        (b"-1e999", "-1e999"),
        (b"0.1234567890123456789", "0.1234567890123456789"),
        (b"123456789.123456789012", "123456789.123456789012"),
        (b"0.30000000000000004", 0.30000000000000004),
        (b"1.18e+21", 1.18e21),
        (b'"\\ud83d"', "\\ud83d"),
        (b'"\\uDE00x"', "\\ude00x"),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\\ud83d\\ud83d\\ude00"', "\\ud83d\U0001f600"),
        (b'"\\\\ud83d \\ud83d"', "\\ud83d \\ud83d"),
        (b'{"\\ud83d":1}', {"\\ud83d": 1}),
        (b'"\\u0000"', "\0"),
        (b'"a\x00\x01b"', "a\0\x01b"),
        (b'{"":1," ":2}', {"": 1, " ": 2}),
        (b'{"a":1,"a":2}', {"a": 2}),
        (b"\xef\xbb\xbf[1]", [1]),
        ("\u2028".encode().join((b'"', b'"')), "\u2028"),
    ],
)
def test_what_is_sent_is_kept(sent: bytes, kept: Any) -> None:
    assert decode_item(sent) == kept
    assert decode_item(b'{"n":[%b]}' % sent.removeprefix(b"\xef\xbb\xbf")) == {
        "n": [kept]
    }


def test_minus_zero_keeps_its_sign() -> None:
    assert math.copysign(1, decode_item(b"-0.0")) == -1


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"", "not_json"),
        (b"   ", "not_json"),
        (b"{", "not_json"),
        (b"{'a': 1}", "not_json"),
        (b'{"a":1}{"a":1}', "not_json"),
        (b"<html>", "not_json"),
        (b'{"a":"\xff"}', "not_utf8"),
        (b'"\xed\xa0\xbd"', "not_utf8"),  # half a pair as bytes
        (b"[" * 100_000, "not_json"),
        (b'{"a":' * 100_000, "not_json"),
        (b'"' + b'\\"' * 100_000 + b"[" * 1000, "not_json"),
        (b'"\\ud8"x"', "not_json"),
    ],
)
def test_what_is_no_json_says_why(sent: bytes, reason: str) -> None:
    with pytest.raises(Undecodable) as caught:
        decode_item(sent)
    assert caught.value.reason == reason


@pytest.mark.parametrize("levels", [150, 400, MAX_DEPTH])
@pytest.mark.parametrize("core", [b"1", b"NaN", b"9" * 20])
def test_nesting_up_to_the_limit_is_kept(levels: int, core: bytes) -> None:
    value = decode_item(b'{"a":' * levels + core + b"}" * levels)
    for _ in range(levels):
        value = value["a"]
    assert value == decode_item(core)


@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 900, 1500, 100_000])
@pytest.mark.parametrize(
    ("opening", "closing"), [(b"[", b"]"), (b'{"]}\\"[":', b"}"), (b'[{"a":', b"}]")]
)
@pytest.mark.parametrize("core", [b"1", b"NaN"])
def test_what_lies_deeper_is_kept_as_its_text(
    levels: int, opening: bytes, closing: bytes, core: bytes
) -> None:
    data = opening * levels + core + closing * levels
    value = decode_item(data)
    per_step = opening.count(b":") + (opening[:1] == b"[")
    found = 0
    while not isinstance(value, str):
        found += 1
        (value,) = value.values() if isinstance(value, dict) else value
    assert found == MAX_DEPTH
    inner = levels * per_step - MAX_DEPTH
    assert value.count(opening.decode()) == inner // per_step
    assert msgspec.json.encode(value)


def test_one_deep_member_leaves_its_neighbours_as_they_are() -> None:
    deep = b"[" * 5000 + b"]" * 5000
    sent = b'[{"a":1},' + deep + b',{"b":[{}]},' + deep + b"]"
    first, one, last, other = decode_item(sent)
    assert (first, last) == ({"a": 1}, {"b": [{}]})
    assert one == other != []


def test_many_shallow_members_are_not_taken_for_deep_ones() -> None:
    value = [{"a": [{}, []], "b": "[[[[{{{{"}] * 5000
    assert decode_item(json.dumps(value).encode()) == value


def test_a_deep_stack_does_not_turn_decoding_into_a_crash() -> None:
    def further(frames: int) -> Any:
        if frames:
            return further(frames - 1)
        try:
            return decode_item(b"[" * 400 + b"]" * 400)
        except Undecodable:
            return None

    further(sys.getrecursionlimit() - 300)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def without_big(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_big(member) for key, member in value.items()}
    if isinstance(value, list):
        return [without_big(member) for member in value]
    is_big = isinstance(value, int) and not -(2**63) <= value < 2**63
    return str(value) if is_big else value


@settings(max_examples=200, deadline=None)
@given(json_values)
def test_any_json_comes_back(value: Any) -> None:
    assert decode_item(json.dumps(value).encode()) == without_big(value)


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=300) | st.text(alphabet='{}[]":,\\u0dD8e.-1Na').map(str.encode)
)
def test_any_bytes_are_a_value_or_undecodable(data: bytes) -> None:
    reason = None
    try:
        value = decode_item(data)
    except Undecodable as error:
        reason = error.reason
    else:
        assert decode_item(msgspec.json.encode(value)) == value
    assert reason in (None, "not_json", "not_utf8")
