"""What commands say when they are done: tables for people, one object for programs."""

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from connectors.ingest.importing import Imported

if TYPE_CHECKING:  # Dagster takes seconds to import, which an import of files spares
    from orchestration.demo.run import DemoResult
    from orchestration.pipeline.run import RunResult

__all__ = [
    "imported_summary",
    "print_demo",
    "print_imported",
    "print_run",
    "run_summary",
]

console = Console(highlight=False)


def imported_summary(done: Imported) -> dict[str, Any]:
    return {
        "received": done.received,
        "dispositions": dict(done.dispositions),
        "files": done.files,
        "files_known": done.files_known,
        "files_empty": done.files_empty,
    }


def print_imported(done: Imported) -> None:
    console.print(_landed(done))
    refused = done.dispositions["rejected"] + done.dispositions["quarantined"]
    if refused:
        console.print(
            f"{_count(refused, 'item')} rejected or quarantined: "
            "`loomline quarantine list` shows the reasons.",
            soft_wrap=True,
        )


def run_summary(result: "RunResult") -> dict[str, Any]:
    return {
        "at": result.at.isoformat(),
        **imported_summary(result.imported),
        "pushes": [
            {
                "destination": push.sync.destination,
                "audience": push.sync.audience,
                "eligible": push.sync.eligible,
                "sendable": push.sync.sendable,
                "added": push.added,
                "removed": push.removed,
                "resent": push.resent,
                "refused": push.refused,
                "pending": push.pending,
                "matched": push.matched,
                "held_back": push.held_back,
            }
            for push in result.pushes
        ],
        "warnings": result.warnings,
        "published": result.published.version if result.published else None,
        "seconds": {stage: round(spent, 2) for stage, spent in result.seconds.items()},
    }


def print_run(result: "RunResult") -> None:
    print_imported(result.imported)
    console.print(_pushed([result]))
    for warning in result.warnings:
        console.print(f"warning: {warning}", style="yellow", markup=False)


def print_demo(done: "DemoResult") -> None:
    """A table per stage, then what to look at next."""
    from orchestration.demo.run import SANDBOX_PORT

    console.print(_landed(done.imported))

    table = _table("Ways in", "", "disposition", "items", "expected")
    for way, expected in done.expected.items():
        for disposition, count in expected.items():
            decided = done.decided.get(way, {}).get(disposition, 0)
            table.add_row(way, disposition, f"{decided:,}", f"{count:,}")
    table.caption = "refused items: loomline quarantine list"
    console.print(table)

    table = _table("Who is who", "", "wrong fusions", "people fused", "missed")
    for name, found in (("Loomline", done.identity), ("last login wins", done.naive)):
        counts = (found.wrong_fusions, found.fused_people, found.missed)
        table.add_row(name, *(f"{count:,}" for count in counts))
    console.print(table)
    refused = ", ".join(f"{rule} {n:,}" for rule, n in done.conflicts.items())
    console.print(
        f"{done.events:,} events of {done.profiles:,} profiles; links refused: "
        f"{refused or 'none'}.\nOf {done.identity.people:,} generated people, whose "
        "truth is known; the naive way ran on the same events.\n"
    )

    table = _table("Audiences", "", "members", "entered", "left")
    for name, members in done.audiences.items():
        entered, left = done.changes.get(name, (0, 0))
        table.add_row(name, f"{members:,}", f"+{entered:,}", f"-{left:,}")
    table.caption = f"at {done.as_of:%Y-%m-%d %H:%M} UTC; changes of the last run"
    console.print(table)
    console.print(_pushed(done.runs))

    spent = ", ".join(f"{stage} {s:.1f} s" for stage, s in done.seconds.items())
    console.print(f"{spent}; {sum(done.seconds.values()):.1f} s in all.\n")
    next_steps = Table.grid(padding=(0, 2))
    for command, what in (
        ("loomline sandbox", f"what arrived: open http://127.0.0.1:{SANDBOX_PORT}/"),
        ("models/audiences/aud_cart_abandoners.sql", "change it, then: loomline diff"),
        ("make demo", "run again: only what changed is pushed"),
        ("make dev", "the flow in Dagster: open http://127.0.0.1:3000/"),
        ('loomline sql "from profiles.profiles"', "ask the published tables"),
    ):
        next_steps.add_row(command, what)
    console.print("Next (commands are in .venv/bin):")
    console.print(next_steps)


def _landed(done: Imported) -> Table:
    table = _table("Landed", "disposition", "items")
    for disposition, count in sorted(done.dispositions.items()):
        table.add_row(disposition, f"{count:,}")
    table.add_row("received", f"{done.received:,}", style="bold")
    notes = []
    if done.files_known:
        notes.append(f"{_count(done.files_known, 'file')} had landed before")
    if done.files_empty:
        notes.append(_count(done.files_empty, "empty file"))
    table.caption = "\n".join(notes) or None
    return table


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _pushed(runs: "list[RunResult]") -> Table:
    table = _table(
        "Pushed", "destination", "audience", "added", "removed", "resent", "pending"
    )
    for run in runs:
        for push in run.pushes:
            counts = (push.added, push.removed, push.resent, push.pending)
            if any(counts):
                sync = push.sync
                cells = (f"{count:,}" for count in counts)
                table.add_row(sync.destination, sync.audience, *cells)
        if len(runs) > 1 and run is not runs[-1]:
            table.add_section()
    if not table.rows:
        table.add_row("nothing", "", "0", "0", "0", "0")
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for number, column in enumerate(columns):
        is_text = number == 0 or column in ("audience", "disposition")
        table.add_column(column, justify="left" if is_text else "right")
    return table
