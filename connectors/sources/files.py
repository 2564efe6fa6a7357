"""Files as a source: finds them, reads them in chunks, yields their rows.

`units` finds what is imported or skipped as a whole, `chunks` streams one unit in
pieces of whole lines that can be sent to another process, `rows` yields each line's
item. Damage in a file does not lose the readable rest of it.
"""

import glob
import hashlib
import os
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from connectors.errors import SourceError
from connectors.events.decode import Undecodable, decode_item
from connectors.sources.file_chunks import (
    CHUNK_BYTES,
    LOOMLINE,
    MAX_LINE_BYTES,
    PAYLOAD_BYTES,
    ZIP,
    Chunk,
    Unit,
    chunks,
)
from connectors.sources.layouts import Layout, Untranslatable, layouts

__all__ = [
    "CHUNK_BYTES",
    "FORMATS",
    "MAX_LINE_BYTES",
    "Broken",
    "Chunk",
    "Unit",
    "chunks",
    "rows",
    "units",
]

FORMATS: tuple[str, ...] = ("auto", LOOMLINE, *layouts())

_SNIFF_BYTES = 64 << 10
_SNIFF_ROWS = 20
_UNREADABLE = {b"PAR1": "Parquet", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2"}
# An object with one of these keys is an event; admission decides how to read it.
_CALL_KEYS = {
    "type",
    "event",
    "event_text",
    "batch",
    "userId",
    "user_id",
    "anonymousId",
    "anonymous_id",
    "distinct_id",
}


@dataclass(frozen=True, slots=True)
class Broken:
    """A row without an item; `reason` names the field or the damage, never a value."""

    line: int
    reason: str
    payload: bytes  # the original line, truncated to 64 KiB


def units(paths: Iterable[str | Path], format: str = "auto") -> list[Unit]:
    """Return the units of files, folders and globs, each once, sorted by name.

    Raises:
        SourceError: an unknown format, a path without files, or, with "auto", content
            of no known format.
    """
    if format not in FORMATS:
        raise SourceError(
            f"Unknown format {format!r}; known formats are {', '.join(FORMATS)}."
        )
    files = list(dict.fromkeys(chain.from_iterable(map(_files, paths))))
    if not files:
        raise SourceError("No files to import; name files, folders or globs.")
    result: list[Unit] = []
    for layout in layouts().values():
        if layout.is_export and format in ("auto", layout.format):
            tables = _folders(files, layout.is_export, format != "auto")
            result += (_folder_unit(group, layout.format) for group in tables)
            taken = {file for group in tables for file in group}
            files = [file for file in files if file not in taken]
            if format == layout.format:
                if not tables:
                    raise SourceError(f"No CSV tables found for format {format!r}.")
                files = []
    for file in files:
        result += _file_units(file, format)
    if format == "auto":
        result = _with_formats(result)
    return sorted(result, key=lambda unit: unit.label)


def rows(chunk: Chunk) -> Iterator[tuple[int, bytes | dict[str, Any] | Broken]]:
    """Yield the line numbers and items of a chunk, without blank lines.

    An item is the unchanged line for format "loomline", a translated call for a
    vendor's, or a Broken.
    """
    if chunk.error is not None:
        line, payload = chunk.first_line, chunk.data[:PAYLOAD_BYTES]
        yield line, Broken(line, chunk.error, payload)
        return
    lines = enumerate(chunk.data.split(b"\n"), chunk.first_line)
    if chunk.unit.format == LOOMLINE:
        for number, data in lines:
            if data and not data.isspace():
                yield number, data
        return
    layout = layouts()[chunk.unit.format]
    for number, data in lines:
        if data and not data.isspace():
            try:
                yield number, layout.translate(layout.decode(data))
            except (Undecodable, Untranslatable) as error:
                yield number, Broken(number, str(error), data[:PAYLOAD_BYTES])


# Finding


def _files(path: str | Path) -> list[Path]:
    """Return the files of one argument. Hidden files are skipped only in folders."""
    text = str(path)
    if os.path.exists(text):
        matches = [text]
    else:
        matches = sorted(glob.glob(text, recursive=True))
        if not matches:
            kind = "Nothing matches" if glob.has_magic(text) else "No such file:"
            raise SourceError(f"{kind} {text}")
    files = []
    for match in map(Path, matches):
        files += _below(match) if match.is_dir() else [match]
    if not files:
        raise SourceError(f"No files in {text}")
    return files


def _below(folder: Path) -> list[Path]:
    files = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(file for file in files if file.is_file())


def _folders(
    files: list[Path], is_export: Callable[[list[Path]], bool], is_explicit: bool
) -> list[list[Path]]:
    """Group the CSV files by folder; return the groups that are table exports."""
    groups: dict[Path, list[Path]] = {}
    for file in files:
        if file.name.lower().endswith((".csv", ".csv.gz")):
            groups.setdefault(file.parent, []).append(file)
    return [group for group in groups.values() if is_explicit or is_export(group)]


def _folder_unit(files: list[Path], format: str) -> Unit:
    hashes = sorted((file.name, _sha256(file)) for file in files)
    return Unit(
        label=str(files[0].parent),
        sha256=hashlib.sha256(repr(hashes).encode()).hexdigest(),
        format=format,
        size_bytes=sum(file.stat().st_size for file in files),
        files=tuple(sorted(map(str, files))),
    )


def _file_units(file: Path, format: str) -> Iterator[Unit]:
    unit = Unit(
        str(file), _sha256(file), format, file.stat().st_size, files=(str(file),)
    )
    with file.open("rb") as stream:
        head = stream.read(4)
    for magic, kind in _UNREADABLE.items():
        if head.startswith(magic):
            raise SourceError(
                f"{file} is {kind}; only JSON lines, plain or gzip, can be read."
            )
    try:
        members = _members(file) if head.startswith(ZIP) else None
    except (zipfile.BadZipFile, NotImplementedError):
        members = None  # `chunks` reports the damage
    if members is None:
        yield unit
        return
    for member in members:
        yield replace(
            unit,
            label=f"{file}!{member.filename}",
            sha256=hashlib.sha256(
                f"{unit.sha256}!{member.filename}".encode(errors="surrogatepass")
            ).hexdigest(),
            size_bytes=member.compress_size,
            member=member.filename,
        )


def _members(file: Path) -> list[zipfile.ZipInfo]:
    with zipfile.ZipFile(file) as archive:
        infos = {info.filename: info for info in archive.infolist()}
    return [
        infos[name]
        for name in sorted(infos)
        if not infos[name].is_dir() and not Path(name).name.startswith(".")
    ]


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# Detecting formats


def _with_formats(candidates: list[Unit]) -> list[Unit]:
    """Replace "auto" with the detected format.

    A unit without a readable row (empty, or damaged from the start) takes the most
    common format of the others, so that it is counted and blocks nothing.
    """
    formats: list[str | None] = [
        unit.format if unit.format != "auto" else _detected_format(unit)
        for unit in candidates
    ]
    known = Counter(format for format in formats if format)
    usual = known.most_common(1)[0][0] if known else LOOMLINE
    if usual in layouts() and layouts()[usual].read:
        usual = LOOMLINE
    return [
        replace(
            unit, format=format or _by_path(unit.label, layouts().values()) or usual
        )
        for unit, format in zip(candidates, formats, strict=True)
    ]


def _detected_format(unit: Unit) -> str | None:
    """Return the format of most of the first rows, or None without rows.

    Raises:
        SourceError: there are rows, but of no known format.
    """
    chunk = next(chunks(unit, _SNIFF_BYTES), None)
    if chunk is None or chunk.error is not None:
        return None
    lines = [line for line in chunk.data.split(b"\n") if line.strip()][:_SNIFF_ROWS]
    if not lines:
        return None
    alike = {
        layout: sum(_is_like(layout, line) for line in lines)
        for layout in layouts().values()
    }
    most = max(alike.values())
    calls = sum(map(_is_call, lines))
    if most and 2 * most > calls:
        best = [layout for layout, count in alike.items() if count == most]
        return _by_path(unit.label, best) or best[0].format
    if calls:
        return _by_path(unit.label, layouts().values()) or LOOMLINE
    raise SourceError(
        f"{unit.label} has no known format; name it with --format if it has one."
    )


def _is_like(layout: Layout, line: bytes) -> bool:
    try:
        return layout.looks_like(layout.decode(line))
    except (Undecodable, Untranslatable):
        return False


def _is_call(line: bytes) -> bool:
    try:
        value = decode_item(line)
    except Undecodable:
        return False
    if isinstance(value, list):
        value = value[0] if value else None
    return isinstance(value, dict) and not _CALL_KEYS.isdisjoint(value)


def _by_path(label: str, candidates: Iterable[Layout]) -> str | None:
    path = label.replace(os.sep, "/")
    matches = (c.format for c in candidates if c.path and c.path.search(path))
    return next(matches, None)
