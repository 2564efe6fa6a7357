"""Names of events and texts of ids."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.events.naming import as_text, snake_case


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("Order Completed", "order_completed"),
        ("orderCompleted", "order_completed"),
        ("order-completed", "order_completed"),
        ("  Order   Completed ", "order_completed"),
        ("HTTPRequest", "http_request"),
        ("iOS App", "i_os_app"),
        ("signup2Done", "signup2_done"),
        ("$pageview", "$pageview"),
        ("a.b/c", "a_b_c"),
        ("Größe", "größe"),
        ("注文 完了", "注文_完了"),
        ("'; drop table x --", "drop_table_x"),
        ("a\0b", "a_b"),
        ("x" * 1000, "x" * 1000),
        ("!!!", None),
        ("\U0001f389", None),
        ("__", None),
    ],
)
def test_a_name_becomes_snake_case(sent: str, name: str | None) -> None:
    assert snake_case(sent) == name


@given(st.text())
def test_a_name_is_its_own_name(text: str) -> None:
    name = snake_case(text)
    if name is not None and name.isascii():
        assert snake_case(name) == name


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ("u1", "u1"),
        (" spaced ", " spaced "),
        (12345, "12345"),
        (12345.5, "12345.5"),
        (0, "0"),
        (True, "true"),
        (["b", 1], '["b",1]'),
        ({"b": 1, "a": 2}, '{"a":2,"b":1}'),
        ("", None),
        (" \t", None),
        (None, None),
        ([], None),
        ({}, None),
    ],
)
def test_an_id_becomes_text(sent: Any, text: str | None) -> None:
    assert as_text(sent) == text
