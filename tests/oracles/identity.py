"""Who counts as the same person: the identity rules one after the other, in Python.

Shares nothing with `models/identity` but the seeds. Speed does not matter here: where
two ways of writing a rule exist, this is the one that reads like the rule.
"""

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import md5
from pathlib import Path
from typing import Literal, NamedTuple

__all__ = [
    "BlockRule",
    "Conflict",
    "Edge",
    "EdgeSeen",
    "Identifier",
    "IdentifierType",
    "Identities",
    "NodeSeen",
    "OracleEvent",
    "Pair",
    "identifiers",
    "profile_id",
    "read_blocked",
    "read_identifier_types",
    "resolve",
]

SEEDS = Path(__file__).parents[2] / "seeds"
UNRESOLVED = ("distinct_id", "previous_id")

Identifier = tuple[str, str]  # type, value
Edge = tuple[Identifier, Identifier]  # left, right; left has the higher priority
Pair = frozenset[Identifier]  # two identifiers that must never be one person
Evidence = tuple[datetime, str]  # received_at, message_id
Rule = Literal["hub", "max_per_profile", "never_link", "later_link"]


@dataclass(frozen=True, slots=True)
class OracleEvent:
    """What identity reads of one event; values are as normalised at admission."""

    message_id: str
    received_at: datetime
    identifiers: tuple[Identifier, ...]  # types of the seed, distinct_id, previous_id


@dataclass(frozen=True, slots=True)
class IdentifierType:
    """One row of `seeds/identifier_types.csv`; None is no limit."""

    is_strong: bool
    priority: int
    max_per_profile: int | None = None
    max_stronger_links: int | None = None
    max_weaker_links: int | None = None


class BlockRule(NamedTuple):
    """One row of `seeds/blocked_identifiers.csv`."""

    identifier_type: str
    value: str
    match: str

    def blocks(self, identifier: Identifier) -> bool:
        identifier_type, quoted = identifier
        value = quoted.strip("\"' ")
        if self.identifier_type not in ("*", identifier_type):
            return False
        match self.match:
            case "exact":
                return value == self.value
            case "casefold":
                return value.casefold() == self.value.casefold()
            case "regex":
                return re.search(self.value, value) is not None
        raise ValueError(f"No such match: {self.match}; use exact, casefold or regex.")


class NodeSeen(NamedTuple):
    profile_id: str
    first_received_at: datetime


class EdgeSeen(NamedTuple):
    first_received_at: datetime
    message_id: str
    count_events: int


class Conflict(NamedTuple):
    """An edge that joins no profiles, with its first evidence."""

    rule: Rule
    left_type: str
    left_value: str
    right_type: str
    right_value: str
    message_id: str
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Identities:
    nodes: dict[Identifier, NodeSeen]
    edges: dict[Edge, EdgeSeen]  # refused ones too
    conflicts: set[Conflict]

    def profiles(self) -> set[frozenset[Identifier]]:
        """The identifiers of each profile."""
        members: defaultdict[str, set[Identifier]] = defaultdict(set)
        for node, seen in self.nodes.items():
            members[seen.profile_id].add(node)
        return {frozenset(profile) for profile in members.values()}


def read_identifier_types(
    path: Path = SEEDS / "identifier_types.csv",
) -> dict[str, IdentifierType]:
    def limit(cell: str) -> int | None:
        return int(cell) if cell else None

    with path.open(newline="", encoding="utf-8") as file:
        return {
            row["identifier_type"]: IdentifierType(
                is_strong=row["class"] == "strong",
                priority=int(row["priority"]),
                max_per_profile=limit(row["max_per_profile"]),
                max_stronger_links=limit(row["max_stronger_links"]),
                max_weaker_links=limit(row["max_weaker_links"]),
            )
            for row in csv.DictReader(file)
        }


def read_blocked(path: Path = SEEDS / "blocked_identifiers.csv") -> list[BlockRule]:
    with path.open(newline="", encoding="utf-8") as file:
        return [BlockRule(*row.values()) for row in csv.DictReader(file)]


def profile_id(earliest: Identifier) -> str:
    """The id of the profile whose earliest identifier this is."""
    return md5(":".join(earliest).encode()).hexdigest()


def identifiers(
    events: Iterable[OracleEvent], blocked: Sequence[BlockRule]
) -> list[tuple[Evidence, set[Identifier]]]:
    """Each event's identifiers, placeholders dropped and ambiguous types decided."""

    def usable(found: Iterable[Identifier]) -> set[Identifier]:
        return {
            node for node in found if not any(rule.blocks(node) for rule in blocked)
        }

    carried = [((e.received_at, e.message_id), usable(e.identifiers)) for e in events]
    user_ids = {node for _, nodes in carried for node in nodes if node[0] == "user_id"}

    def decided(node: Identifier) -> Identifier:
        identifier_type, value = node
        if identifier_type not in UNRESOLVED:
            return node
        as_user: Identifier = ("user_id", value)
        return as_user if as_user in user_ids else ("anonymous_id", value)

    # Blocked once more: a rule may name the type that was only decided just now.
    return [(seen, usable(map(decided, nodes))) for seen, nodes in carried]


class _Groups:
    """Identifiers joined so far; every one begins alone."""

    def __init__(self, never_link: Collection[Pair]) -> None:
        self._group: dict[Identifier, frozenset[Identifier]] = {}
        self._never_link = never_link

    def of(self, node: Identifier) -> frozenset[Identifier]:
        return self._group.get(node, frozenset([node]))

    def joined(self, edge: Edge) -> bool:
        return edge[1] in self.of(edge[0])

    def union(self, edge: Edge) -> frozenset[Identifier]:
        return self.of(edge[0]) | self.of(edge[1])

    def forbids(self, edge: Edge) -> bool:
        union = self.union(edge)
        return any(pair <= union for pair in self._never_link)

    def join(self, edge: Edge) -> None:
        union = self.union(edge)
        self._group |= dict.fromkeys(union, union)


