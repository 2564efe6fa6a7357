"""Usage errors of the command line: exit code 2, one message, nothing changed."""

import json
import os
import sys
from importlib.metadata import version

import pytest

from tests.support.checkouts import Checkout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["import", "nowhere.ndjson"], "nowhere.ndjson"),
        (["import", "README.md", "--format", "csv"], "Unknown format"),
        (["import", "README.md"], "no known format"),
        (["run", "--only", "aud_unknown"], "aud_unknown"),
        (["run", "--only", "aud_churn_rsk"], "Did you mean `aud_churn_risk`?"),
        (["run", "--as-of", "yesterday"], "2026-05-01T00:00:00Z"),
        (["demo", "--events", "5"], "--events"),
        (["sandbox"], "CRM_WEBHOOK_SECRET"),
        (["run", "--nonsense"], "--nonsense"),
    ],
)
def test_wrong_use_is_told_and_changes_nothing(
    checkout: Checkout, arguments: list[str], told: str
) -> None:
    done = checkout.run([str(checkout.bin / "loomline"), *arguments], code=2)
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not (checkout.path / "data" / "raw" / "loads.ndjson").exists()


@pytest.mark.parametrize("place", ["taken", "taken/home"])
def test_a_home_that_is_a_file_is_told_by_every_command(
    checkout: Checkout, place: str
) -> None:
    (checkout.path / "taken").write_text("no folder")
    loomline = str(checkout.bin / "loomline")
    for command in (
        *("run", "run --no-push", "collect --port 0", "import events.ndjson", "land"),
        *("keys list", "keys create --name web", "sql show", "diff"),
        *("quarantine list", "quarantine replay --all"),
    ):
        given = ["env", f"LOOMLINE_HOME={place}", loomline, *command.split()]
        done = checkout.run(given, code=2)
        assert done.stdout == ""
        assert done.stderr == (
            f"The home folder {checkout.path / place} cannot be used: it is not a "
            "folder. Set LOOMLINE_HOME to a folder that this user can create and write "
            "to.\n"
        ), command


def test_a_limit_of_memory_that_is_no_size_is_told(checkout: Checkout) -> None:
    given = ["env", "LOOMLINE_MEMORY_LIMIT=lots", str(checkout.bin / "loomline")]
    done = checkout.run([*given, "run"], code=2)
    assert done.stderr == (
        "LOOMLINE_MEMORY_LIMIT is 'lots', which is not a size. Set it to a number and "
        "a unit, such as 2GB.\n"
    )


def test_outside_a_project_the_way_in_is_told(checkout: Checkout) -> None:
    done = checkout.run(
        f"cd / && LOOMLINE_PROJECT= {checkout.bin}/loomline land", code=2
    )
    assert "LOOMLINE_PROJECT" in done.stderr


def test_json_is_one_object_on_standard_output(checkout: Checkout) -> None:
    file = checkout.path / "events.ndjson"
    file.write_text('{"type":"track","event":"x","userId":"u"}\n')
    text = checkout.loomline("import", str(file), "--source", "Web Shop", "--json")
    assert json.loads(text) == {
        "received": 1,
        "dispositions": {"admitted": 1},
        "files": 1,
        "files_known": 0,
        "files_empty": 0,
    }
    again = json.loads(
        checkout.loomline("import", str(file), "--source", "Web Shop", "--json")
    )
    assert (again["received"], again["files_known"]) == (0, 1)


def test_a_missing_secret_is_named_before_anything_is_sent(checkout: Checkout) -> None:
    events = checkout.path / "events.ndjson"
    events.write_text(
        '{"type":"track","event":"Cart Updated","userId":"u","messageId":"m",'
        '"timestamp":"2026-03-01T12:00:00Z","receivedAt":"2026-03-01T12:00:00Z"}'
    )
    checkout.loomline("import", str(events), "--source", "web")
    done = checkout.run(
        [str(checkout.bin / "loomline"), "run", "--as-of", "2026-03-02T00:00:00Z"],
        code=2,
    )
    assert "CRM_WEBHOOK_SECRET" in done.stderr
    assert not (checkout.path / "data" / "deliveries").exists()
    assert os.listdir(checkout.path / "data" / "raw").count("acks") == 0


def test_an_import_says_how_many_items_were_refused_and_where_to_see_them(
    checkout: Checkout,
) -> None:
    file = checkout.path / "events.ndjson"
    file.write_text('{"type":"track","event":"x","userId":"u"}\n{"type":"track"}\n{\n')
    told = checkout.loomline("import", str(file), "--source", "web")
    assert (
        "2 items rejected or quarantined: `loomline quarantine list` shows the reasons."
    ) in told
    assert len(checkout.json("quarantine", "list")["events"]) == 2
    # What landed before is not counted again.
    assert "quarantine" not in checkout.loomline("import", str(file), "--source", "web")


def test_an_empty_file_is_said_to_be_empty(checkout: Checkout) -> None:
    file = checkout.path / "events.ndjson"
    file.touch()
    for _ in range(2):
        told = checkout.loomline("import", str(file), "--source", "web")
        assert "1 empty file" in told
        assert "landed earlier" not in told
    done = checkout.json("import", str(file), "--source", "web")
    assert (done["files"], done["files_known"], done["files_empty"]) == (0, 0, 1)


def test_the_version_is_that_of_the_installed_package(checkout: Checkout) -> None:
    assert checkout.loomline("--version") == f"loomline {version('loomline')}\n"


def test_a_shell_completes_the_commands(checkout: Checkout) -> None:
    assert "_loomline_completion" in checkout.loomline("--show-completion", "bash")
    loomline = checkout.bin / "loomline"
    typed = "COMP_WORDS='loomline quar' COMP_CWORD=1 _LOOMLINE_COMPLETE=complete_bash"
    assert checkout.run(f"{typed} {loomline}").stdout.split() == ["quarantine"]


def test_the_command_line_starts_without_the_tools_below_it(checkout: Checkout) -> None:
    def loaded(module: str) -> set[str]:
        python = f"import sys, {module}; print(*sys.modules)"
        return {*checkout.run([sys.executable, "-c", python]).stdout.split()}

    heavy = {"dagster", "dbt", "great_expectations", "sqlmesh"}
    assert not (heavy | {"duckdb", "pyarrow"}) & loaded("orchestration.cli")
    # What `import`, `land` and `quarantine` load besides.
    assert not heavy & loaded("orchestration.cli.report")
