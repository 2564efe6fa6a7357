"""The true identities of a generated stream, and scores against them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

__all__ = ["Identifier", "Person", "Score", "Truth", "score"]

Identifier = tuple[str, str]
"""Type and normalized value: email trimmed and lowercase, phone as E.164."""


class Person(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One person, or one browser without any signup."""

    person_id: str
    is_anonymous: bool
    identifiers: tuple[Identifier, ...]  # linkable ones, each of one person only


@dataclass(frozen=True, slots=True)
class Truth:
    """All people of a stream, and values that belong to no single person."""

    people: tuple[Person, ...]
    shared_devices: tuple[str, ...]  # anonymous ids of tablets with several logins
    hub_emails: tuple[str, ...]  # mailboxes used by four or more accounts
    # request path or event with a contract → disposition → count of items
    expected: dict[str, dict[str, int]] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write compact JSON; the same truth gives the same bytes."""
        path.write_bytes(msgspec.json.encode(self))

    @classmethod
    def load(cls, path: Path) -> "Truth":
        """Read what `save` wrote.

        Raises:
            msgspec.ValidationError: the file is not a saved truth.
        """
        return msgspec.json.decode(path.read_bytes(), type=cls)


@dataclass(frozen=True, slots=True)
class Score:
    """Difference of an assignment from the truth; all but `people` are faults."""

    people: int  # persons in the truth, including anonymous ones
    wrong_fusions: int  # profiles holding identifiers of more than one person
    fused_people: int  # persons with an identifier in such a profile
    missed: int  # sum over persons of (profiles - 1), plus `absent`
    split_people: int  # persons whose identifiers lie in more than one profile
    absent: int  # linkable identifiers missing from the assignment


def score(truth: Truth, assignment: Mapping[Identifier, str]) -> Score:
    """Compare an assignment of identifiers to profile ids with the truth.

    Identifiers that are not in the truth (tablets, shared mailboxes, placeholders) do
    not count.
    """
    first_person: dict[str, int] = {}
    more_people: dict[str, set[int]] = {}
    missed = absent = split = 0
    for number, person in enumerate(truth.people):
        profiles = set()
        for identifier in person.identifiers:
            profile = assignment.get(identifier)
            if profile is None:
                absent += 1
            else:
                profiles.add(profile)
        for profile in profiles:
            first = first_person.setdefault(profile, number)
            if first != number:
                more_people.setdefault(profile, {first}).add(number)
        if len(profiles) > 1:
            split += 1
            missed += len(profiles) - 1
    fused: set[int] = set()
    for members in more_people.values():
        fused |= members
    return Score(
        people=len(truth.people),
        wrong_fusions=len(more_people),
        fused_people=len(fused),
        missed=missed + absent,
        split_people=split,
        absent=absent,
    )
