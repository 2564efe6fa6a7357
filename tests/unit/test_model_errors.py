"""Failures of models in dbt's words, with the line of the file."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestration.pipeline.model_errors import (
    parse_failure,
    run_failures,
    without_values,
)

CONDITIONS = """
{% macro event_count(event, at_least=1, within_days=none) -%}{%- endmacro %}
{% macro trait(
    name, equals=none
) -%}{%- endmacro %}
"""

PLAIN = """
-- People with an address.
select profile_id
from {{ ref('profiles') }}
where emial is not null
"""

MIXED = """\
select profile_id
from {{ ref('profiles') }}
where
    email is not null
    and profile_id in (
        {{ audience(all_of=[
            event_count('cart_updated'),
        ]) }}
    )
    and emial is not null
"""

MIXED_COMPILED = """\
select profile_id
from "warehouse"."profiles"."profiles"
where
    email is not null
    and profile_id in (
        select profiles.profile_id
        from "warehouse"."profiles"."profiles" as profiles
        where
            emial is not null
    )
    and emial is not null
"""

CALLS = """\
-- People who filled a cart.
{{ audience(all_of=[
    trait('plan', equals='free'),
    event_cuont('cart_updated', within_day=3),
]) }}
"""

HEAD = "Error in model aud_one (models/audiences/aud_one.sql)\n  "
BEFORE = '\n  create table "aud_one" as (\n      '


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "macros" / "audience").mkdir(parents=True)
    (tmp_path / "macros" / "audience" / "conditions.sql").write_text(CONDITIONS)
    return tmp_path


def told(
    project: Path,
    message: str,
    source: str,
    compiled: str = "",
    has_contract: bool = False,
) -> str:
    """What a run tells of a model that failed with this message."""
    (project / "run.sql").write_text(f"{BEFORE}{compiled}\n    );\n")
    node = SimpleNamespace(
        name="aud_one",
        resource_type="model",
        original_file_path="models/audiences/aud_one.sql",
        raw_code=source,
        compiled_code=compiled,
        build_path=None if has_contract else "run.sql",
        contract=SimpleNamespace(enforced=has_contract),
    )
    result = SimpleNamespace(status="error", message=message, node=node)
    return run_failures([result], project)


def engine(text: str, at: int) -> str:
    """DuckDB counts the lines of the whole statement, after dbt's comment of one."""
    line = 1 + BEFORE.count("\n") + at
    return f"Runtime {HEAD}Binder Error: No column.\n  \n  LINE {line}: {text}\n     ^"


def test_an_error_of_the_engine_names_the_line_that_was_written(project: Path) -> None:
    compiled = PLAIN.replace("{{ ref('profiles') }}", '"profiles"')
    assert told(project, engine("where emial is not null", 4), PLAIN, compiled) == (
        "models/audiences/aud_one.sql, line 5: "
        "Binder Error: No column. in `where emial is not null`"
    )


@pytest.mark.parametrize(
    ("at", "line"),
    [
        (9, 6),  # made by the call that begins there
        (11, 10),  # beside it
    ],
)
def test_what_a_macro_made_is_told_at_its_call(
    project: Path, at: int, line: int
) -> None:
    message = engine("    emial is not null", at)
    found = told(project, message, MIXED, MIXED_COMPILED)
    assert found.startswith(f"models/audiences/aud_one.sql, line {line}: ")


@pytest.mark.parametrize(("at", "line"), [(10, 6), (12, 10)])
def test_the_check_of_a_contract_names_the_line_too(
    project: Path, at: int, line: int
) -> None:
    """dbt asks `DESCRIBE (select * from (…))` before it writes a statement."""
    text = "    emial is not null"
    message = f"Runtime {HEAD}Binder Error: No column.\n\n  LINE {at + 1}: {text}\n   ^"
    found = told(project, message, MIXED, MIXED_COMPILED, has_contract=True)
    assert found.startswith(f"models/audiences/aud_one.sql, line {line}: ")


def test_a_misspelt_condition_suggests_the_nearest(project: Path) -> None:
    message = f"Compilation {HEAD}'event_cuont' is undefined. This can happen when …"
    assert told(project, message, CALLS) == (
        "models/audiences/aud_one.sql, line 4: `event_cuont` is not defined. "
        "Did you mean `event_count`?"
    )


def test_a_misspelt_argument_suggests_the_nearest(project: Path) -> None:
    message = (
        f"Compilation {HEAD}macro 'dbt_macro__event_count' takes no keyword argument "
        "'within_day'"
    )
    assert told(project, message, CALLS) == (
        "models/audiences/aud_one.sql, line 4: `event_count` has no argument "
        "`within_day`. Did you mean `within_days`?"
    )


def test_what_a_condition_refuses_is_told_at_its_call(project: Path) -> None:
    message = (
        f"Compilation {HEAD}trait('plan'): give exactly one comparison.\n  \n"
        "  > in macro trait (macros/audience/conditions.sql)\n"
        "  > called by model aud_one (models/audiences/aud_one.sql)"
    )
    assert told(project, message, CALLS) == (
        "models/audiences/aud_one.sql, line 3: trait('plan'): give exactly one "
        "comparison."
    )


def test_what_dbt_cannot_read_names_its_line(project: Path) -> None:
    (project / "models" / "audiences").mkdir(parents=True)
    (project / "models" / "audiences" / "aud_one.sql").write_text(CALLS)
    error = (
        f"Compilation {HEAD}expected token ',', got 'within_days'\n    line 4\n"
        "      event_count('cart_updated' within_days=3),"
    )
    assert parse_failure(error, project) == (
        "models/audiences/aud_one.sql, line 4: expected token ',', got 'within_days' "
        "in `event_count('cart_updated' within_days=3),`"
    )


def test_no_value_of_a_row_is_told(project: Path) -> None:
    message = (
        f"Runtime {HEAD}Conversion Error: Could not convert string 'a secret' to INT64"
        "\n  \n  LINE 4: select 'a secret' as x\n     ^"
    )
    found = told(project, message, PLAIN)
    assert found.startswith("models/audiences/aud_one.sql: ") and "secret" not in found


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "Conversion Error: Could not convert string 'Ann O'Brien 0612' to INT32",
            "Conversion Error: Could not convert string '…' to INT32",
        ),
        (
            "Conversion Error: Type INT64 with value 33612345678 can't be cast to INT8",
            "Conversion Error: Type INT64 with value … can't be cast to INT8",
        ),
        (
            'Invalid Input Error: Malformed JSON, at end. Input: "{"name": "Jo"',
            "Invalid Input Error: Malformed JSON, at end. Input: '…'",
        ),
        (
            "Conversion Error: Could not convert string 'x' to INT32\n\nLINE 3: cast(a",
            "Conversion Error: Could not convert string '…' to INT32\n\nLINE 3: cast(a",
        ),
        ("Binder Error: no column 'emial'", "Binder Error: no column 'emial'"),
        ("Catalog Error: mail ann@example.com", "Catalog Error: mail …@…"),
    ],
)
def test_a_message_holds_no_value_of_a_row(said: str, told: str) -> None:
    assert without_values(said) == told
