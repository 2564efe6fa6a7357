from pathlib import Path
from textwrap import indent

import pytest

from connectors.destinations import file, webhook
from connectors.destinations.settings import (
    Settings,
    expand,
    kinds,
    load_destinations,
    missing_secrets,
    open_destination,
)
from connectors.errors import ConfigError
from tests.support.deliveries import SECRET

WEBHOOK = "kind: webhook\nurl: https://crm.example/hook\nsecret_env: CRM_SECRET\n"
FILE = "kind: file\nurl: ${LOOMLINE_HOME}/deliveries\nformat: csv\n"


def write(folder: Path, **contents: str) -> Path:
    for name, content in contents.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "defs.yaml").write_text(destination(content))
    return folder


def destination(attributes: str) -> str:
    return (
        "type: orchestration.components.Destination\nattributes:\n"
        f"{indent(attributes, '  ')}\n"
    )


def test_defaults_and_names(tmp_path: Path) -> None:
    found = load_destinations(write(tmp_path, crm=WEBHOOK, drop=FILE))
    assert list(found) == ["crm", "drop"]
    crm, drop = found["crm"], found["drop"]
    assert isinstance(crm, webhook.Settings)
    assert isinstance(drop, file.Settings)
    assert (crm.batch_rows, crm.timeout_s, drop.batch_rows) == (500, 15, 100_000)
    assert crm.identifiers == drop.identifiers == ("profile_id", "user_id", "email")
    assert (crm.consent, crm.resend_after_days) == ((), None)


def test_every_key_can_be_set(tmp_path: Path) -> None:
    more = "batch_rows: 10\nidentifiers: [email]\nconsent: [advertising]\n"
    more += "resend_after_days: 400\nlimits: {max_change_ratio: 0.3, min_rows: 0}\n"
    found = load_destinations(write(tmp_path, crm=WEBHOOK + more + "timeout_s: 20\n"))
    crm = found["crm"]
    assert isinstance(crm, webhook.Settings)
    assert (crm.batch_rows, crm.resend_after_days, crm.timeout_s) == (10, 400, 20)
    assert (crm.identifiers, crm.consent) == (("email",), ("advertising",))
    assert (crm.limits.max_change_ratio, crm.limits.min_rows) == (0.3, 0)


def test_a_missing_folder_holds_no_destinations(tmp_path: Path) -> None:
    assert load_destinations(tmp_path / "nowhere") == {}


def test_all_faults_of_all_files_come_together(tmp_path: Path) -> None:
    write(
        tmp_path,
        a=WEBHOOK + "bathc_rows: 7\ntimeout_s: 0\n",
        b="kind: file\nurl: x\nformat: xml\n",
        c="kind: outbox\n",
        d="kind: [webhook]\n",
        e="- kind\n",
        f="kind: {\n",
        g=f"kind: webhook\nurl: http://crm.example\nsecret_env: {SECRET}\n",
        h=WEBHOOK + "limits: {max_rows: 3}\n",
        i="{}",
        J=WEBHOOK,
        k=WEBHOOK + f"secret: {SECRET}\n",
        m=WEBHOOK,
    )
    (tmp_path / "n").mkdir()
    (tmp_path / "n" / "defs.yaml").write_text(WEBHOOK)
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "defs.yaml").write_text(
        "type: orchestration.components.Destinaton\natributes:\n  kind: file\n"
    )
    write(tmp_path / "below", a=WEBHOOK)
    (tmp_path / "l").mkdir()
    (tmp_path / "__pycache__").mkdir()
    with pytest.raises(ConfigError) as caught:
        load_destinations(tmp_path)
    message = str(caught.value)
    assert len(message.splitlines()) == 19
    for part in (
        "a/defs.yaml, line 6: `bathc_rows` is not a key here; allowed are: allow_",
        "a/defs.yaml, line 7: `timeout_s`: Input should be greater than 0",
        "b/defs.yaml, line 5: `format`: Input should be 'parquet', 'csv' or 'ndjson'",
        "c/defs.yaml, line 3: `kind` must be one of: file, webhook",
        "d/defs.yaml, line 3: `kind` must be one of: file, webhook",
        "e/defs.yaml, line 2: `attributes` must be a mapping",
        "f/defs.yaml, line 5: not readable as YAML",
        "g/defs.yaml, line 4: `url`: plain http",
        "g/defs.yaml, line 5: `secret_env`: String should match",
        "h/defs.yaml, line 6: `max_rows` is not a key here; allowed are: max",
        "i/defs.yaml, line 2: `kind` must be one of",
        "J: a destination's name",
        "l/defs.yaml: missing",
        "k/defs.yaml, line 6: `secret` is not a key here",
        "n/defs.yaml, line 1: `type` is missing; write one of orchestration.components",
        "o/defs.yaml, line 1: there is no orchestration.components.Destinaton;",
        "Did you mean `orchestration.components.Destination`?",
        "o/defs.yaml, line 2: `atributes` is not a key here; allowed are:",
        "Did you mean `attributes`?",
        "below/a/defs.yaml: ",
        "a/defs.yaml, line 6: `bathc_rows`",
        "Did you mean `batch_rows`?",
    ):
        assert part in message
    assert SECRET not in message
    assert "/m/defs.yaml" not in message


