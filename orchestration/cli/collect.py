"""`loomline collect`, `tail` and `quarantine`: receive, watch and replay events."""

import json as json_text
import os
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from connectors.errors import ConfigError
from orchestration.cli.output import Json, print_json
from orchestration.project import Project

__all__ = ["collect", "quarantine", "tail"]

said = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
shown = Console(highlight=False, soft_wrap=True, markup=False)


quarantine = typer.Typer(
    no_args_is_help=True, help="List, show and replay refused events."
)


def collect(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="0 picks a free port.")
    ] = 8080,
    admin_host: Annotated[
        str, typer.Option(help="Admin address to listen on.")
    ] = "127.0.0.1",
    admin_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Port of /metrics and /debug/stream. Default: --port plus one.",
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, max=64, help="Processes; at most one per core.")
    ] = 1,
    tls_cert: Annotated[
        Path | None, typer.Option(help="Certificate chain (PEM).")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Private key (PEM).")] = None,
) -> None:
    """Collect events over HTTP until stopped. SIGHUP reloads the rules."""
    from connectors.sources.http_api.supervisor import serve
    from connectors.sources.http_api.worker import Settings

    project = Project.find()
    settings = Settings(host, port, workers, tls_cert, tls_key, admin_host, admin_port)
    serve(project.home, project.path, settings, say=_announce)