def resolve(
    events: Iterable[OracleEvent],
    never_link: Collection[Pair] = frozenset(),
    types: Mapping[str, IdentifierType] | None = None,
    blocked: Sequence[BlockRule] | None = None,
) -> Identities:
    """Decide who is who; the order of the events has no influence.

    Types and blocked values are the seeds' unless given.
    """
    types = read_identifier_types() if types is None else types
    blocked = read_blocked() if blocked is None else blocked

    def priority(node: Identifier) -> int:
        return types[node[0]].priority

    def is_strong(node: Identifier) -> bool:
        return types[node[0]].is_strong

    def rank(node: Identifier) -> tuple[int, Identifier]:
        return priority(node), node

    # An event links its highest-priority identifier to each of its others.
    node_evidence: defaultdict[Identifier, list[Evidence]] = defaultdict(list)
    edge_evidence: defaultdict[Edge, list[Evidence]] = defaultdict(list)
    for seen, nodes in identifiers(events, blocked):
        for node in nodes:
            node_evidence[node].append(seen)
        if nodes:
            first, *others = sorted(nodes, key=rank)
            for other in others:
                edge_evidence[first, other].append(seen)
    node_first = {node: min(seen) for node, seen in node_evidence.items()}
    edge_first = {edge: min(seen) for edge, seen in edge_evidence.items()}
    refused: dict[Edge, Rule] = {}

    # 1. A value over its link limits loses all its edges.
    neighbours: defaultdict[Identifier, set[Identifier]] = defaultdict(set)
    for left, right in edge_first:
        neighbours[left].add(right)
        neighbours[right].add(left)

    def is_hub(node: Identifier) -> bool:
        limits = types[node[0]]
        count_user_ids = sum(priority(other) == 1 for other in neighbours[node])
        count_weak = sum(
            not is_strong(other) and other[0] != "fingerprint"
            for other in neighbours[node]
        )
        return _over(count_user_ids, limits.max_stronger_links) or _over(
            count_weak, limits.max_weaker_links
        )

    hubs = {node for node in node_first if is_hub(node)}
    for edge in edge_first:
        if not hubs.isdisjoint(edge):
            refused[edge] = "hub"
    remaining = [edge for edge in edge_first if edge not in refused]

    # 2. Strong edges one by one, the most trusted types first.
    groups = _Groups(never_link)

    def exceeds_a_limit(profile: Iterable[Identifier]) -> bool:
        counts = Counter(identifier_type for identifier_type, _ in profile)
        return any(
            _over(n, types[identifier_type].max_per_profile)
            for identifier_type, n in counts.items()
        )

    strong = [edge for edge in remaining if all(map(is_strong, edge))]
    for edge in sorted(
        strong, key=lambda e: (priority(e[1]), priority(e[0]), edge_first[e], e)
    ):
        if groups.joined(edge):
            continue
        if groups.forbids(edge):
            refused[edge] = "never_link"
        elif exceeds_a_limit(groups.union(edge)):
            refused[edge] = "max_per_profile"
        else:
            groups.join(edge)

    # 3a. A weak value goes to the person it was first seen with.
    attached: set[Identifier] = set()
    mixed = [
        edge for edge in remaining if is_strong(edge[0]) and not is_strong(edge[1])
    ]
    for edge in sorted(mixed, key=lambda e: (edge_first[e], e)):
        _, weak = edge
        if groups.joined(edge):
            continue
        if frozenset(edge) in never_link:
            refused[edge] = "never_link"
        elif weak in attached:
            refused[edge] = "later_link"
        elif groups.forbids(edge):
            refused[edge] = "never_link"
        else:
            groups.join(edge)
            attached.add(weak)

    # 3b. Without one, it belongs with the weak value it was first seen with.
    pointing: set[Identifier] = set()
    weak_edges = [edge for edge in remaining if not any(map(is_strong, edge))]
    pointers = [
        (edge_first[left, right], neighbour, node, (left, right))
        for left, right in weak_edges
        for node, neighbour in ((left, right), (right, left))
        if node not in attached
    ]
    for _, _, node, edge in sorted(pointers):
        if node in pointing:
            continue
        if groups.forbids(edge):
            refused[edge] = "never_link"
            continue
        groups.join(edge)
        pointing.add(node)
    for edge in weak_edges:
        if not groups.joined(edge) and edge not in refused:
            direct = frozenset(edge) in never_link
            refused[edge] = "never_link" if direct else "later_link"

    # 4. A profile is named after its earliest strong identifier, else the weak one.
    def name(profile: Iterable[Identifier]) -> str:
        return profile_id(
            min(profile, key=lambda node: (not is_strong(node), node_first[node], node))
        )

    return Identities(
        nodes={
            node: NodeSeen(name(groups.of(node)), received_at)
            for node, (received_at, _) in node_first.items()
        },
        edges={
            edge: EdgeSeen(*edge_first[edge], len(seen))
            for edge, seen in edge_evidence.items()
        },
        conflicts={
            Conflict(rule, *left, *right, edge_first[left, right][1], received_at)
            for (left, right), rule in refused.items()
            for received_at in [edge_first[left, right][0]]
        },
    )


def _over(count: int, limit: int | None) -> bool:
    return limit is not None and count > limit
