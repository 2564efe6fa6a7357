"""A project of nothing but rules, and events to admit by them."""

from pathlib import Path
from typing import Any

import pytest

from connectors.errors import ConfigError
from connectors.events.canonical import Event
from connectors.events.consent import stated
from connectors.events.decisions import NotAdmitted
from connectors.events.naming import event_name
from connectors.events.policy import Policy
from connectors.events.rulebook import FOLDERS, Rulebook

DEFAULT = Policy()


class Rules:
    """Writes rule files below a folder and reads them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for folder in FOLDERS:
            (path / folder).mkdir(parents=True)

    def contract(self, text: str, name: str = "contract.yml") -> Path:
        return self._write(Path(FOLDERS[0], name), text)

    def transformation(self, text: str, name: str = "010_alter.yml") -> Path:
        return self._write(Path(FOLDERS[1], name), text)

    def table(self, text: str, name: str = "seeds/table.csv") -> Path:
        return self._write(Path(name), text)

    def load(self, **env: str) -> Rulebook:
        return Rulebook.load(self.path, env)

    def faults(self, **env: str) -> list[str]:
        """What loading complains of, paths without their folders."""
        with pytest.raises(ConfigError) as caught:
            self.load(**env)
        text = str(caught.value)
        for folder in FOLDERS:
            text = text.replace(f"{self.path / folder}/", "")
        return text.splitlines()

    def _write(self, path: Path, text: str) -> Path:
        file = self.path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file


def event(text: str | None = "Plan Changed", /, **fields: Any) -> Event:
    """A track event as it stands after normalising."""
    context = fields.get("context")
    given: dict[str, Any] = {
        "type": "track",
        "event": event_name(text) if text else None,
        "event_text": text,
        "source": "web",
        "consent": stated(context),
        **fields,
    }
    if given["type"] != "track":
        given |= {"event": None, "event_text": None}
    for name in ("message_id", "scope", "channel", "content_hash", "row_hash"):
        given.setdefault(name, "")
    return Event(timestamp=0, received_at=0, **given)


def decided(
    book: Rulebook, given: Event, policy: Policy = DEFAULT, **how: Any
) -> NotAdmitted | None:
    """What `decide` says, having made sure that `concerns` did not rule it out."""
    before = (given.event, given.properties, given.violations, given.contract_version)
    concern = book.concerns(policy, given.source, given.type, given.event_text)
    outcome = book.decide(given, policy, **how)
    after = (given.event, given.properties, given.violations, given.contract_version)
    assert concern or (outcome is None and before == after)
    return outcome
