"""The project's `dbt` command: dbt's own, with the variables that the models need.

It wraps the callbacks of dbt's commands, before they read profile and project. Options,
output and exit codes are dbt's.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import update_wrapper
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from connectors.errors import ConfigError
from connectors.landing.prepare import prepare
from orchestration.cli.app import errors_told
from orchestration.cli.output import say
from orchestration.exposures import write_exposures
from orchestration.pipeline.build_state import begin_build
from orchestration.pipeline.dbt_runner import Models
from orchestration.pipeline.run import locked, refuse_the_past
from orchestration.project import Project, find_project_path, instant

__all__ = ["main"]

WRITING = {"build", "clone", "retry", "run", "run-operation", "seed", "snapshot"}
"""Commands that change the warehouse, as does `test` with `--store-failures`."""

READING = {"compile", "freshness", "generate", "show", "test"}
"""Commands that open the warehouse without changing it."""


FOLDERS = ("project_dir", "profiles_dir")


def main() -> None:
    """Entry point, in place of dbt's."""
    from dbt.cli.main import cli

    with errors_told():
        _wrap(cli, _loomline(_project_path()))
        cli(prog_name="dbt")


def _wrap(command: click.Command, path: Path | None) -> None:
    if isinstance(command, click.Group):
        for one in command.commands.values():
            _wrap(one, path)
    elif command.callback is not None:
        command.callback = _prepared(command.callback)
        for option in command.params if path else []:
            if option.name in FOLDERS:
                option.default = str(path)


def _prepared(callback: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        from dbt.cli.resolvers import default_profiles_dir

        context = click.get_current_context()
        params = context.params
        path = _loomline(Path(params["project_dir"]).absolute())
        if "profiles_dir" in params and not _is_explicit(context, "profiles_dir"):
            params["profiles_dir"] = str(path or default_profiles_dir())
        if path is None:
            return callback(*args, **options)
        # For `Project.find`, here and in the processes that dbt starts.
        os.environ["LOOMLINE_PROJECT"] = str(path)
        with _session(Project.find(), context):
            return callback(*args, **options)

    return update_wrapper(call, callback)


def _project_path() -> Path | None:
    """Return the project that `loomline` would use, if any.

    Raises:
        ConfigError: LOOMLINE_PROJECT names a folder without a project.
    """
    try:
        return find_project_path()
    except ConfigError:
        if "LOOMLINE_PROJECT" in os.environ:
            raise
        return None


def _loomline(path: Path | None) -> Path | None:
    """Return the path if it is a Loomline project; other projects get plain dbt."""
    return path if path and (path / "orchestration" / "defs").is_dir() else None


def _is_explicit(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) not in (None, ParameterSource.DEFAULT)


@contextmanager
def _session(project: Project, context: click.Context) -> Iterator[None]:
    """Set options and environment of one command; hold `run.lock` if it writes."""
    params = context.params
    if "vars" in params:
        params["vars"] = project.dbt_vars() | params["vars"]
        write_exposures(project)
    models = Models(project, say=say)
    home, command = project.home, context.info_name
    is_writing = command in WRITING or params.get("store_failures")
    with ExitStack() as stack:
        if is_writing:
            stack.enter_context(locked(home, say))
        else:
            prepare(home)
        at = instant(None)
        if is_writing or command in READING:
            models.wait_until_free()
            if not home.warehouse.exists():
                # dbt creates the file, which must not look built by unknown rules.
                begin_build(project.path, home)
        if is_writing:
            refuse_the_past(home, at, say)
            if begin_build(project.path, home):
                say(
                    "The identity rules have changed since the last run. The next "
                    "`loomline run` rebuilds everything."
                )
        stack.enter_context(models.environment(at=at))
        yield