def tail(
    url: Annotated[
        str | None,
        typer.Option(
            help="Admin address of a collector. Default: the collector of this home "
            "folder."
        ),
    ] = None,
    key_env: Annotated[
        str, typer.Option(help="Variable with an admin key.")
    ] = "LOOMLINE_ADMIN_KEY",
    source: Annotated[str | None, typer.Option(help="Only this source.")] = None,
    event: Annotated[str | None, typer.Option(help="Only this event.")] = None,
    disposition: Annotated[
        str | None, typer.Option(help="Only this disposition, e.g. quarantined.")
    ] = None,
    payload: Annotated[
        bool, typer.Option("--payload", help="Also show the payload.")
    ] = False,
    count: Annotated[
        int | None, typer.Option(help="Stop after this many events.")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per line.")
    ] = False,
) -> None:
    """Show events and their dispositions as they arrive. Ctrl-C stops with counts."""
    import httpx

    key = os.environ.get(key_env)
    if not key:
        raise ConfigError(
            f"Set {key_env} to an admin key. Create one with `loomline keys create "
            "--kind admin --name debug`."
        )
    if url is None:
        url = _own_collector()
    wanted = {"source": source, "event": event, "disposition": disposition}
    counts: Counter[str] = Counter()
    try:
        with httpx.stream(
            "GET",
            f"{url.rstrip('/')}/debug/stream",
            params={name: value for name, value in wanted.items() if value},
            headers={"Authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(5, read=30),
        ) as answer:
            if answer.status_code == 404:
                raise ConfigError(
                    f"{url} shows no events. Use the address that `loomline collect` "
                    "prints for live events, or remove --url."
                )
            if answer.status_code != 200:
                answer.read()
                problem = answer.json().get("message", answer.status_code)
                raise ConfigError(f"{url} answered: {problem}")
            said.print(f"Watching {url} (stop with Ctrl-C)", style="dim")
            for line in answer.iter_lines():
                if not line.startswith("data: "):
                    continue
                seen = json_text.loads(line.removeprefix("data: "))
                counts[seen["disposition"]] += 1
                if json:
                    shown.out(line.removeprefix("data: "))
                else:
                    _show(seen, with_payload=payload)
                if counts.total() == count:
                    break
    except httpx.HTTPError as error:
        raise ConfigError(
            f"{url} does not answer ({type(error).__name__}). Check that `loomline "
            "collect` is running there."
        ) from error
    except KeyboardInterrupt:
        pass
    totals = ", ".join(f"{n:,} {name}" for name, n in counts.most_common())
    said.print(totals or "No events.", style="bold")


def _own_collector() -> str:
    """Return the admin address of this home folder's collector."""
    from connectors.sources.http_api.collector_lock import admin_url

    home = Project.find().home
    url = admin_url(home)
    if url is None:
        raise ConfigError(
            f"No collector is running on {home.path}. Start `loomline collect`, or set "
            "--url to the admin address of another collector."
        )
    return url


@quarantine.command("list")
def list_(
    source: Annotated[str | None, typer.Option(help="Only this source.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of events.")] = 50,
    json: Json = False,
) -> None:
    """List refused events that were not replayed, latest first."""
    events = _quarantined(source)
    if json:
        rows = [_row(one) for one in events[:limit]]
        print_json({"count": len(events), "events": rows})
        return
    if not events:
        said.print("No refused events.")
        return
    table = Table(box=None)
    table.add_column("id", no_wrap=True)
    table.add_column("received at", no_wrap=True)
    for heading in ("source", "event", "disposition", "reason"):
        table.add_column(heading, overflow="fold")
    for one in events[:limit]:
        table.add_row(
            one.id,
            f"{one.received_at:%Y-%m-%d %H:%M}",
            one.source,
            one.event or "",
            one.disposition,
            one.reason or "",
        )
    shown.print(table)
    if len(events) > limit:
        said.print(f"{len(events):,} in total; --limit shows more.", style="dim")
    said.print("`loomline quarantine show ID` shows the payload.", style="dim")


@quarantine.command()
def show(
    id: Annotated[str, typer.Argument(help="Id from `list`.")],
    json: Json = False,
) -> None:
    """Show the payload of a refused event and the reason."""
    (one,) = _chosen([id], _quarantined())
    if json:
        print_json(_row(one) | {"payload": one.payload})
        return
    for name, value in _row(one).items():
        shown.print(f"{name}: {value}")
    shown.print(one.payload)


@quarantine.command()
def replay(
    ids: Annotated[list[str] | None, typer.Argument(help="Ids from `list`.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All refused events.")] = False,
    source: Annotated[
        str | None, typer.Option(help="All events of this source.")
    ] = None,
    event: Annotated[str | None, typer.Option(help="All events of this name.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the count only; change nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Admit refused events again, by the current rules; each counts as received."""
    from connectors.events.policy import Policy
    from connectors.ingest.quarantine import held
    from connectors.ingest.quarantine import replay as replay_all
    from connectors.landing.prepare import prepare
    from connectors.sources.write_keys import KeyStore

    if not (ids or all_ or source or event):
        raise ConfigError("Name the events by id, or use --all, --source or --event.")

    def choose(events: list[Any]) -> list[Any]:
        wanted = _wanted(events, source, event)
        return _chosen(ids, wanted) if ids else wanted

    project = Project.find()
    if dry_run:
        count = len(choose(held(project.home)))
        if json:
            print_json({"would_replay": count})
        else:
            said.print(f"Would replay {count:,}.")
        return
    prepare(project.home)
    keys = {key.name: (key.scope, key.policy) for key in KeyStore(project.home).list()}
    count, became = replay_all(
        project.home,
        project.path,
        choose,
        lambda name: keys.get(name, (name, Policy())),
    )
    if json:
        print_json({"replayed": count, "dispositions": dict(became)})
    else:
        totals = ", ".join(f"{n:,} {name}" for name, n in became.most_common())
        said.print(f"Replayed {count:,}: {totals or 'nothing'}.")


def _quarantined(source: str | None = None) -> list[Any]:
    from connectors.ingest.quarantine import held

    return _wanted(held(Project.find().home), source, None)


def _wanted(events: list[Any], source: str | None, event: str | None) -> list[Any]:
    return [
        one
        for one in events
        if source in (None, one.source) and event in (None, one.event)
    ]


def _chosen(ids: list[str], events: list[Any]) -> list[Any]:
    by_id = {one.id: one for one in events}
    unknown = [id for id in ids if id not in by_id]
    if unknown:
        raise ConfigError(
            f"No refused event has the id {', '.join(unknown)}. "
            "Run `loomline quarantine list` to see them."
        )
    return [by_id[id] for id in dict.fromkeys(ids)]


def _row(one: Any) -> dict[str, Any]:
    return {
        "id": one.id,
        "received_at": one.received_at.isoformat(),
        "source": one.source,
        "event": one.event,
        "message_id": one.message_id,
        "disposition": one.disposition,
        "reason": one.reason,
        "channel": one.channel,
    }


_STYLES = {
    "admitted": "green",
    "rejected": "red",
    "quarantined": "yellow",
    "rate_limited": "magenta",
}


def _show(seen: dict[str, Any], *, with_payload: bool) -> None:
    disposition = seen["disposition"]
    style = _STYLES.get(disposition, "cyan")
    shown.print(
        f"{seen['received_at'][11:23]}  {seen['source']:<16} "
        f"{seen.get('event') or seen.get('type') or '':<28} ",
        end="",
    )
    shown.print(disposition, style=style, end="")
    details = [
        *([seen["reason"]] if seen.get("reason") else []),
        *seen.get("violations", []),
        *(f"by {name}" for name in seen.get("transformations", [])),
    ]
    shown.print(f"  {'; '.join(details)}" if details else "")
    if with_payload and seen.get("payload") is not None:
        shown.print(json_text.dumps(seen["payload"], ensure_ascii=False), style="dim")


def _announce(message: str) -> None:
    """Print to standard output without buffering: scripts wait for the address.

    A closed pipe is ignored; the collector keeps running.
    """
    with suppress(OSError):
        typer.echo(message)
