"""The project's files as a revision of its git repository holds them."""

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
"""What decides what is built; beginnings of paths in the project."""


def find_commit(path: Path, revision: str) -> str:
    """The commit a revision stands for.

    Raises:
        ConfigError: no git checkout, or no such revision in it.
    """
    try:
        inside = _git(path, "rev-parse", "--is-inside-work-tree")
    except FileNotFoundError:
        raise ConfigError("--base needs git, which is not installed here.") from None
    if inside.returncode:
        why = inside.stderr.decode(errors="replace").strip().splitlines()
        raise ConfigError(
            f"--base needs a git checkout, and {path} cannot be read as one: "
            f"{why[0] if why else 'git gave no reason'}"
        )
    # An option is no revision, whatever git would make of it.
    given = "" if revision.startswith("-") else f"{revision}^{{commit}}"
    found = _git(path, "rev-parse", "--verify", "--quiet", given)
    if found.returncode:
        raise ConfigError(
            f"--base: git knows no revision {revision!r} here. Where a clone is "
            "shallow, as in CI, fetch it first, e.g. `git fetch origin main`."
        )
    return found.stdout.decode().strip()


def check_out(path: Path, commit: str, into: Path) -> Path:
    """Write the project's files of a commit into a folder, and return it.

    Raises:
        ConfigError: the commit holds no project where this one is.
    """
    command = ["git", "-C", str(path), "archive", "--format=tar", commit]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as git:
        assert git.stdout is not None
        # Where git has nothing to give there is no archive either.
        with (
            suppress(tarfile.ReadError),
            tarfile.open(fileobj=git.stdout, mode="r|") as archive,
        ):
            for member in archive:
                if member.name.startswith(PROJECT_FILES):
                    archive.extract(member, into, filter="data")
        git.stdout.read()  # padding: git fails where it cannot write it
    if git.returncode or not (into / MARK).is_file():
        raise ConfigError(f"--base: commit {commit[:12]} holds no Loomline project.")
    return into


def _git(path: Path, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(["git", "-C", str(path), *arguments], capture_output=True)
