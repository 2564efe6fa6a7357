"""Compares two states of a warehouse: models, members, pending changes of syncs."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import duckdb
import msgspec

from connectors.destinations.outbox import Outbox
from connectors.home import Home
from orchestration.pipeline.dbt_runner import Models
from orchestration.pipeline.delivery import Sync, beyond_limits, read_syncs
from orchestration.project import Project

__all__ = [
    "AudienceDiff",
    "Counts",
    "ModelsDiff",
    "Person",
    "Status",
    "SyncDiff",
    "Syncs",
    "compare_audiences",
    "compare_models",
    "compare_syncs",
    "masked",
    "syncs_now",
    "unconfirmed_batches",
]

Status = Literal["new", "edited", "removed", "unedited"]

Syncs = dict[tuple[str, str], Sync]
"""Syncs by destination and audience."""

SAMPLE = 5
"""Profiles shown of those entering an audience, and of those leaving it."""


@dataclass(frozen=True, slots=True)
class Person:
    """A profile to look up, with a masked identifier."""

    profile_id: str
    identifier: str | None  # masked


@dataclass(frozen=True, slots=True)
class AudienceDiff:
    """One audience; profiles have the ids of the new build."""

    audience: str
    # Of the model and everything it reads; None without a record of the last build.
    status: Status | None
    members_before: int
    members_after: int
    entering: tuple[str, ...]  # all profile ids, sorted
    leaving: tuple[str, ...]
    entering_sample: tuple[Person, ...]
    leaving_sample: tuple[Person, ...]


@dataclass(frozen=True, slots=True)
class Counts:
    """Profiles that a sync has to add, remove or resend."""

    add: int = 0
    remove: int = 0
    resend: int = 0


@dataclass(frozen=True, slots=True)
class SyncDiff:
    """One audience at one destination, with its pending changes."""

    destination: str
    audience: str
    status: Literal["new", "kept", "ended"]  # whether `sync_to` names the destination
    before: Counts
    after: Counts
    held: int  # profiles the destination has confirmed
    held_back: str | None  # why the sync would be blocked


@dataclass(frozen=True, slots=True)
class ModelsDiff:
    """Models and seeds by name, as dbt compares them with the last build."""

    modified: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    downstream: tuple[str, ...]  # unchanged themselves, but read changed models


def masked(kind: str, value: str) -> str:
    """Mask an identifier, recognizable only to someone who already knows it."""
    if kind == "email" and "@" in value:
        name, _, domain = value.partition("@")
        return f"{name[:1]}…@{domain[:1]}…"
    return f"{value[: min(2, len(value) // 2)]}…"


def compare_models(models: Models, previous: Path) -> ModelsDiff | None:
    """Return dbt's `state:modified` result, or None if there is no previous build."""
    if not previous.exists():
        return None
    old, new = (
        msgspec.json.decode(data)
        for data in (previous.read_bytes(), models.definitions())
    )
    if any(
        old["metadata"].get(key) != new["metadata"].get(key)
        for key in ("dbt_schema_version", "dbt_version")
    ):
        return None  # another dbt version; the next run rewrites the record
    # dbt does not see an edit of `config.meta` in YAML where SQL adds to it, as the
    # conditions do.
    metas, were = _metas(new), _metas(old)
    edited = {name for name in metas.keys() & were.keys() if metas[name] != were[name]}
    modified = models.modified(previous.parent) | edited
    reached = models.downstream(previous.parent, edited) if modified else set()
    known = _names(old)
    return ModelsDiff(
        modified=tuple(sorted(modified & known)),
        added=tuple(sorted(modified - known)),
        removed=tuple(sorted(known - _names(new))),
        downstream=tuple(sorted(reached - modified)),
    )


def _metas(manifest: dict[str, Any]) -> dict[str, Any]:
    return {
        node["name"]: node["config"]["meta"]
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model"
    }


def _names(manifest: dict[str, Any]) -> set[str]:
    return {
        node["name"]
        for node in manifest["nodes"].values()
        if node["resource_type"] in ("model", "seed")
    }


