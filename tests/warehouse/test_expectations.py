"""Expectations on the warehouse, with real files and Great Expectations."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import indent
from urllib.parse import unquote

import duckdb
import pytest
from sqlalchemy import create_engine, inspect, types
from sqlalchemy.pool import StaticPool

from connectors.errors import ConfigError
from connectors.home import Home
from orchestration.expectations import Outcome, Suite, load_suites, validate
from orchestration.expectations.duckdb_dialect import URL

AT = datetime(2026, 5, 2, 12, tzinfo=UTC)
MARKER = "ann.marker@example.com"

HEALTH = """\
table: identity.identity_health
expectations:
  - name: largest_profile
    description: No profile holds more identifiers than a person has.
    severity: critical
    type: expect_column_max_to_be_between
    kwargs: {column: count_identifiers, max_value: 10}
  - name: every_profile_has_an_email
    description: A profile without an address cannot be reached.
    severity: warning
    type: expect_column_values_to_not_be_null
    kwargs: {column: email}
  - name: some_profiles
    description: There are profiles.
    severity: critical
    type: expect_table_row_count_to_be_between
    kwargs: {min_value: 1}
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home with three profiles: one has 12 identifiers, one has no address."""
    home = Home(tmp_path / "home")
    home.path.mkdir()
    with duckdb.connect(str(home.warehouse)) as engine:
        engine.execute("create schema identity")
        engine.execute(
            f"""
            create table identity.identity_health as
            from (values
                ('p1', 12, '{MARKER}', timestamptz '2026-05-01 10:00:00Z'),
                ('p2', 2, '{MARKER}', timestamptz '2026-05-01 11:00:00Z'),
                ('p3', 1, null, timestamptz '2026-05-01 12:00:00Z')
            ) as profiles (profile_id, count_identifiers, email, "at")
            """
        )
        engine.execute(
            "create view identity.known as"
            " from identity.identity_health where email is not null"
        )
    return home


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "checks"


Write = Callable[[str, str], Path]


@pytest.fixture
def write(folder: Path) -> Write:
    def write(suite: str, text: str) -> Path:
        file = folder / suite / "defs.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        head = "type: orchestration.components.CheckSuite\nattributes:\n"
        file.write_text(head + indent(text, "  "), encoding="utf-8")
        return file

    return write


def one(type_: str, kwargs: str, table: str = "identity.identity_health") -> str:
    """Return the text of a suite with one expectation."""
    return (
        f"table: {table}\nexpectations:\n  - name: it_holds\n    description: It holds."
        f"\n    severity: critical\n    type: {type_}\n    kwargs: {kwargs}\n"
    )


def outcomes(home: Home, folder: Path, at: datetime = AT) -> dict[str, Outcome]:
    return {
        outcome.name: outcome
        for outcome in validate(home, load_suites(folder).values(), at=at)
    }


def pages(home: Home) -> list[Path]:
    return sorted((home.path / "data_docs").rglob("*.html"))


def test_a_suite_is_read_with_the_lines_of_what_it_holds(
    folder: Path, write: Write
) -> None:
    file = write("identity", HEALTH)
    suite = load_suites(folder)["identity"]
    assert (suite.file, suite.table) == (file, "identity.identity_health")
    first, *rest = suite.expectations
    assert (first.name, first.severity, first.line) == (
        "largest_profile",
        "critical",
        5,
    )
    assert first.kwargs == {"column": "count_identifiers", "max_value": 10}
    assert [one.line for one in rest] == [10, 15]


def test_no_folder_holds_no_suites(tmp_path: Path) -> None:
    assert load_suites(tmp_path / "nowhere") == {}


def test_loading_does_without_great_expectations(folder: Path, write: Write) -> None:
    write("identity", HEALTH)
    program = (
        "import sys; from pathlib import Path\n"
        "from orchestration.expectations import load_suites\n"
        "assert load_suites(Path(sys.argv[1]))\n"
        "print([name for name in ('great_expectations', 'sqlalchemy') "
        "if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_outcomes_say_what_was_expected_and_found(
    home: Home, folder: Path, write: Write
) -> None:
    write("identity", HEALTH)
    found = outcomes(home, folder)
    assert list(found) == [
        "largest_profile",
        "every_profile_has_an_email",
        "some_profiles",
    ]

    critical = found["largest_profile"]
    assert (critical.suite, critical.passed) == ("identity", False)
    assert (critical.severity, critical.observed) == ("critical", "12")
    assert critical.message == (
        "count_identifiers maximum value must be less than or equal to 10; found 12."
    )
    assert critical.metadata == {
        "table": "identity.identity_health",
        "type": "expect_column_max_to_be_between",
        "observed_value": 12,
    }

    warning = found["every_profile_has_an_email"]
    assert (warning.passed, warning.severity) == (False, "warning")
    assert warning.message == (
        "email values must never be null; found 1 unexpected of 3."
    )
    assert warning.metadata["unexpected_count"] == 1

    passing = found["some_profiles"]
    assert (passing.passed, passing.observed) == (True, "3")


def test_a_query_of_ones_own_counts_the_rows_against_it(
    home: Home, folder: Path, write: Write
) -> None:
    query = (
        "{unexpected_rows_query: 'select * from {batch} where count_identifiers > 1'}"
    )
    write("identity", one("UnexpectedRowsExpectation", query))
    (outcome,) = outcomes(home, folder).values()
    assert (outcome.passed, outcome.observed) == (False, "2 rows")
    assert outcome.message == "It holds; found 2 rows against it."


@pytest.mark.parametrize(
    ("type_", "kwargs", "passed"),
    [
        ("expect_column_max_to_be_between", "{column: at, min_value: %s}", True),
        ("expect_column_min_to_be_between", "{column: at, min_value: %s}", False),
    ],
)
def test_instants_are_compared_as_instants(
    home: Home, folder: Path, write: Write, type_: str, kwargs: str, passed: bool
) -> None:
    write("identity", one(type_, kwargs % "2026-05-01T11:59:00Z"))
    (outcome,) = outcomes(home, folder).values()
    assert outcome.passed is passed
    assert outcome.observed == f"2026-05-01T1{2 if passed else 0}:00:00+00:00"


@pytest.mark.parametrize(
    ("type_", "kwargs"),
    [
        ("expect_column_values_to_be_unique", "{column: profile_id}"),
        ("expect_column_values_to_be_of_type", "{column: profile_id, type_: VARCHAR}"),
        ("expect_compound_columns_to_be_unique", "{column_list: [profile_id, at]}"),
        ("expect_column_values_to_be_in_set", "{column: email, value_set: [x]}"),
        ("expect_column_quantile_values_to_be_between", "{column: count_identifiers, "
         "quantile_ranges: {quantiles: [0.5], value_ranges: [[2, 2]]}}"),
        ("expect_column_distinct_values_to_be_in_set", "{column: email, "
         "value_set: [x]}"),
    ],
)  # fmt: skip
def test_types_of_great_expectations_work_on_duckdb(
    home: Home,
    folder: Path,
    write: Write,
    caplog: pytest.LogCaptureFixture,
    type_: str,
    kwargs: str,
) -> None:
    write("identity", one(type_, kwargs))
    (outcome,) = outcomes(home, folder).values()
    assert outcome.passed is ("value_set" not in kwargs), outcome.message
    assert outcome.observed != "not evaluated"
    # A page that could not be made is only logged.
    told = [each for each in caplog.records if each.name.startswith("great_")]
    assert told == []


def test_what_is_missing_has_not_passed(home: Home, folder: Path, write: Write) -> None:
    write("gone", one("expect_table_row_count_to_be_between", "{min_value: 0}", "a.b"))
    text = HEALTH.replace("column: email", "column: e_mail")
    write("identity", text)
    gone, *rest = validate(home, load_suites(folder).values(), at=AT)
    assert (gone.passed, gone.observed) == (False, "not evaluated")
    assert "not evaluated: there is no table a.b." in gone.message
    by_name = {outcome.name: outcome for outcome in rest}
    column = by_name["every_profile_has_an_email"]
    assert not column.passed
    assert "identity.identity_health has no column e_mail." in column.message
    assert by_name["some_profiles"].passed  # of the same suite


def test_a_column_without_values_has_no_greatest_one(
    home: Home, folder: Path, write: Write
) -> None:
    with duckdb.connect(str(home.warehouse)) as engine:
        engine.execute("update identity.identity_health set count_identifiers = null")
    write("identity", HEALTH)
    outcome = outcomes(home, folder)["largest_profile"]
    assert (outcome.passed, outcome.observed) == (False, "no value")


def test_a_type_that_fails_on_the_data_has_not_passed(
    home: Home, folder: Path, write: Write
) -> None:
    write(
        "sum", one("expect_column_sum_to_be_between", "{column: email, max_value: 1}")
    )
    (outcome,) = outcomes(home, folder).values()
    assert not outcome.passed
    assert "No function matches" in outcome.message


def test_without_a_warehouse_nothing_passes(
    tmp_path: Path, folder: Path, write: Write
) -> None:
    write("identity", HEALTH)
    found = outcomes(Home(tmp_path / "empty"), folder).values()
    assert [outcome.passed for outcome in found] == [False] * 3
    assert all("cannot be opened" in outcome.message for outcome in found)


def test_faults_of_all_files_are_told_together(folder: Path, write: Write) -> None:
    first = write(
        "first",
        """\
