"""What the command line says to wrong use: exit code 2, one message, nothing done."""

import json
import os

import pytest

from .conftest import Checkout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["import", "nowhere.ndjson"], "nowhere.ndjson"),
        (["import", "README.md", "--format", "csv"], "Unknown format"),
        (["import", "README.md"], "no known format"),
        (["run", "--only", "aud_nobody"], "aud_nobody"),
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
