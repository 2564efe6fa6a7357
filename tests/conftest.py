"""What every test starts from: no telemetry, nothing of the caller's installation."""

from pathlib import Path

import pytest

from tests.support import PROJECT


@pytest.fixture(scope="session")
def project_path() -> Path:
    """The checkout under test."""
    return PROJECT


@pytest.fixture(scope="session", autouse=True)
def _undisturbed(tmp_path_factory: pytest.TempPathFactory) -> object:
    """No variable of the caller's reaches a test; no tool writes to the checkout."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("LOOMLINE_HOME", "LOOMLINE_PROJECT", "LOOMLINE_NOW"):
            patch.delenv(name, raising=False)
        folder = tmp_path_factory.mktemp("dbt")
        patch.setenv("DBT_TARGET_PATH", str(folder / "target"))
        patch.setenv("DBT_LOG_PATH", str(folder / "logs"))
        patch.setenv("DBT_SEND_ANONYMOUS_USAGE_STATS", "false")
        yield
