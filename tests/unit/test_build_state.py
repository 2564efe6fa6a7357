"""What makes a run rebuild all tables."""

from pathlib import Path

import pytest

from connectors.home import Home
from connectors.landing.prepare import prepare
from orchestration.pipeline.build_state import begin_build


@pytest.mark.parametrize(
    ("file", "rebuilds"),
    [
        ("seeds/blocked_identifiers.csv", True),
        ("seeds/countries.csv", False),
        ("macros/identity/hubs.sql", True),
        ("models/identity/identity_health.sql", False),
    ],
)
def test_only_rules_of_identity_rebuild(
    tmp_path: Path, file: str, rebuilds: bool
) -> None:
    home = Home(tmp_path / "home")
    prepare(home)
    for name in ("seeds/blocked_identifiers.csv", "seeds/identifier_types.csv", file):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("a")
    assert not begin_build(tmp_path, home)
    assert not begin_build(tmp_path, home)
    (tmp_path / file).write_text("b")
    assert begin_build(tmp_path, home) == rebuilds
