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
"""Random letters and digits of this number hold 128 bits."""

TIMES = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
SIZES = {"": 1, "kb": 1 << 10, "mb": 1 << 20}

keys = typer.Typer(
    no_args_is_help=True, help="Manage write keys: sources, permissions and rates."
)
said = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


@keys.command()
def create(
    name: Annotated[str, typer.Option(help="The source of the key's events.")],
    kind: Annotated[
        Kind, typer.Option(help="What presents it; admin keys take no events.")
    ] = "server",
    rate: Annotated[
        float | None,
        typer.Option(help="Events a second; browser 100, server 1000."),
    ] = None,
    burst: Annotated[
        int | None,
        typer.Option(help="Events at once after a pause; browser 500, server 5000."),
    ] = None,
    scope: Annotated[
        str | None,
        typer.Option(help="Message ids are unique within it; default: the name."),
    ] = None,
    value: Annotated[
        str | None, typer.Option(help="A key that clients have already.")
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Only this: a type of call ({', '.join(TYPES)}), event:NAME, or "
            f"path:GROUP ({', '.join(PATH_GROUPS)}); repeatable."
        ),
    ] = None,
    max_event_bytes: Annotated[
        str, typer.Option(metavar="SIZE", help="A number, or with kb or mb: 32kb.")
    ] = "1mb",
    max_batch_bytes: Annotated[
        str, typer.Option(metavar="SIZE", help="Of one request, decompressed.")
    ] = "10mb",
    unknown_events: Annotated[
        UnknownEvents, typer.Option(help="What becomes of events without a contract.")
    ] = "allow",
    naming: Annotated[
        Naming, typer.Option(help="List names against the convention, or refuse them.")
    ] = "normalise",
    convention: Annotated[
        Convention | None,
        typer.Option(help="How names must be sent; with reject, default snake_case."),
    ] = None,
    object_action: Annotated[
        bool,
        typer.Option("--object-action", help="Names are an object and an action."),
    ] = False,
    no_consent: Annotated[
        NoConsent, typer.Option(help="How events without a consent statement are read.")
    ] = "assume_true",
    fingerprint: Annotated[
        str | None,
        typer.Option(
            metavar="CATEGORY",
            help="Recognize visitors without identifiers who granted this consent "
            "category, until they identify.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Make a key and show it, this once."""
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
            f"A value of {len(value)} characters can be guessed, or found from "
            "control.db by trying; a key made here cannot."
        )
    if fingerprint is not None and kind == "server":
        said.print(
            "A server's requests come from the server's address: all people it sends "
            "events for would share one fingerprint. Use --kind browser for pages."
        )
    _show(key, text, json)


@keys.command("list")
def list_(json: Json = False) -> None:
    """All keys by how they begin, and which of them work."""
    at = datetime.now(UTC)
    found = KeyStore(Project.find().home).list()
    if json:
        print_json({"keys": [_summary(key, at) for key in found]})
        return
    table = Table()
    for heading in ("source", "kind", "key", "id", "events/s", "burst", "state"):
        table.add_column(heading, no_wrap=heading in ("key", "id"))
    for key in found:
        scope = "" if key.scope == key.name else f" (scope {key.scope})"
        limits = (f"{key.rate:,g}", f"{key.burst:,}")
        if key.kind == "admin":  # takes no events
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
            help="How long the old key stays valid, e.g. 90m; 0 revokes it at once.",
        ),
    ] = "24h",
    json: Json = False,
) -> None:
    """Make a new key with the same rights; both work for a while."""
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
    key: Annotated[str, typer.Argument(help="Its name (all its keys) or its id.")],
    json: Json = False,
) -> None:
    """End a key for good; servers refuse it within seconds."""
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
    said.print(f"The {key.kind} key of {key.name}; it is not shown again:")
    typer.echo(text)  # alone on standard output: KEY=$(loomline keys create …)
    if key.kind != "admin":
        said.print(
            "Next: give an SDK this key and, as its host, the address at which "
            "`loomline collect` runs. Or try it:\n"
            'curl -u "$KEY:" -H "content-type: application/json" -d '
            '\'{"type":"track","event":"Tried","userId":"u1"}\' '
            "http://HOST:PORT/v1/track"
        )


def _allowed(
    allow: list[str], faults: list[str]
) -> tuple[frozenset[str] | None, frozenset[str] | None, Any]:
    """Types, events and groups of paths; None for a kind that is not restricted."""
    found: dict[str, set[str]] = {"": set(), "event": set(), "path": set()}
    for text in allow:
        kind, separator, name = text.partition(":")
        if not separator:
            kind, name = "", text
        elif kind == "event":
            name = snake_case(name) or ""
        if kind not in found or not name:
            faults.append(
                f"--allow {text!r}: write a type of call such as track, event:NAME or "
                "path:GROUP."
            )
        else:
            found[kind].add(name)
    types, events, paths = (frozenset(names) or None for names in found.values())
    if events is not None and types is None:
        types = frozenset(("track",))  # those events and nothing else
    return types, events, paths


def _number(option: str, text: str, units: dict[str, int], faults: list[str]) -> int:
    found = re.fullmatch(r"(\d{1,12}) ?([a-z]*)", text.lower())
    if found is None or found[2] not in units:
        faults.append(
            f"{option} {text!r}: write a whole number, alone or with one of "
            f"{', '.join(filter(None, units))}."
        )
        return 0
    return int(found[1]) * units[found[2]]


def _check_category(project: Project, category: str, faults: list[str]) -> None:
    import csv

    with (project.path / "seeds" / "consent_categories.csv").open() as file:
        known = [row["category"] for row in csv.DictReader(file)]
    if category not in known:
        faults.append(
            f"{category!r} is no category in seeds/consent_categories.csv; there are "
            f"{', '.join(known)}."
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
