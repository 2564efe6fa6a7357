"""The commands of `loomline`.

Exit codes: 0 success, 1 failure, 2 usage error. `--json` prints one JSON object and
nothing else to standard output; all other messages go to standard error.
"""

import _thread
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from connectors.config_files import nearest
from connectors.errors import ConfigError, LoomlineError, SourceError
from orchestration.cli.collect import collect, quarantine, tail
from orchestration.cli.keys import keys
from orchestration.cli.output import Json, print_json, say, since_start, stages, stderr
from orchestration.project import Project, find_project_path, instant

__all__ = ["errors_told", "main"]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Turn your data warehouse into a customer data platform.",
)
app.add_typer(keys, name="keys")
app.add_typer(quarantine, name="quarantine")
app.command()(collect)
app.command()(tail)
STOP_S = 15.0  # `dg dev` alone may wait two minutes for its own processes

AsOf = Annotated[
    str | None,
    typer.Option(help="Evaluate at this instant, e.g. 2026-05-01T00:00:00Z."),
]


def main() -> None:
    """Entry point."""
    try:
        with errors_told():
            app()
    finally:
        # Else Python's last garbage collection walks dbt's whole manifest: 1.9 s of CPU
        # after a run of the demo instead of 0.1 s (2026-11-30).
        gc.freeze()


@contextmanager
def errors_told() -> Iterator[None]:
    """Print our own errors as one message and exit with their code."""
    try:
        yield
    except (ConfigError, SourceError) as error:
        stderr.print(
            str(error), style="red", markup=False, highlight=False, soft_wrap=True
        )
        sys.exit(2)
    except LoomlineError as error:
        stderr.print(
            str(error), style="red", markup=False, highlight=False, soft_wrap=True
        )
        sys.exit(1)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        from importlib.metadata import version

        typer.echo(f"loomline {version('loomline')}")
        raise typer.Exit


@app.callback()
def loomline(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version and exit.",
        ),
    ] = False,
) -> None:
    pass


@app.command("import")
def import_(
    paths: Annotated[list[str], typer.Argument(help="Files, folders or globs.")],
    format: Annotated[
        str,
        typer.Option(
            help="auto, loomline, segment, rudderstack, posthog, amplitude, mixpanel, "
            "snowplow, ga4 or segment-warehouse."
        ),
    ] = "auto",
    source: Annotated[
        str | None,
        typer.Option(help="Source of the events. Default: name of the first path."),
    ] = None,
    json: Json = False,
) -> None:
    """Land event files: SDK calls or a vendor's export; plain, gzip or zip."""
    from connectors.ingest.importing import import_units, source_name
    from connectors.landing.prepare import prepare
    from connectors.sources.files import units

    project = Project.find()
    files = units(paths, format)
    prepare(project.home)
    with _progress(files) as on_progress:
        done = import_units(
            project.home,
            project.path,
            files,
            source_name(source or Path(paths[0]).name),
            on_progress=on_progress,
        )
    _report_imported(done, json)


@app.command()
def land(
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Keep running and land new files immediately."),
    ] = False,
    json: Json = False,
) -> None:
    """Land collected events and files of the inbox, then compact landed files."""
    from connectors.ingest.inbox import land_inbox
    from connectors.ingest.watching import watch as land_all
    from connectors.landing.compaction import compact
    from connectors.landing.prepare import prepare

    if watch and json:
        raise ConfigError(
            "--watch never ends, so it cannot print one JSON object. Remove --json."
        )
    project = Project.find()
    prepare(project.home)
    if watch:
        stop = _stopped()
        say("Landing new files (stop with Ctrl-C)")
        land_all(project.home, project.path, stop, on_problem=say)
        return
    done = land_inbox(project.home, project.path, on_problem=say)
    compact(project.home)
    _report_imported(done, json)


