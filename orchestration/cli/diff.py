"""Output of `loomline diff`: for the terminal, as JSON, and as Markdown."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from orchestration.diff.diff import Diff
from orchestration.diff.members import AudienceDiff, ModelsDiff, Person, SyncDiff

__all__ = ["diff_markdown", "diff_summary", "print_diff"]

console = Console(highlight=False)

UNEDITED = "Unedited audiences, changed by time and new events"

NAMED = 12
"""Models listed by name; the others are counted."""


def diff_summary(diff: Diff) -> dict[str, Any]:
    """Return the JSON output: counts and masked samples, not all ids."""
    return {
        "at": diff.at.isoformat(),
        "base": diff.base,
        "audiences": [
            {
                "audience": one.audience,
                "status": one.status,
                "members_before": one.members_before,
                "members_after": one.members_after,
                "entering": len(one.entering),
                "leaving": len(one.leaving),
                "entering_sample": [asdict(person) for person in one.entering_sample],
                "leaving_sample": [asdict(person) for person in one.leaving_sample],
            }
            for one in diff.audiences
        ],
        "syncs": [asdict(sync) for sync in diff.syncs],
        "models": None if diff.models is None else asdict(diff.models),
        "rebuilds_all": diff.rebuilds_all,
        "waiting_files": diff.waiting_files,
        "unconfirmed": diff.unconfirmed,
        "warnings": [one.message for one in diff.unknown_names],
        "seconds": {stage: round(spent, 2) for stage, spent in diff.seconds.items()},
    }


def print_diff(diff: Diff) -> None:
    console.print(_against(diff), style="bold")
    edited, others = _parts(diff)
    if edited:
        table = Table(title="Audiences", title_justify="left", title_style="bold")
        table.add_column("audience", overflow="fold")
        table.add_column("")
        for name in ("before", "enter", "leave", "after"):
            table.add_column(name, justify="right")
        for one in edited:
            table.add_row(*_cells(one))
        console.print(table)
    people = [row for one in edited for row in _sample(one)]
    if people:
        table = Table(title="Examples", title_justify="left", title_style="bold")
        for name in ("audience", "", "profile_id", "known as"):
            table.add_column(name, overflow="fold", no_wrap=name == "profile_id")
        for row in people:
            table.add_row(*row)
        console.print(table)
    if diff.syncs:
        table = Table(title="Destinations", title_justify="left", title_style="bold")
        table.add_column("destination", overflow="fold")
        table.add_column("audience", overflow="fold")
        for name in ("add", "remove", "resend"):
            table.add_column(name, justify="right")
        table.add_column("")
        for sync in diff.syncs:
            table.add_row(*_sync_cells(sync))
        console.print(table)
    if others:
        console.print(f"{UNEDITED}:", style="bold")
        for line in map(_line, others):
            console.print(f"  {line}", markup=False)
    for note in _notes(diff):
        console.print(note, markup=False, soft_wrap=True)
    spent = ", ".join(f"{stage} {s:.1f} s" for stage, s in diff.seconds.items())
    console.print(f"{spent}; {sum(diff.seconds.values()):.1f} s total.", style="dim")


def diff_markdown(diff: Diff) -> str:
    """Return a pull request comment, with a final line break."""
    edited, others = _parts(diff)
    parts = [f"### {_against(diff)}"]
    if edited:
        columns = ("audience", "", "before:", "enter:", "leave:", "after:")
        parts.append(_table(columns, map(_cells, edited)))
    people = [row for one in edited for row in _sample(one)]
    if people:
        table = _table(("audience", "", "profile_id", "known as"), people)
        parts.append(f"<details><summary>Examples</summary>\n\n{table}\n\n</details>")
    if diff.syncs:
        columns = ("destination", "audience", "add:", "remove:", "resend:", "")
        parts.append(_table(columns, map(_sync_cells, diff.syncs)))
    if others:
        lines = "\n".join(f"- {line}" for line in map(_line, others))
        parts.append(f"{UNEDITED}:\n\n{lines}")
    parts += _notes(diff)
    return "\n\n".join(parts) + "\n"


def _against(diff: Diff) -> str:
    base = f"commit {diff.base[:12]}" if diff.base else "the last run"
    return f"Changes of the next run against {base}, as of {diff.at:%Y-%m-%d %H:%M} UTC"


def _parts(diff: Diff) -> tuple[list[AudienceDiff], list[AudienceDiff]]:
    """Return audiences that are (or may be) edited, and unedited ones."""
    others = [one for one in diff.audiences if one.status == "unedited"]
    return [one for one in diff.audiences if one.status != "unedited"], others


def _cells(one: AudienceDiff) -> tuple[str, ...]:
    return (
        one.audience,
        one.status or "",
        f"{one.members_before:,}",
        f"+{len(one.entering):,}",
        f"-{len(one.leaving):,}",
        f"{one.members_after:,}",
    )


def _line(one: AudienceDiff) -> str:
    _, _, before, enter, leave, after = _cells(one)
    return f"{one.audience}: {before} {enter} {leave} = {after}"


def _sample(one: AudienceDiff) -> Iterator[tuple[str, ...]]:
    def rows(change: str, people: Sequence[Person]) -> Iterator[tuple[str, ...]]:
        for person in people:
            yield one.audience, change, person.profile_id, person.identifier or ""

    yield from rows("enters", one.entering_sample)
    yield from rows("leaves", one.leaving_sample)


def _sync_cells(sync: SyncDiff) -> tuple[str, ...]:
    counts = (
        (sync.after.add, sync.before.add),
        (sync.after.remove, sync.before.remove),
        (sync.after.resend, sync.before.resend),
    )
    texts = {"new": "new here", "kept": "", "ended": "no longer synced here"}
    notes = [texts[sync.status]]
    if sync.held_back:
        notes.append(f"would be blocked: {sync.held_back}")
    return (
        sync.destination,
        sync.audience,
        *(f"{now:,}" + (f" (was {was:,})" if was else "") for now, was in counts),
        "; ".join(note for note in notes if note),
    )


def _notes(diff: Diff) -> Iterator[str]:
    if not diff.syncs and not any(
        one.entering or one.leaving for one in diff.audiences
    ):
        yield "No profile enters or leaves an audience. There is nothing to push."
    for one in diff.unknown_names:
        yield f"warning: {one.message}"
    if diff.rebuilds_all:
        yield "The identity rules have changed. The next run rebuilds all models."
    yield _models(diff.models)
    for destination, count in diff.unconfirmed.items():
        yield (
            f"{destination} has not confirmed {count:,} batches of an earlier run. The "
            "next run sends them first; their changes are included above."
        )
    if diff.waiting_files:
        yield (
            f"{diff.waiting_files:,} files wait in the inbox. The next run lands them "
            "first; their changes are not included above."
        )


def _models(models: ModelsDiff | None) -> str:
    if models is None:
        return (
            "The models of the last run are not known, so changes by edits and changes "
            "by time are shown together. The next `loomline run` records its models."
        )
    parts = [
        f"{label} {_named(names)}"
        for label, names in (
            ("new", models.added),
            ("edited", models.modified),
            ("removed", models.removed),
            ("downstream", models.downstream),
        )
        if names
    ]
    return f"Models: {'; '.join(parts) or 'no edits'}."


def _named(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a Markdown table; a colon after a column name aligns numbers right."""
    lines = [
        [name.rstrip(":") for name in columns],
        ["--:" if name.endswith(":") else "---" for name in columns],
        *([cell.replace("|", r"\|") for cell in row] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
