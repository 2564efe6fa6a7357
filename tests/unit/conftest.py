from pathlib import Path

import pytest

from tests.support.rule_files import Rules


@pytest.fixture
def rules(tmp_path: Path) -> Rules:
    """A folder of rules, empty so far."""
    return Rules(tmp_path)