@app.command()
def run(
    as_of: AsOf = None,
    full_refresh: Annotated[
        bool,
        typer.Option("--full-refresh", help="Rebuild all tables except the histories."),
    ] = False,
    no_push: Annotated[
        bool, typer.Option("--no-push", help="Skip the destinations.")
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option(help="Evaluate only this audience; repeatable.")
    ] = None,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Keep running, and run whenever work is due."),
    ] = False,
    json: Json = False,
) -> None:
    """Land events, build and check the models, push changes and publish."""
    if watch and (as_of or full_refresh or only or json):
        raise ConfigError("--watch can only be combined with --no-push.")
    project = Project.find()
    project.check(with_variables=False)
    at = instant(as_of)
    audiences = project.audiences()
    unknown = set(only or ()) - {*audiences}
    if unknown:
        raise ConfigError(
            f"models/audiences has no {', '.join(sorted(unknown))}. Audiences: "
            f"{', '.join(audiences)}.{nearest(min(unknown), audiences)}"
        )
    if not no_push:
        project.check()
    if watch:
        from orchestration.pipeline.runner import Pipeline

        Pipeline(project, say=say).watch(push=not no_push, stop=_stopped())
        return
    with stages() as begin:
        # Dagster and dbt take seconds to import; usage errors come before that.
        from orchestration.cli.report import print_run, run_summary
        from orchestration.pipeline.runner import Pipeline

        started_s = since_start()
        begin("read")
        pipeline = Pipeline(project, say=say, on_stage=begin)
        read_s = since_start() - started_s
        result = pipeline.run(
            at=at,
            full_refresh=full_refresh,
            push=not no_push,
            only=tuple(only) if only else None,
        )
    result.seconds = {"start": started_s, "read": read_s, **result.seconds}
    if json:
        print_json(run_summary(result, project.home))
    else:
        print_run(result, project.home, has_pushed=not no_push)
    if any(push.held_back for push in result.pushes):
        sys.exit(1)


@app.command()
def demo(
    events: Annotated[
        int,
        typer.Option(
            help="Number of events to generate.", envvar="LOOMLINE_DEMO_EVENTS"
        ),
    ] = 200_000,
    as_of: AsOf = None,
    reset: Annotated[
        bool, typer.Option("--reset", help="First delete data/demo, without asking.")
    ] = False,
    json: Json = False,
) -> None:
    """Run the pipeline on generated events and sample exports, in data/demo."""
    if events < 1000:
        raise ConfigError(
            "--events must be at least 1000, to include every case of the demo."
        )
    from orchestration.cli.report import print_demo
    from orchestration.demo.generator import AS_OF
    from orchestration.demo.run import demo as run_demo

    done = run_demo(
        find_project_path(),
        events=events,
        as_of=instant(as_of) if as_of else AS_OF[1],
        reset=reset,
        started_s=since_start(),
        say=say,
    )
    if json:
        print_json(done.summary())
    else:
        print_demo(done)


@app.command()
def sandbox(
    port: Annotated[int, typer.Option(help="0 picks a free port.")] = 8787,
    secret_env: Annotated[
        str, typer.Option(help="Variable with the webhook secret.")
    ] = "CRM_WEBHOOK_SECRET",
) -> None:
    """Receive webhooks on 127.0.0.1 and show the members a receiver would hold."""
    from orchestration.demo.sandbox.server import Sandbox

    project = Project.find()
    secret = os.environ.get(secret_env)
    if not secret:
        raise ConfigError(
            f"Set {secret_env} to a secret (whsec_ and 24 to 64 random bytes in "
            "base64), or run `make demo`, which writes one into .env."
        )
    stop = _stopped()
    try:
        with Sandbox(project.home.path / "sandbox", secret, port) as receiver:
            say(f"Receiving at {receiver.url}/ (stop with Ctrl-C)")
            stop.wait()
    except OSError as error:
        raise ConfigError(
            f"Cannot listen on port {port}: {error.strerror}. Choose another --port."
        ) from error