def compare_audiences(
    home: Home, names: set[str], models: ModelsDiff | None, last: int
) -> Iterator[AudienceDiff]:
    """Yield audiences that were edited or have changes logged after `last`."""
    with duckdb.connect(str(home.warehouse), read_only=True) as warehouse:
        # A leave is logged under the id at entry.
        rows = warehouse.execute(
            """
            select distinct
                changes.audience,
                changes.change,
                coalesce(aliases.profile_id, changes.profile_id) as profile_id
            from audiences.int_membership_changes as changes
            left join identity.profile_aliases as aliases
                on changes.profile_id = aliases.old_profile_id
            where changes.run_number > ?
            order by all
            """,
            [last],
        ).fetchall()
        members = dict(
            warehouse.sql(
                "select audience, count(distinct profile_id) "
                "from audiences.audience_members where left_at is null "
                "group by audience"
            ).fetchall()
        )
        changes: dict[tuple[str, str], list[str]] = defaultdict(list)
        for audience, change, profile_id in rows:
            changes[audience, change].append(profile_id)
        chosen = [id for ids in changes.values() for id in ids[:SAMPLE]]
        people = _people(warehouse, chosen)

    added, edited, gone = set[str](), set[str](), set[str]()
    if models is not None:
        added, gone = {*models.added}, {*models.removed}
        edited = {*models.modified, *models.downstream}
    moved = {audience for audience, _ in changes}
    for name in sorted(moved | (names & (added | edited)) | _audience_names(gone)):
        entering, leaving = changes[name, "enter"], changes[name, "leave"]
        after = members.get(name, 0)
        status: Status | None = "unedited"
        if name not in names:
            status = "removed"
        elif models is None:
            status = None
        elif name in added:
            status = "new"
        elif name in edited:
            status = "edited"
        yield AudienceDiff(
            audience=name,
            status=status,
            members_before=after - len(entering) + len(leaving),
            members_after=after,
            entering=tuple(entering),
            leaving=tuple(leaving),
            entering_sample=tuple(people[id] for id in entering[:SAMPLE]),
            leaving_sample=tuple(people[id] for id in leaving[:SAMPLE]),
        )


def _audience_names(names: set[str]) -> set[str]:
    return {name for name in names if name.startswith("aud_")}


def _people(
    warehouse: duckdb.DuckDBPyConnection, profile_ids: list[str]
) -> dict[str, Person]:
    """Return profiles with their best identifier: email, else the strongest type."""
    rows = warehouse.execute(
        """
        select nodes.profile_id, nodes.identifier_type, nodes.identifier_value
        from identity.identity_nodes as nodes
        left join seeds.identifier_types as types
            on nodes.identifier_type = types.identifier_type
        where list_contains(?, nodes.profile_id)
        qualify row_number() over (
            partition by nodes.profile_id
            order by
                nodes.identifier_type <> 'email',
                types.priority,
                nodes.identifier_type,
                nodes.identifier_value
        ) = 1
        """,
        [profile_ids],
    ).fetchall()
    people = {id: Person(id, None) for id in profile_ids}
    return people | {id: Person(id, masked(kind, value)) for id, kind, value in rows}


def syncs_now(home: Home) -> Syncs:
    try:
        syncs = read_syncs(home)
    except duckdb.CatalogException:  # the first run died before it built them
        syncs = []
    return {(sync.destination, sync.audience): sync for sync in syncs}


def compare_syncs(
    home: Home,
    project: Project,
    before: Syncs,
    *,
    is_alone: bool,
) -> Iterator[SyncDiff]:
    """Yield syncs with pending changes; with `is_alone`, only with different ones."""
    after = syncs_now(home)
    destinations = project.destinations()
    for key in sorted(before.keys() | after.keys()):
        absent = Sync(*key, 0, 0, 0, is_listed=False)
        old, new = before.get(key, absent), after.get(key, absent)
        is_other = _operations(old) != _operations(new) if is_alone else new.changes
        if not is_other and old.is_listed == new.is_listed:
            continue
        settings = destinations.get(new.destination)
        held_back = beyond_limits(new, settings) if settings is not None else None
        if settings is None and new.changes:
            held_back = "no longer configured: it keeps its list"
        yield SyncDiff(
            destination=new.destination,
            audience=new.audience,
            status="kept"
            if old.is_listed == new.is_listed
            else "new"
            if new.is_listed
            else "ended",
            before=_counts(old),
            after=_counts(new),
            held=new.held,
            held_back=held_back,
        )


def _operations(sync: Sync) -> set[tuple[str, str]]:
    return {(change.profile_id, change.operation) for change in sync.changes}


def _counts(sync: Sync) -> Counts:
    return Counts(sync.count("add"), sync.count("remove"), sync.count("resend"))


def unconfirmed_batches(home: Home) -> dict[str, int]:
    counts: dict[str, int] = defaultdict(int)
    with closing(Outbox(home.control)) as outbox:
        for batch in outbox.pending():
            counts[batch.destination] += 1
    return dict(sorted(counts.items()))
