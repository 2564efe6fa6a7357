"""Compaction: merges the loads of each minute, hour and day into one file.

It swaps entries of the manifest. Replaced files stay on disk until `sweep`: the
warehouse's views name files, so a run sweeps after it has recreated its views, and
keeps files that another reader may still use.
"""

import hashlib
import itertools
import os
import time
from collections.abc import Callable

import duckdb

from connectors.home import Home
from connectors.landing.manifest import LoadedFile, Manifest, sync_folder
from connectors.landing.segments import may_be_forgotten
from connectors.locks import exclusive

__all__ = ["READER_GRACE_S", "TIERS", "compact", "sweep"]

TIERS: dict[str, int] = {"minute": 60, "hour": 3600, "day": 86_400}
"""Length of each tier's window, in seconds."""

READER_GRACE_S = 3600.0
"""Files the manifest no longer lists are deleted after this time."""


def compact(
    home: Home, *, clock: Callable[[], float] = time.time, threads: int = 2
) -> int:
    """Merge the files of every past window; return how many were replaced.

    Safe to stop at any point: nothing changes until the manifest is swapped, and
    unused output is swept with the other unlisted files.
    """
    manifest = Manifest(home)
    replaced = 0
    with exclusive(home.raw / "compaction.lock"):
        for tier, window_s in TIERS.items():
            for group in _due(manifest.files(), tier, window_s, clock()):
                merged = _merge(home, group, tier, clock(), threads)
                gone = {file.path for file in group}
                for path in gone:  # the grace period of readers begins now
                    os.utime(home.raw / path, (clock(), clock()))
                with manifest.rewriting() as (files, write):
                    write([file for file in files if file.path not in gone] + [merged])
                replaced += len(group)
    return replaced


def sweep(
    home: Home,
    *,
    clock: Callable[[], float] = time.time,
    grace_s: float = READER_GRACE_S,
) -> int:
    """Delete files that are neither listed nor in use; return how many.

    Compaction replaced them, or the process that wrote them died.
    """
    deleted = 0
    with exclusive(home.raw / "compaction.lock"):
        named = {home.raw / file.path for file in Manifest(home).files()}
        for path in home.raw.glob("*/*/*"):
            if path in named or not path.is_file():  # an import renames its files
                continue
            if clock() - path.stat().st_mtime > grace_s:
                path.unlink()
                deleted += 1
    return deleted


def _due(
    files: list[LoadedFile], tier: str, window_s: int, now: float
) -> list[list[LoadedFile]]:
    """Groups of two or more files of one stream whose window has passed."""
    order = ["load", *TIERS]
    lower = order[: order.index(tier)]

    def window(file: LoadedFile) -> tuple[str, int]:
        return file.stream, int(file.landed_at // window_s)

    candidates = sorted((file for file in files if file.tier in lower), key=window)
    groups = [list(group) for _, group in itertools.groupby(candidates, key=window)]
    return [
        group
        for group in groups
        if len(group) > 1 and (window(group[0])[1] + 1) * window_s <= now
    ]


def _merge(
    home: Home, group: list[LoadedFile], tier: str, now: float, threads: int
) -> LoadedFile:
    """Merge a group's rows into one file, each with the `load_seq` of its load."""
    stream = group[0].stream
    group = sorted(group, key=lambda file: (file.load_seq, file.path))
    digest = hashlib.sha256("\n".join(file.path for file in group).encode()).hexdigest()
    day = time.strftime("%Y-%m-%d", time.gmtime(group[0].landed_at))
    path = f"{stream}/{day}/{tier}-{digest[:32]}.parquet"
    target = home.raw / path
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.part")
    with duckdb.connect(config={"threads": threads}) as engine:
        engine.execute("set memory_limit = '512MB'")
        # DuckDB would otherwise spill below the working directory.
        engine.execute(f"set temp_directory = {_quoted(str(home.raw / '.spill'))}")
        engine.execute(
            "create table loads as select unnest(?) as path, unnest(?) as seq",
            [
                [str(home.raw / file.path) for file in group],
                [f.load_seq for f in group],
            ],
        )
        schema = home.raw / "schema" / f"{stream}.parquet"
        paths = [schema, *(home.raw / file.path for file in group)]
        files = ", ".join(_quoted(str(path)) for path in paths)
        engine.execute(
            f"""
            copy (
                select
                    stream.* exclude (filename, load_seq),
                    coalesce(stream.load_seq, loads.seq) as load_seq
                from read_parquet(
                    [{files}],
                    filename = true, union_by_name = true
                ) as stream
                inner join loads on stream.filename = loads.path
            ) to {_quoted(str(temporary))} (format parquet, compression zstd)
            """
        )
    with temporary.open("rb") as written:
        sha256 = hashlib.file_digest(written, "sha256").hexdigest()
        os.fsync(written.fileno())
    temporary.replace(target)
    sync_folder(target.parent)
    return LoadedFile(
        load_seq=max(file.load_seq for file in group),
        stream=stream,
        path=path,
        rows=sum(file.rows for file in group),
        sha256=sha256,
        names=tuple(
            name
            for name in dict.fromkeys(itertools.chain(*(file.names for file in group)))
            if not may_be_forgotten(home, name)
        ),
        landed_at=group[0].landed_at,
        tier=tier,
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