def test_components_of_other_types_are_left_to_dagster(tmp_path: Path) -> None:
    write(tmp_path / "destinations", crm=WEBHOOK)
    others = {
        "assets": "type: dagster.DefinitionsComponent\nattributes: {path: a.py}\n",
        "suite": "type: 'orchestration.components.CheckSuite'\n",
    }
    for name, content in others.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "defs.yaml").write_text(content)
    (tmp_path / "python").mkdir()
    (tmp_path / "python" / "jobs.py").touch()
    assert [*load_destinations(tmp_path)] == ["crm"]


def test_every_module_with_connect_is_a_kind() -> None:
    assert {"file", "webhook"} <= set(kinds())
    assert not {"outbox", "protocol", "settings"} & set(kinds())


def test_missing_variables_are_named_together(tmp_path: Path) -> None:
    found = load_destinations(
        write(
            tmp_path,
            crm=WEBHOOK,
            drop=FILE,
            other=FILE.replace("${LOOMLINE_HOME}", "${BUCKET:-/tmp}"),
        )
    )
    missing = [
        ("crm", "secret_env", "CRM_SECRET"),
        ("drop", "url", "LOOMLINE_HOME"),
    ]
    assert missing_secrets(found, {}) == missing
    assert missing_secrets(found, {"CRM_SECRET": ""}) == missing
    assert missing_secrets(found, {"CRM_SECRET": "x", "LOOMLINE_HOME": "y"}) == []
    assert missing_secrets({"other": found["other"]}, {}) == []


def test_a_destination_is_opened_by_its_kind(tmp_path: Path) -> None:
    found = load_destinations(write(tmp_path / "defs", crm=WEBHOOK, drop=FILE))
    env = {"CRM_SECRET": SECRET, "LOOMLINE_HOME": str(tmp_path)}
    crm = open_destination("crm", found["crm"], env)
    drop = open_destination("drop", found["drop"], env)
    assert isinstance(crm, webhook.Webhook)
    assert isinstance(drop, file.File)
    assert (crm.max_batch_rows, drop.max_batch_rows) == (500, 100_000)
    crm.close()
    drop.close()
    with pytest.raises(ConfigError, match="must be one of"):
        open_destination("x", Settings(kind="protocol"), env)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${A}/x", "1/x"),
        ("${A}${B:-2}", "12"),
        ("${EMPTY:-e}", "e"),
        ("$A {A}", "$A {A}"),
        ("${A:-9}", "1"),
    ],
)
def test_references_are_replaced(text: str, expected: str) -> None:
    assert expand("crm", text, {"A": "1", "EMPTY": ""}) == expected


def test_a_reference_without_value_is_named() -> None:
    with pytest.raises(
        ConfigError, match="crm: the environment variable NONE is not set"
    ):
        expand("crm", "${NONE}", {})
