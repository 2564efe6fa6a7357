"""The macros compile, call only what exists, and hand over the arguments it needs.

dbt reads a macro without looking at its names: a call of one that is gone fails when a
run gets there, and an argument left out is undefined and renders as nothing.
"""

import re
from functools import cache
from pathlib import Path

import dbt.include.duckdb
import dbt.include.global_project
import pytest
import yaml
from dbt.context.providers import MacroContext, ModelContext
from dbt.parser.schemas import is_valid_type
from dbt_common.clients.jinja import get_environment
from jinja2 import nodes
from jinja2.exceptions import TemplateSyntaxError
from jinja2.meta import find_undeclared_variables

MACROS = Path(__file__).parents[2] / "macros"
FILES = sorted(MACROS.rglob("*.sql"))
OF_DBT = [
    path
    for package in (dbt.include.duckdb, dbt.include.global_project)
    for path in (Path(package.__path__[0]) / "macros").rglob("*.sql")
]
OF_SQLMESH = {"identifier", "is_first_insert"}
"""What SQLMesh puts into a materialization's context."""


@cache
def known() -> set[str]:
    """Names that dbt, SQLMesh and the macros themselves give to a macro."""
    definition = re.compile(r"\{%-?\s*macro\s+(\w+)")
    macros = {
        name
        for path in (*OF_DBT, *FILES)
        for name in definition.findall(path.read_text(encoding="utf-8"))
    }
    context = {*MacroContext._context_members_, *ModelContext._context_members_}
    return macros | context | OF_SQLMESH | {"caller", "range"}


@cache
def signatures() -> dict[str, nodes.Macro]:
    """The macros of the project by name, whatever dbt calls them inside."""
    return {
        macro.name.removeprefix("dbt_macro__"): macro
        for path in FILES
        for macro in parsed(path.read_text(encoding="utf-8")).find_all(nodes.Macro)
    }


def parsed(source: str) -> nodes.Template:
    template: nodes.Template = get_environment(None).parse(source)
    return template


def faults(source: str) -> list[str]:
    """What would fail when one of the macros of this file is called."""
    environment = get_environment(None)
    try:
        template = environment.parse(source)
        environment.compile(source)
    except TemplateSyntaxError as error:
        return [f"line {error.lineno}: {error.message}"]
    # Jinja does not follow a variable into a loop inside the loop that sets it.
    local = {name.name for name in template.find_all(nodes.Name) if name.ctx != "load"}
    unknown = find_undeclared_variables(template) - known() - local
    found = [f"{name} does not exist" for name in sorted(unknown)]
    for call in template.find_all(nodes.Call):
        name = call.node.name if isinstance(call.node, nodes.Name) else ""
        if macro := signatures().get(name):
            found += wrong_arguments(call, macro)
    return found


def wrong_arguments(call: nodes.Call, macro: nodes.Macro) -> list[str]:
    named = {keyword.key for keyword in call.kwargs}
    arguments = [argument.name for argument in macro.args]
    needed = arguments[: len(arguments) - len(macro.defaults)]
    missing = {*needed[len(call.args) :]} - named
    extra = named - {*arguments[len(call.args) :]}
    if len(call.args) > len(arguments):
        extra.add(f"argument {len(call.args)}")
    name = macro.name.removeprefix("dbt_macro__")
    return [
        *(f"line {call.lineno}: {name} needs {one}" for one in sorted(missing)),
        *(f"line {call.lineno}: {name} takes no {one}" for one in sorted(extra)),
    ]


@pytest.mark.parametrize(
    "path", FILES, ids=[path.relative_to(MACROS).as_posix() for path in FILES]
)
def test_a_macro_file_compiles(path: Path) -> None:
    assert faults(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("{% if true %}", "line 1: Encountered unknown tag 'endmacro'"),
        ("{% endcall %}", "line 1: Encountered unknown tag 'endcall'"),
        ("{{ no_such_macro() }}", "no_such_macro does not exist"),
        ("{{ 1 | no_such_filter }}", "line 1: No filter named 'no_such_filter'"),
        (
            "{% call temp_table() %}select 1{% endcall %}",
            "line 1: temp_table needs name",
        ),
        ("{{ row_count('a', 'b') }}", "line 1: row_count takes no argument 2"),
        ("{{ row_count(relation='a', of='b') }}", "line 1: row_count takes no of"),
    ],
)
def test_a_broken_macro_is_told(body: str, fault: str) -> None:
    (told,) = faults(f"{{% macro broken() %}}{body}{{% endmacro %}}")
    assert told.startswith(fault)


@cache
def documented() -> dict[str, list[dict[str, str]]]:
    """The arguments of each macro, as the `_macros.yml` of its folder has them."""
    return {
        macro["name"]: macro.get("arguments", [])
        for path in MACROS.glob("*/_macros.yml")
        for macro in yaml.safe_load(path.read_text(encoding="utf-8"))["macros"]
        if macro["description"].strip()
    }


def test_every_macro_is_documented_but_an_engines_own() -> None:
    inner = ("default__", "materialization_")
    names = {name for name in signatures() if not name.startswith(inner)}
    assert names == documented().keys()


@pytest.mark.parametrize("name", documented())
def test_the_documented_arguments_are_those_of_the_macro(name: str) -> None:
    macro = signatures()[name]
    assert [argument["name"] for argument in documented()[name]] == [
        argument.name for argument in macro.args
    ]
    defaults = macro.args[len(macro.args) - len(macro.defaults) :]
    optional = {
        argument.name
        for argument, default in zip(defaults, macro.defaults, strict=True)
        if isinstance(default, nodes.Const) and default.value is None
    }
    for argument in documented()[name]:
        assert argument["description"] and is_valid_type(argument["type"])
        is_optional = argument["type"].startswith("optional[")
        assert is_optional or argument["name"] not in optional, argument
