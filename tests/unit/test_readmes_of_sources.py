"""The READMEs in the folders of webhooks and forms, which a fresh clone starts with."""

import re
import shutil
from pathlib import Path

import pytest

from connectors.sources.forms import Forms
from connectors.sources.inbound_webhooks import InboundWebhooks, UnknownWebhook

KINDS = ("webhooks", "forms")


def example(readme: Path) -> tuple[str, str]:
    """The name of the file that a README shows, and its text."""
    kind = readme.parent.name
    shown = rf"```yaml\n# connectors/sources/{kind}/(\w+\.yml)\n(.*?)```"
    ((name, text),) = re.findall(shown, readme.read_text(), re.DOTALL)
    return name, text


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


def test_the_examples_of_the_readmes_can_be_copied_as_they_are(clone: Path) -> None:
    for kind in KINDS:
        folder = clone / "connectors" / "sources" / kind
        name, text = example(folder / "README.md")
        (folder / name).write_text(text)
    secret = "0123456789abcdef-text"
    # Loading a webhook's file runs its examples.
    InboundWebhooks.load(clone, {"GITHUB_WEBHOOK_SECRET": secret})
    sent = Forms.load(clone).receive(
        "contact",
        "application/x-www-form-urlencoded",
        b"email=ann%40shop.example&message=Hello&_redirect=https://shop.example/thanks",
    )
    assert sent.source == "website"
    assert sent.redirect_url == "https://shop.example/thanks"
    (call,) = sent.items
    assert (call["event"], call["traits"]) == (
        "Contact Requested",
        {"email": "ann@shop.example"},
    )