table: identity_health
owner: ops
expectations:
  - name: Largest
    description: ""
    severity: fatal
    type: max_is_small
    kwargs: {column: a}
  - name: twice
    severity: warning
    type: expect_column_to_exist
    kwargs: {column: a, result_format: COMPLETE}
    description: Once.
  - name: open
    description: Says nothing.
    severity: warning
    type: expect_column_max_to_be_between
    kwargs: {column: a}
  - nothing
""",
    )
    second = write("second", "table: a.b\nexpectations: [\n")
    third = write("third", HEALTH.replace("some_profiles", "largest_profile"))
    (folder / "fourth").mkdir()
    write("Fifth", HEALTH)
    sixth = write("sixth", one("expect_column_to_exist", "{column: a, column: b}"))
    with pytest.raises(ConfigError) as raised:
        load_suites(folder)
    text = str(raised.value)
    for expected in (
        f"{first}, line 3: `table`: String should match pattern",
        f"{first}, line 4: `owner` is not a key here; allowed are: expectations, table",
        f"{first}, line 6: `expectations.0.name`: String should match pattern",
        f"{first}, line 7: `expectations.0.description`: String should have at least 1",
        f"{first}, line 8: `expectations.0.severity`: Input should be 'critical' or",
        f"{first}, line 9: `expectations.0.type`: must be a type of Great Expectations",
        f"{sixth}, line 9: `column` is set twice",
        f"{first}, line 14: `expectations.1.kwargs`: result_format cannot be set here",
        f"{first}, line 20: `expectations.2.kwargs`: always holds; set min_value",
        f"{first}, line 21: `expectations.3` must be a mapping with: description",
        f"{second}, line 5: not readable as YAML",
        f"{third}, line 15: the name `largest_profile` is already used in line 5",
        f"{folder / 'fourth' / 'defs.yaml'}: missing",
        f"{folder / 'Fifth'}: a suite's name is lower case",
    ):
        assert expected in text
    assert len(text.splitlines()) == 14


@pytest.mark.parametrize(
    "type_",
    [
        "expect_column_values_to_match_regex",
        "expect_column_values_to_not_match_regex_list",
        "expect_column_values_to_match_like_pattern",
        "expect_column_values_to_be_json_parseable",
    ],
)
def test_what_duckdb_cannot_do_is_refused_when_read(
    folder: Path, write: Write, type_: str
) -> None:
    file = write("identity", one(type_, "{column: email, regex: '@'}"))
    with pytest.raises(ConfigError) as raised:
        load_suites(folder)
    (line,) = str(raised.value).splitlines()
    assert line.startswith(f"{file}, line 8: `expectations.0.type`: {type_} does not")
    assert "unexpected_rows_expectation" in line


def test_a_query_must_read_the_table_of_its_suite(folder: Path, write: Write) -> None:
    query = "{unexpected_rows_query: select 1}"
    file = write("identity", one("unexpected_rows_expectation", query))
    with pytest.raises(ConfigError, match=re.escape("select from {batch}")) as raised:
        load_suites(folder)
    assert f"{file}, line 9" in str(raised.value)


def test_types_and_kwargs_are_checked_before_anything_is_validated(
    home: Home, folder: Path, write: Write
) -> None:
    first = write("first", one("expect_all_to_be_well", "{}"))
    second = write(
        "second",
        one(
            "expect_column_max_to_be_between",
            "\n      column: at\n      max_vlaue: 3\n      max_value: soon",
        ),
    )
    third = write("third", one("expect_column_to_exist", "{}"))
    with pytest.raises(ConfigError) as raised:
        outcomes(home, folder)
    unknown, value, kwarg, lacking = sorted(str(raised.value).splitlines())
    assert unknown.startswith(f"{first}, line 8: `expect_all_to_be_well` is not one of")
    assert value.startswith(f"{second}, line 11: `max_vlaue` is not a kwarg of expect_")
    assert "allowed are: column, condition_parser, max_value, min_value" in value
    assert kwarg.startswith(f"{second}, line 12: `max_value` of expect_column_max")
    assert lacking.startswith(f"{third}, line 9: `column` of expect_column_to_exist")
    assert not (home.path / "data_docs").exists()


def test_no_value_of_a_table_is_told_anywhere(
    home: Home, folder: Path, write: Write
) -> None:
    column = "{column: email, value_set: [x]}"
    for number, (type_, kwargs) in enumerate(
        [
            ("expect_column_values_to_be_in_set", column),
            ("expect_column_distinct_values_to_be_in_set", column),
            ("expect_column_most_common_value_to_be_in_set", column),
            ("expect_column_values_to_be_null", "{column: email}"),
            ("expect_column_values_to_be_unique", "{column: email}"),
            ("expect_column_value_lengths_to_equal", "{column: email, value: 2}"),
            ("expect_compound_columns_to_be_unique", "{column_list: [email, email]}"),
            ("expect_column_max_to_be_between", "{column: email, max_value: 1}"),
            (
                "unexpected_rows_expectation",
                "{unexpected_rows_query: 'select * from {batch}'}",
            ),
            (  # DuckDB's message quotes the value that it cannot convert
                "unexpected_rows_expectation",
                "{unexpected_rows_query: "
                "'select * from {batch} where cast(email as integer) > 1'}",
            ),
        ]
    ):
        write(f"suite_{number}", one(type_, kwargs))
    found = validate(home, load_suites(folder).values(), at=AT)
    assert [outcome.passed for outcome in found] == [False] * len(found)
    assert "ConversionException, whose text is not shown" in found[-1].message
    marker = MARKER.partition("@")[0]
    assert marker not in repr(found)
    files = [file for file in (home.path / "data_docs").rglob("*") if file.is_file()]
    assert len(pages(home)) == 2 * len(found) + 1
    assert [file for file in files if marker.encode() in file.read_bytes()] == []


def test_the_file_is_free_afterwards(home: Home, folder: Path, write: Write) -> None:
    write("identity", HEALTH)
    write(
        "sum", one("expect_column_sum_to_be_between", "{column: email, max_value: 1}")
    )
    outcomes(home, folder)
    with duckdb.connect(str(home.warehouse)) as engine:
        engine.execute("create table identity.later as select 1 as one")


def test_a_file_that_is_open_elsewhere_is_told(
    home: Home, folder: Path, write: Write
) -> None:
    write("identity", HEALTH)
    with duckdb.connect(str(home.warehouse)):
        found = outcomes(home, folder).values()
    assert all("the warehouse cannot be opened" in each.message for each in found)
    assert outcomes(home, folder)["some_profiles"].passed


def test_pages_are_complete_in_themselves(
    home: Home, folder: Path, write: Write
) -> None:
    write("identity", HEALTH.replace("There are profiles", "Profiles < $5 <b> exist"))
    outcomes(home, folder)
    outcomes(home, folder, AT + timedelta(hours=1))
    index, expected, *runs = pages(home)[1:2] + pages(home)[:1] + pages(home)[2:]
    assert index == home.path / "data_docs" / "index.html"
    assert len(runs) == 2
    texts = {page: page.read_text(encoding="utf-8") for page in pages(home)}
    for page, text in texts.items():
        assert re.search(r"https?:|<script|src=", text) is None, page
        for link in re.findall(r'href="([^"#]+)"', text):
            assert (page.parent / unquote(link)).is_file(), (page, link)
    assert all(run.name in texts[index] for run in runs)
    for page in (expected, *runs):
        assert (
            "some_profiles (critical): Profiles &lt; $5 &lt;b&gt; exist."
            in (texts[page])
        )


def test_the_oldest_runs_go(home: Home, folder: Path, write: Write) -> None:
    write("identity", HEALTH)
    write("other", one("expect_column_to_exist", "{column: at}"))
    outcomes(home, folder)
    docs = home.path / "data_docs"
    parts = [docs / "results" / "runs", docs / "validations"]
    for part in parts:
        (given,) = (part / "identity").iterdir()
        for days in range(1, 33):
            older = (AT - timedelta(days=days)).strftime("%Y%m%dT%H%M%S.%fZ")
            shutil.copytree(given / given.name, part / "identity" / older / older)
    outcomes(home, folder, AT + timedelta(hours=1))
    for part in parts:
        kept = sorted(run.name for run in (part / "identity").iterdir())
        assert (len(kept), kept[0][:8]) == (30, "20260404")  # 28 days, 2 of today
        assert kept[-1] == "20260502T130000.000000Z"
        assert len(list((part / "other").iterdir())) == 2
    index = (docs / "index.html").read_text(encoding="utf-8")
    assert index.count("identity.identity_health.html") == 32  # 30, and 2 of `other`


def test_the_same_instant_again_replaces_what_was_found(
    home: Home, folder: Path, write: Write
) -> None:
    write("identity", HEALTH)
    outcomes(home, folder)
    with duckdb.connect(str(home.warehouse)) as engine:
        engine.execute("update identity.identity_health set count_identifiers = 1")
    assert outcomes(home, folder)["largest_profile"].passed
    assert len(pages(home)) == 3


def test_sqlalchemy_sees_schemas_tables_views_and_columns(home: Home) -> None:
    with duckdb.connect(str(home.warehouse), read_only=True) as connection:
        engine = create_engine(URL, creator=lambda: connection, poolclass=StaticPool)
        seen = inspect(engine)
        assert "identity" in seen.get_schema_names()
        assert seen.get_table_names("identity") == ["identity_health"]
        assert seen.get_view_names("identity") == ["known"]
        assert seen.has_table("known", "identity")
        assert not seen.has_table("known")
        columns = seen.get_columns("identity_health", "identity")
        assert [column["name"] for column in columns] == [
            "profile_id",
            "count_identifiers",
            "email",
            "at",
        ]
        assert isinstance(columns[1]["type"], types.INTEGER)
        assert isinstance(columns[3]["type"], types.TIMESTAMP)


def test_a_suite_is_a_value(folder: Path, write: Write) -> None:
    write("identity", HEALTH)
    assert isinstance(load_suites(folder)["identity"], Suite)
    assert load_suites(folder) == load_suites(folder)
