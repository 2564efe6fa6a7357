"""`loomline keys`: write keys, their sources, permissions and rates."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from connectors.errors import ConfigError
from connectors.events.canonical import TYPES
from connectors.events.naming import snake_case
from connectors.events.policy import (
    Convention,
    Naming,
    NoConsent,
    Policy,
    UnknownEvents,
)
from connectors.sources.key_text import Kind
from connectors.sources.write_keys import PATH_GROUPS, KeyStore, WriteKey
from orchestration.cli.output import Json, print_json
from orchestration.project import Project

__all__ = ["keys"]

SHORT_VALUE = 22
"""Characters; this many random letters and digits hold 128 bits."""

TIMES = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
SIZES = {"": 1, "kb": 1 << 10, "mb": 1 << 20}

keys = typer.Typer(
    no_args_is_help=True, help="Manage write keys: sources, permissions and rates."
)
said = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


@keys.command()
def create(
    name: Annotated[
        str, typer.Option(help="Name of the key, and source of its events.")
    ],
    kind: Annotated[
        Kind, typer.Option(help="Type of client; admin keys cannot send events.")
    ] = "server",
    rate: Annotated[
        float | None,
        typer.Option(help="Events per second. Default: browser 100, server 1000."),
    ] = None,
    burst: Annotated[
        int | None,
        typer.Option(
            help="Largest burst of events. Default: browser 500, server 5000."
        ),
    ] = None,
    scope: Annotated[
        str | None,
        typer.Option(help="Message ids are unique within a scope. Default: the name."),
    ] = None,
    value: Annotated[
        str | None, typer.Option(help="Import an existing key of your clients.")
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Allow only this type of call ({', '.join(TYPES)}), event:NAME or "
            f"path:GROUP ({', '.join(PATH_GROUPS)}); repeatable."
        ),
    ] = None,
    max_event_bytes: Annotated[
        str, typer.Option(metavar="SIZE", help="Limit of one event, e.g. 32kb.")
    ] = "1mb",
    max_batch_bytes: Annotated[
        str, typer.Option(metavar="SIZE", help="Limit of one request, decompressed.")
    ] = "10mb",
    unknown_events: Annotated[
        UnknownEvents, typer.Option(help="How events without a contract are handled.")
    ] = "allow",
    naming: Annotated[
        Naming,
        typer.Option(help="List names that break the convention, or reject them."),
    ] = "normalise",
    convention: Annotated[
        Convention | None,
        typer.Option(
            help="Convention of names. With --naming reject, default: snake_case."
        ),
    ] = None,
    object_action: Annotated[
        bool,
        typer.Option(
            "--object-action", help="Require names of an object and an action."
        ),
    ] = False,
    no_consent: Annotated[
        NoConsent, typer.Option(help="Consent of events that state none.")
    ] = "assume_true",
    fingerprint: Annotated[
        str | None,
        typer.Option(
            metavar="CATEGORY",
            help="Recognize visitors without identifiers until they identify, if they "
            "granted this consent category.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Create a key and print it; it is shown only once."""
    project = Project.find()
    faults: list[str] = []
    if fingerprint is not None:
        _check_category(project, fingerprint, faults)
    types, events, paths = _allowed(allow or [], faults)
    size_bytes = _number("--max-event-bytes", max_event_bytes, SIZES, faults)
    batch_bytes = _number("--max-batch-bytes", max_batch_bytes, SIZES, faults)
    if faults:
        raise ConfigError("\n".join(faults))
    policy = Policy(
        unknown_events=unknown_events,
        naming=naming,
        convention=convention,
        object_action=object_action,
        no_consent=no_consent,
        types=types,
        events=events,
        max_event_bytes=size_bytes,
        fingerprint=fingerprint,
    )
    key, text = KeyStore(project.home).create(
        name,
        kind,
        scope=scope,
        policy=None if policy == Policy() else policy,
        rate=rate,
        burst=burst,
        paths=paths,
        max_batch_bytes=batch_bytes,
        value=value,
    )
    if value is not None and len(value) < SHORT_VALUE:
        said.print(
            f"A key of {len(value)} characters can be guessed, or recovered from its "
            "hash in control.db. Generated keys cannot."
        )
    if fingerprint is not None and kind == "server":
        said.print(
            "All requests of a server come from its own address, so all people would "
            "share one fingerprint. Use --kind browser for pages."
        )
    _show(key, text, json)


