"""Shows what the next run would change, by running it on a copy.

The copy is built by the same models and the same code from the same histories. The rows
this build appends to the membership log are those the next run would append.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from connectors.home import Home
from connectors.ingest.inbox import waiting_files
from orchestration.diff.git_revision import check_out, find_commit
from orchestration.diff.home_copy import copied
from orchestration.diff.members import (
    AudienceDiff,
    ModelsDiff,
    SyncDiff,
    compare_audiences,
    compare_models,
    compare_syncs,
    syncs_now,
    unconfirmed_batches,
)
from orchestration.pipeline.build_state import building, built_from
from orchestration.pipeline.dbt_runner import Models, ModelsFailed
from orchestration.pipeline.memberships import last_run_number
from orchestration.pipeline.run import refuse_the_past
from orchestration.pipeline.unknown_names import UnknownName, unknown_names
from orchestration.project import Project

__all__ = ["Diff", "diff"]

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Diff:
    """The changes of the working tree, against production or a commit."""

    at: datetime
    base: str | None  # the commit; None: production
    audiences: tuple[AudienceDiff, ...]  # edited or changed ones
    syncs: tuple[SyncDiff, ...]  # changed ones
    models: ModelsDiff | None  # None: there is no record of the last build
    rebuilds_all: bool  # the identity rules have changed
    waiting_files: int  # in the inbox: the next run lands them, this one did not
    unconfirmed: dict[str, int]  # destination → batches to be resent first
    unknown_names: tuple[UnknownName, ...] = ()  # in the working tree's audiences
    seconds: dict[str, float] = field(default_factory=dict)


def diff(
    project: Project,
    *,
    at: datetime,
    base: str | None = None,
    say: Say = lambda message: None,
) -> Diff:
    """Build the working tree's models on a copy of the home, and return the changes.

    They are relative to production; with `base`, to production as if that commit had
    been run at this instant, so that the changes are the edit's alone. Production is
    not touched, nothing is sent, and the inbox is left as it is.

    Raises:
        ConfigError: nothing was built yet, the instant is before the last evaluation, a
            configuration file is wrong, or `base` is not a revision of this project.
        ModelsFailed: a model cannot be read or built.
    """
    project.audiences()  # report faults before copying
    commit = find_commit(project.path, base) if base is not None else None
    models = Models(project, say=say)
    seconds: dict[str, float] = {}
    with _timed(seconds, "read"):
        models.parse()
    with ExitStack() as stack:
        with _timed(seconds, "copy"):
            home = stack.enter_context(copied(project.home, say=say))
        stack.enter_context(_working_in(home))
        previous = built_from(home)
        if commit is not None:
            say(f"Building {base} ({commit[:12]}) on a copy …")
            with _timed(seconds, "base"):
                previous = _build_base(project.path, home, commit, at)
        before = syncs_now(home)
        last = last_run_number(home, say)
        say("Building the working tree on a copy …")
        with _timed(seconds, "models"):
            on_copy = replace(models, project=Project(project.path, home))
            rebuilds_all = _build(on_copy, at)
        with _timed(seconds, "compare"):
            changed = compare_models(models, previous)
            names = {*project.audiences()}
            audiences = tuple(compare_audiences(home, names, changed, last))
            syncs = tuple(
                compare_syncs(home, project, before, is_alone=commit is not None)
            )
        return Diff(
            at=at,
            base=commit,
            audiences=audiences,
            syncs=syncs,
            models=changed,
            rebuilds_all=rebuilds_all,
            waiting_files=sum(1 for _ in waiting_files(project.home)),
            unconfirmed=unconfirmed_batches(home),
            unknown_names=tuple(unknown_names(on_copy)),
            seconds=seconds,
        )


def _build(models: Models, at: datetime) -> bool:
    """Build like a run, without tests. Return whether everything was rebuilt."""
    project = models.project
    refuse_the_past(project.home, at, models.say)
    with building(project.path, project.home) as must_rebuild:
        models.run("build", at=at, full_refresh=must_rebuild, has_tests=False)
    return must_rebuild


def _build_base(path: Path, home: Home, commit: str, at: datetime) -> Path:
    """Build a commit's models in the copy; return the path of its manifest.json.

    The working tree is then built on top, like the next run: only this keeps profile
    ids stable from one to the other if the identity rules differ.
    """
    models = Models(Project(check_out(path, commit, home.path / "base"), home))
    try:
        models.parse()
        _build(models, at)
    except ModelsFailed as error:
        raise ModelsFailed(f"The models of {commit[:12]} fail.\n{error}") from None
    previous = built_from(home)
    previous.parent.mkdir(exist_ok=True)
    previous.write_bytes(models.definitions())
    return previous


@contextmanager
def _working_in(home: Home) -> Iterator[None]:
    """Point dbt's connection and output at this home for the block."""
    values = {
        "LOOMLINE_HOME": str(home.path),
        "DBT_TARGET_PATH": str(home.path / "target"),
        "DBT_LOG_PATH": str(home.path / "logs"),
    }
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    seconds[stage] = time.monotonic() - started
