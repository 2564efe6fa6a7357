"""The line that is told of an unknown name is the one of its condition."""

from types import SimpleNamespace

import pytest

from orchestration.pipeline.unknown_names import _message


@pytest.mark.parametrize(
    ("kind", "code", "line"),
    [
        ("trait", "trait('tier', equals='plan'),\ntrait('plan', equals='a')", 2),
        ("trait", "event_count('plan'),\ntrait('plan', exists=true)", 2),
        ("trait", "'plan'\ntrait(equals='a', name='plan')", 2),
        ("event", "trait('a', equals='plan'),\nevent_count('plan')", 2),
        ("event", "trait('plan', exists=true),\ndid_not(\n  \"plan\"\n)", 3),
        ("event", "event_count('x', where={'a': 'plan'}),\ndid_not('plan')", 2),
        ("event", "{% for one in [\n'plan',\n] %}event_count(one)", 2),
    ],
)
def test_the_line_is_that_of_the_condition(kind: str, code: str, line: int) -> None:
    node = SimpleNamespace(original_file_path="aud.sql", raw_code=code)
    assert _message(node, kind, "plan", ()).startswith(f"aud.sql, line {line}: ")


def test_a_name_that_is_not_in_the_file_has_no_line() -> None:
    node = SimpleNamespace(original_file_path="aud.sql", raw_code="{{ ours() }}")
    assert _message(node, "event", "cart_shared", ["cart_share"]) == (
        "aud.sql: no profile has an event `cart_shared` yet, and no contract names it. "
        "Did you mean `cart_share`?"
    )