@keys.command("list")
def list_(json: Json = False) -> None:
    """List all keys by their first characters, with their states."""
    at = datetime.now(UTC)
    all_keys = KeyStore(Project.find().home).list()
    if json:
        print_json({"keys": [_summary(key, at) for key in all_keys]})
        return
    table = Table()
    for heading in ("source", "kind", "key", "id", "events/s", "burst", "state"):
        table.add_column(heading, no_wrap=heading in ("key", "id"))
    for key in all_keys:
        scope = "" if key.scope == key.name else f" (scope {key.scope})"
        limits = (f"{key.rate:,g}", f"{key.burst:,}")
        if key.kind == "admin":  # cannot send events
            limits = ("–", "–")
        names = (key.name + scope, key.kind, f"{key.hint}…", key.id)
        table.add_row(*names, *limits, _state(key, at))
    Console(highlight=False).print(table)


@keys.command()
def rotate(
    name: Annotated[str, typer.Argument(help="The key's name.")],
    keep: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="Time for which the old key stays valid, e.g. 90m; 0 revokes it.",
        ),
    ] = "24h",
    json: Json = False,
) -> None:
    """Create a new key with the same rights; the old one works for a while."""
    faults: list[str] = []
    keep_s = _number("--keep", keep, TIMES, faults)
    if faults:
        raise ConfigError(*faults)
    key, text = KeyStore(Project.find().home).rotate(name, keep_s)
    if keep_s:
        said.print(f"The old key stays valid for {_span(keep_s)}.")
    _show(key, text, json)


@keys.command()
def revoke(
    key: Annotated[str, typer.Argument(help="Id, or a name to revoke all its keys.")],
    json: Json = False,
) -> None:
    """Revoke a key permanently; collectors refuse it within seconds."""
    ended = KeyStore(Project.find().home).revoke(key)
    if json:
        at = datetime.now(UTC)
        print_json({"keys": [_summary(key, at) for key in ended]})
        return
    for one in ended:
        said.print(f"Revoked {one.hint}… ({one.id}) of {one.name}.")


def _show(key: WriteKey, text: str, json: bool) -> None:
    if json:
        print_json({**_summary(key, datetime.now(UTC)), "key": text})
        return
    said.print(f"The {key.kind} key of {key.name}. It is not shown again:")
    typer.echo(text)  # alone on standard output: KEY=$(loomline keys create …)
    if key.kind != "admin":
        said.print(
            "Next: configure an SDK with this key and the address of `loomline "
            "collect`. Or try it:\n"
            'curl -u "$KEY:" -H "content-type: application/json" -d '
            '\'{"type":"track","event":"Tried","userId":"u1"}\' '
            "http://HOST:PORT/v1/track"
        )


def _allowed(
    allow: list[str], faults: list[str]
) -> tuple[frozenset[str] | None, frozenset[str] | None, Any]:
    """Return types, events and groups of paths; None where there is no restriction."""
    by_kind: dict[str, set[str]] = {"": set(), "event": set(), "path": set()}
    for text in allow:
        kind, separator, name = text.partition(":")
        if not separator:
            kind, name = "", text
        elif kind == "event":
            name = snake_case(name) or ""
        if kind not in by_kind or not name:
            faults.append(
                f"--allow {text!r}: use a type of call such as track, event:NAME or "
                "path:GROUP."
            )
        else:
            by_kind[kind].add(name)
    types, events, paths = (frozenset(names) or None for names in by_kind.values())
    if events is not None and types is None:
        types = frozenset(("track",))  # only those events
    return types, events, paths


def _number(option: str, text: str, units: dict[str, int], faults: list[str]) -> int:
    match = re.fullmatch(r"(\d{1,12}) ?([a-z]*)", text.lower())
    if match is None or match[2] not in units:
        faults.append(
            f"{option} {text!r}: use a whole number, alone or with one of "
            f"{', '.join(filter(None, units))}."
        )
        return 0
    return int(match[1]) * units[match[2]]


def _check_category(project: Project, category: str, faults: list[str]) -> None:
    import csv

    with (project.path / "seeds" / "consent_categories.csv").open() as file:
        known = [row["category"] for row in csv.DictReader(file)]
    if category not in known:
        faults.append(
            f"{category!r} is not a category in seeds/consent_categories.csv. "
            f"Categories: {', '.join(known)}."
        )


def _summary(key: WriteKey, at: datetime) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(key, order="deterministic")
    return {**plain, "state": key.state(at)}


def _state(key: WriteKey, at: datetime) -> str:
    if key.expires_at is not None and key.state(at) == "expiring":
        return f"expires in {_span((key.expires_at - at).total_seconds())}"
    return key.state(at)


def _span(seconds: float) -> str:
    for unit, name in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{round(seconds / unit)} {name}"
    return f"{round(seconds)} s"
