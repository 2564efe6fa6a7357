"""Names of events and texts of ids."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.events.naming import (
    as_text,
    event_name,
    in_convention,
    is_object_action,
    snake_case,
)


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


@pytest.mark.parametrize(
    ("sent", "name"),
    [("Order Completed", "order_completed"), ("! !", "!_!"), ("!", "!")],
)
def test_white_space_never_survives_in_the_name_of_an_event(
    sent: str, name: str
) -> None:
    assert event_name(sent) == name


@given(st.text(min_size=1).filter(lambda text: not text.isspace()))
def test_no_name_of_an_event_is_empty_or_holds_white_space(text: str) -> None:
    name = event_name(text)
    assert name and not any(sign.isspace() for sign in name)


@pytest.mark.parametrize(
    ("name", "camel", "title"),
    [
        ("order_completed", "orderCompleted", "OrderCompleted"),
        ("http_request", "httpRequest", "HttpRequest"),
        ("signup", "signup", "Signup"),
        ("signup2_done", "signup2Done", "Signup2Done"),
        ("größe_geändert", "größeGeändert", "GrößeGeändert"),
        ("$web_vitals", "$web_vitals", "$web_vitals"),
    ],
)
def test_a_name_has_one_form_in_each_convention(
    name: str, camel: str, title: str
) -> None:
    assert in_convention(name, "snake_case") == name
    assert in_convention(name, "camelCase") == camel
    assert in_convention(name, "TitleCase") == title
    assert event_name(camel) == event_name(title) == name


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("order_completed", True),
        ("shopping_cart_viewed", True),
        ("email_sent", True),
        ("terms_agreed", True),
        ("completed_order", False),
        ("completed", False),
        ("_completed", False),
        ("news_feed", False),
        ("order_complete", False),
        ("button_click", False),
    ],
)
def test_an_object_and_what_was_done_with_it(name: str, is_one: bool) -> None:
    assert is_object_action(name) is is_one
