"""The READMEs in the folders of webhooks and forms, which a fresh clone starts with."""

import shutil
from pathlib import Path

import pytest

from connectors.sources.forms import Forms
from connectors.sources.inbound_webhooks import InboundWebhooks, UnknownWebhook

KINDS = ("webhooks", "forms")


@pytest.fixture
def clone(tmp_path: Path, project_path: Path) -> Path:
    """A project of the two folders as git has them."""
    for kind in KINDS:
        folder = tmp_path / "connectors" / "sources" / kind
        folder.mkdir(parents=True)
        shutil.copy(
            project_path / "connectors" / "sources" / kind / "README.md", folder
        )
    return tmp_path


def test_a_fresh_clone_has_both_folders_and_reads_nothing_from_them(
    clone: Path,
) -> None:
    with pytest.raises(UnknownWebhook):
        InboundWebhooks.load(clone, {}).receive("README", {}, b"{}", 0)
    Forms.load(clone)
