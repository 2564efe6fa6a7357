"""Who is who in a generated stream, and how far an assignment is from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

__all__ = ["Identifier", "Person", "Score", "Truth", "score"]

Identifier = tuple[str, str]
"""Kind and value, the value normalised: e-mail trimmed, lower case; phone E.164."""


class Person(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One human, or one browser nobody ever signed up from."""

    person_id: str
    is_anonymous: bool
    identifiers: tuple[Identifier, ...]  # the linkable ones, each in one person only


@dataclass(frozen=True, slots=True)
class Truth:
    """Every person of a stream, and the values that belong to nobody in particular."""

    people: tuple[Person, ...]
    shared_devices: tuple[str, ...]  # anonymous ids of tablets several people log in on
    hub_emails: tuple[str, ...]  # mailboxes used by four or more accounts
    # path of requests, or event that has a contract → disposition → count of items
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
    """How an assignment differs from the truth; all zero but `people` is perfect."""

    people: int  # persons in the truth, anonymous ones included
    wrong_fusions: int  # profiles holding identifiers of more than one person
    fused_people: int  # persons with an identifier in such a profile
    missed: int  # sum over persons of (profiles - 1), plus `absent`
    split_people: int  # persons whose identifiers lie in more than one profile
    absent: int  # linkable identifiers the assignment does not hold at all


def score(truth: Truth, assignment: Mapping[Identifier, str]) -> Score:
    """Compare an assignment, (kind, value) to profile id, with the truth.

    Identifiers the truth does not list (tablets, shared mailboxes, placeholders) do
    not count, wherever they were put.
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
