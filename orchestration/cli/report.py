"""Summaries of commands: tables for people, one JSON object for programs."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from connectors.home import Home
from connectors.ingest.importing import Imported
from orchestration.cli.output import since_start

if TYPE_CHECKING:  # Dagster takes seconds to import; `loomline import` needs none of it
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
if not console.is_terminal:  # do not wrap or truncate
    console = Console(highlight=False, width=1_000_000)

COUNTS = ("added", "removed", "resent", "refused", "pending")
"""Counts of a push, in the order of the columns."""


def imported_summary(done: Imported) -> dict[str, Any]:
    return {
        "received": done.received,
        "dispositions": dict(done.dispositions),
        "files": done.files,
        "files_known": done.files_known,
        "files_empty": done.files_empty,
    }


def print_imported(done: Imported) -> None:
    table = _table("Landed", "disposition", "items")
    for disposition, count in sorted(done.dispositions.items()):
        table.add_row(disposition, f"{count:,}")
    table.add_row("received", f"{done.received:,}", style="bold")
    console.print(table)
    if done.files_known:
        console.print(f"{_count(done.files_known, 'file')} landed earlier.")
    if done.files_empty:
        console.print(f"{_count(done.files_empty, 'empty file')}.")
    refused = done.dispositions["rejected"] + done.dispositions["quarantined"]
    if refused:
        console.print(
            f"{_count(refused, 'item')} rejected or quarantined: "
            "`loomline quarantine list` shows the reasons.",
            soft_wrap=True,
        )


def run_summary(result: "RunResult", home: Home) -> dict[str, Any]:
    return {
        "at": result.at.isoformat(),
        **imported_summary(result.imported),
        "audiences": [asdict(change) for change in result.audiences],
        "checks": {name: result.checks[name] for name in ("passed", "warned")},
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
        **{name: str(path) for name, path in _paths(result, home).items()},
        "dagster_run": result.recorded_as,
        "seconds": {stage: round(spent, 2) for stage, spent in result.seconds.items()},
        "total_seconds": round(since_start(), 2),
    }


def print_run(result: "RunResult", home: Home, *, has_pushed: bool = True) -> None:
    """Print a run's changes, checks, output paths and seconds."""
    if result.imported != Imported():
        print_imported(result.imported)
    else:
        console.print("No new files.")
    if result.audiences:
        table = _table("Audiences", "audience", "members", "entered", "left")
        for one in result.audiences:
            counts = (f"{one.members:,}", f"+{one.entered:,}", f"-{one.left:,}")
            table.add_row(one.audience, *counts)
        console.print(table)
    else:
        console.print("No audience has changed.")
    if has_pushed:
        _print_pushed([result])
    passed, warned = result.checks["passed"], result.checks["warned"]
    console.print(f"{_count(passed, 'check')} passed, {warned:,} warned.")
    for warning in result.warnings:
        console.print(
            f"warning: {warning}", style="yellow", markup=False, soft_wrap=True
        )
    for name, path in _paths(result, home).items():
        console.print(f"{name.replace('_', ' ')}: {path}", soft_wrap=True)
    if result.recorded_as:
        console.print(f"Dagster run: {result.recorded_as}")
    _print_seconds(result.seconds, since_start())


def _paths(result: "RunResult", home: Home) -> dict[str, Path]:
    """Return the paths of a run's output by name."""
    paths = {"snapshot": home.published / "current"} if result.published else {}
    pages = home.path / "data_docs" / "index.html"
    return paths | ({"data_docs": pages} if pages.exists() else {})


def _print_seconds(seconds: dict[str, float], total: float) -> None:
    spent = ", ".join(f"{stage} {s:.1f} s" for stage, s in seconds.items() if s >= 0.05)
    console.print(f"{spent}; {total:.1f} s total.", style="dim")


def print_demo(done: "DemoResult") -> None:
    """Print a table per stage, then the next steps."""
    from orchestration.demo.run import SANDBOX_PORT

    print_imported(done.imported)

    table = _table("Admission", "", "disposition", "items", "expected")
    for way, expected in done.expected.items():
        for disposition, count in expected.items():
            decided = done.decided.get(way, {}).get(disposition, 0)
            table.add_row(way, disposition, f"{decided:,}", f"{count:,}")
    table.caption = "refused items: loomline quarantine list"
    console.print(table)

    table = _table("Identity", "", "wrong fusions", "people fused", "missed")
    for name, score in (("Loomline", done.identity), ("last login wins", done.naive)):
        counts = (score.wrong_fusions, score.fused_people, score.missed)
        table.add_row(name, *(f"{count:,}" for count in counts))
    console.print(table)
    refused = ", ".join(f"{rule} {n:,}" for rule, n in done.conflicts.items())
    console.print(
        f"{done.events:,} events of {done.profiles:,} profiles; links refused: "
        f"{refused or 'none'}.\nScored on {done.identity.people:,} generated people "
        "with known identities; `last login wins` ran on the same events.\n"
    )

    table = _table("Audiences", "", "members", "entered", "left")
    for name, members in done.audiences.items():
        entered, left = done.changes.get(name, (0, 0))
        table.add_row(name, f"{members:,}", f"+{entered:,}", f"-{left:,}")
    table.caption = f"at {done.as_of:%Y-%m-%d %H:%M} UTC; changes of the last run"
    console.print(table)
    _print_pushed(done.runs)
    _print_seconds(done.seconds, since_start())
    console.print()
    next_steps = Table.grid(padding=(0, 2))
    for command, purpose in (
        ("loomline sandbox", f"see the deliveries at http://127.0.0.1:{SANDBOX_PORT}/"),
        ("models/audiences/aud_cart_abandoners.sql", "edit it, then: loomline diff"),
        ("make demo", "run again; only changes are pushed"),
        ("make dev", "see the flow in Dagster at http://127.0.0.1:3000/"),
        ('loomline sql "from profiles.profiles"', "query the published tables"),
    ):
        next_steps.add_row(command, purpose)
    console.print("Next (commands are in .venv/bin):")
    console.print(next_steps)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _print_pushed(runs: "list[RunResult]") -> None:
    """Print a row per changed list, without columns that are zero in all rows."""
    by_run = [
        [(push, {name: getattr(push, name) for name in COUNTS}) for push in run.pushes]
        for run in runs
    ]
    every = [counts for pushes in by_run for _, counts in pushes]
    shown = [
        name
        for name in COUNTS
        if name in ("added", "removed") or any(counts[name] for counts in every)
    ]
    table = _table("Pushed", "destination", "audience", *shown)
    for pushes in by_run:
        for push, counts in pushes:
            if any(counts.values()):
                cells = (f"{counts[name]:,}" for name in shown)
                table.add_row(push.sync.destination, push.sync.audience, *cells)
        table.add_section()
    if table.rows:
        console.print(table)
    else:
        console.print("There was nothing to push.")


def _table(title: str, *columns: str) -> Table:
    """Return a table; borders are drawn on terminals only."""
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.HEAVY_HEAD if console.is_terminal else None,
    )
    for number, column in enumerate(columns):
        is_text = number == 0 or column in ("audience", "disposition")
        table.add_column(
            column, justify="left" if is_text else "right", overflow="fold"
        )
    return table