@app.command()
def dev(
    port: Annotated[int, typer.Option(help="Dagster's port.")] = 3000,
    sandbox_port: Annotated[int, typer.Option(help="The sandbox's port.")] = 8787,
    collector_port: Annotated[int, typer.Option(help="The collector's port.")] = 8080,
) -> None:
    """Run the collector, landing, the sandbox and Dagster; Ctrl-C stops all."""
    from orchestration.cli.processes import run_together
    from orchestration.pipeline.dagster_instance import prepare_records

    project = Project.find()
    project.check()
    prepare_records(Path(os.environ["DAGSTER_HOME"]))
    here = Path(sys.executable).parent
    loomline = str(here / "loomline")
    commands = [
        [loomline, "sandbox", "--port", str(sandbox_port)],
        [loomline, "collect", "--port", str(collector_port)],
        [loomline, "land", "--watch"],
        # `project.check`, above, has already checked every file.
        [str(here / "dg"), "dev", "--no-check-yaml", "--port", str(port)],
    ]
    # Before they start: Dagster's processes give SIGTERM the handler of SIGINT, which a
    # shell in the background leaves ignored. Handled here, they have the default.
    # A closed terminal tells this process alone: they have sessions of their own.
    stop = _stopped(signal.SIGHUP)
    codes = run_together(commands, project.path, stop, limit_s=STOP_S)
    if not stop.is_set():
        sys.exit(max(codes, key=abs) and 1)


@app.command()
def sql(
    query: Annotated[
        str | None,
        typer.Argument(help="Default: standard input, or a prompt on a terminal."),
    ] = None,
    unsafe: Annotated[
        bool,
        typer.Option(
            "--unsafe", help="Also allow files, extensions and settings in statements."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Query the published tables with SQL; never waits for a run."""
    from orchestration.cli.sql import answer, ask, prompt

    home = Project.find().home
    if query is None and not sys.stdin.isatty():
        query = sys.stdin.read()
    if query is None and not json:
        prompt(home, say=say, is_safe=not unsafe)
    elif query is None or not query.strip():
        raise ConfigError(
            "Add a query, such as: loomline sql 'from profiles.profiles'."
        )
    elif json:
        print_json(answer(home, query, say=say, is_safe=not unsafe))
    else:
        ask(home, query, say=say, is_safe=not unsafe)


@app.command()
def diff(
    base: Annotated[
        str | None,
        typer.Option(help="Compare with this commit instead of production."),
    ] = None,
    as_of: AsOf = None,
    markdown: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write a pull request comment; - prints it."),
    ] = None,
    json: Json = False,
) -> None:
    """Show which profiles an edit adds to and removes from audiences, before a run."""
    from connectors.landing.manifest import replace_file
    from orchestration.cli.diff import diff_markdown, diff_summary, print_diff
    from orchestration.diff.diff import diff as find_diff

    if json and markdown == "-":
        raise ConfigError(
            "--json and --markdown - both write to standard output. Choose one."
        )
    result = find_diff(Project.find(), at=instant(as_of), base=base, say=say)
    if markdown == "-":
        sys.stdout.write(diff_markdown(result))
        return
    if markdown is not None:
        try:
            replace_file(Path(markdown).absolute(), diff_markdown(result).encode())
        except OSError as error:
            raise ConfigError(f"Cannot write {markdown}: {error.strerror}.") from error
    if json:
        print_json(diff_summary(result))
    else:
        print_diff(result)


def _report_imported(done: Any, json: bool) -> None:
    from orchestration.cli.report import imported_summary, print_imported

    if json:
        print_json(imported_summary(done))
    else:
        print_imported(done)


@contextmanager
def _progress(files: list[Any]) -> Iterator[Callable[[Any, int], None]]:
    """Show a progress bar over the bytes of the files, on a terminal only."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=stderr, disable=not stderr.is_terminal) as bar:
        task = bar.add_task("Importing", total=sum(unit.size_bytes for unit in files))
        before: dict[str, int] = {}

        def consumed(unit: Any, count: int) -> None:
            bar.advance(task, count - before.get(unit.label, 0))
            before[unit.label] = count

        yield consumed


def _stopped(*others: signal.Signals) -> threading.Event:
    """Set when this process is asked to stop; by the others unless it ignores them."""
    stop = threading.Event()
    unless_ignored = (one for one in others if signal.getsignal(one) != signal.SIG_IGN)
    for number in (signal.SIGINT, signal.SIGTERM, *unless_ignored):
        # Not `stop.set()` itself: the wait that is interrupted may hold its lock.
        signal.signal(number, lambda *_: _thread.start_new_thread(stop.set, ()))
    return stop
