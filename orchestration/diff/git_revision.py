"""Reads the project's files at a revision of its git repository."""

import subprocess
import tarfile
from contextlib import suppress
from pathlib import Path

from connectors.errors import ConfigError
from orchestration.project import MARK

__all__ = ["check_out", "find_commit"]

PROJECT_FILES = (
    *(MARK, "profiles.yml", "packages.yml", "models/", "macros/", "seeds/"),
    *("tests/data/", "orchestration/defs/"),
)
"""The paths that determine what is built, as prefixes within the project."""


def find_commit(path: Path, revision: str) -> str:
    """Return the commit of a revision.

    Raises:
        ConfigError: not a git checkout, or no such revision in it.
    """
    try:
        inside = _git(path, "rev-parse", "--is-inside-work-tree")
    except FileNotFoundError:
        raise ConfigError("--base needs git, which is not installed.") from None
    if inside.returncode:
        why = inside.stderr.decode(errors="replace").strip().splitlines()
        raise ConfigError(
            f"--base needs a git checkout, but {path} cannot be read as one: "
            f"{why[0] if why else 'git gave no reason'}"
        )
    # An option is not a revision, even if git accepts it.
    argument = "" if revision.startswith("-") else f"{revision}^{{commit}}"
    result = _git(path, "rev-parse", "--verify", "--quiet", argument)
    if result.returncode:
        raise ConfigError(
            f"--base: git does not know the revision {revision!r}. In a shallow clone, "
            "as in CI, fetch it first, e.g. `git fetch origin main`."
        )
    return result.stdout.decode().strip()


def check_out(path: Path, commit: str, into: Path) -> Path:
    """Write the project's files at a commit into a folder, and return it.

    Raises:
        ConfigError: the commit has no project at this path.
    """
    command = ["git", "-C", str(path), "archive", "--format=tar", commit]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as git:
        assert git.stdout is not None
        # If git fails there is no archive.
        with (
            suppress(tarfile.ReadError),
            tarfile.open(fileobj=git.stdout, mode="r|") as archive,
        ):
            for member in archive:
                if member.name.startswith(PROJECT_FILES):
                    archive.extract(member, into, filter="data")
        git.stdout.read()  # drain the padding, or git fails to write it
    if git.returncode or not (into / MARK).is_file():
        raise ConfigError(f"--base: commit {commit[:12]} has no Loomline project.")
    return into


def _git(path: Path, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(["git", "-C", str(path), *arguments], capture_output=True)
