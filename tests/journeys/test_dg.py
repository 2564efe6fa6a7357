"""Dagster's documented `dg` commands, in a fresh checkout without variables."""

import os
import re
import subprocess
from collections.abc import Callable

import pytest
import yaml

from tests.support.checkouts import Checkout

Dg = Callable[..., str]

FOLDER = "orchestration/defs"


@pytest.fixture
def dg(checkout: Checkout) -> Dg:
    home = checkout.path.parent / "user"
    home.mkdir()

    def dg(*arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [str(checkout.bin / "dg"), *arguments],
            cwd=checkout.path,
            env={"HOME": str(home), "PATH": os.environ["PATH"], "NO_COLOR": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        assert done.returncode == code, done.stdout
        return re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)

    return dg


@pytest.mark.slow
def test_dg_lists_checks_and_scaffolds(checkout: Checkout, dg: Dg) -> None:
    listed = dg("list", "components", "--json")
    assert {*re.findall(r"orchestration\.components\.\w+", listed)} == {
        "orchestration.components.CheckSuite",
        "orchestration.components.Destination",
    }

    dg("scaffold", "defs", "orchestration.components.Destination", "slack-ops")
    in_folder = ("destinations/drop", "--kind", "file")
    dg("scaffold", "defs", "orchestration.components.Destination", *in_folder)
    dg("scaffold", "defs", "orchestration.components.CheckSuite", "checks/people")
    written = (checkout.path / FOLDER / "slack-ops" / "defs.yaml").read_text()
    attributes = yaml.safe_load(written)["attributes"]
    assert attributes["kind"] == "webhook"
    assert attributes["secret_env"] == "SLACK_OPS_SECRET"
    audience = checkout.path / "models" / "audiences" / "aud_churn_risk.yml"
    text = audience.read_text()
    assert "crm_webhook" in text
    audience.write_text(text.replace("crm_webhook", "crm_webhook, slack-ops, drop"))

    assert "loaded successfully" in dg("check", "defs")
    assets = dg("list", "defs", "--json")
    for key in ("slack-ops/aud_churn_risk", "drop/aud_churn_risk"):
        assert f'"{key}"' in assets
    assert '"there_are_profiles"' in assets


@pytest.mark.slow
def test_faults_of_a_defs_file_have_file_line_and_name(
    checkout: Checkout, dg: Dg
) -> None:
    file = checkout.path / FOLDER / "destinations" / "crm_webhook" / "defs.yaml"
    file.write_text(file.read_text().replace("batch_rows", "bathc_rows"))
    only = dg("check", "yaml", str(file.parent), code=1)
    assert re.search(r"crm_webhook/defs\.yaml:7 - .*attributes\.bathc_rows", only)
    assert "'bathc_rows' is not one of ['allow_private', 'batch_rows'" in only
    for command in (("check", "defs", "--no-check-yaml"), ("list", "defs")):
        told = dg(*command, code=1)
        assert "crm_webhook/defs.yaml, line 7: `bathc_rows` is not a key here" in told
        assert "Did you mean `batch_rows`?" in told
