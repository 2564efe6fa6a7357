"""Generates a seeded event stream of a fictional B2B shop, and its true identities.

The stream is a sequence of blocks of about 100 people and 2,000 events. Each block has
every case: wrong clocks, shared tablets, placeholder ids, shared mailboxes, two
accounts with one email address, company changes. Larger streams have more blocks, so
proportions are the same at any size, and only one block is in memory (plus the truth).

Lines are joined from pieces of JSON instead of encoded from objects, which is several
times faster. Each piece is a constant or contains only letters, digits and `-_.@+ `.
"""

import gc
import gzip
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from orchestration.demo.forms_and_webhooks import FILE, expected_of
from orchestration.demo.shop import Shop
from orchestration.demo.truth import Truth
from orchestration.demo.vocabulary import AS_OF, PLACEHOLDERS

__all__ = ["AS_OF", "PLACEHOLDERS", "generate"]

_RENEWED = '"event":"demo_subscription_renewed"'
_REFUSED = '"amount":"'  # text in the only event with an amount; must be a number


def generate(
    folder: Path,
    *,
    events: int,
    seed: int,
    as_of: tuple[datetime, datetime] = AS_OF,
    compress: bool = True,
) -> Truth:
    """Write `slice-1` and `slice-2` (.ndjson.gz), requests and the truth to a folder.

    Slice 1 has the events received before `as_of[0]`, slice 2 those from then until
    `as_of[1]`; lines in a file are unordered. Writes exactly `events` lines, including
    resent ones. The same arguments give the same bytes. Without `compress`, the files
    are plain `.ndjson`.

    Raises:
        ValueError: `as_of` is not two increasing instants with a time zone, or
            `events` is negative.
    """
    if any(moment.tzinfo is None for moment in as_of) or as_of[0] >= as_of[1]:
        raise ValueError(
            "as_of must be two instants with a time zone, the earlier first."
        )
    if events < 0:
        raise ValueError(f"events is {events}, but must not be negative.")
    folder.mkdir(parents=True, exist_ok=True)
    world = Shop(as_of, seed)
    renewals: Counter[str] = Counter()
    with ExitStack() as stack:
        stack.enter_context(_without_cycle_search())
        files = [_open(stack, folder, number, compress) for number in (1, 2)]
        for chunk in _chunks(world, events):
            for file, lines in zip(files, chunk, strict=True):
                text = "".join(lines)
                refused = text.count(_REFUSED)
                renewals["quarantined"] += refused
                renewals["admitted"] += text.count(_RENEWED) - refused
                file.write(text.encode("ascii"))
    requests = msgspec.json.Encoder().encode_lines(world.requests)
    (folder / FILE).write_bytes(requests)
    truth = Truth(
        people=tuple(world.people),
        shared_devices=tuple(world.shared_devices),
        hub_emails=tuple(world.hub_emails),
        expected={
            "demo_subscription_renewed": dict(renewals),
            **expected_of(world.requests),
        },
    )
    truth.save(folder / "truth.json")
    return truth


@contextmanager
def _without_cycle_search() -> Iterator[None]:
    """Disable the garbage collector, since the generator creates no cycles.

    Over 300,000 events: 122,000 events/s with it, 152,000 without.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _chunks(world: Shop, events: int) -> Iterator[tuple[list[str], list[str]]]:
    """Yield the lines of both slices, about 2,000 at a time, `events` in total.

    A script that would exceed the total is removed as a whole, so that no person is
    incomplete; anonymous browsers fill the rest.
    """
    first, second = lines = world.slices
    kept: tuple[list[object], ...] = cast(
        "tuple[list[object], ...]",
        (
            *(first, second, world.people, world.shared_devices, world.hub_emails),
            world.requests,
        ),
    )
    units = world.units()
    filling = False
    left = events
    while (room := left - len(first) - len(second)) > 0:
        lengths = [len(items) for items in kept]
        if filling:
            world.browser(min(room, 8))
        else:
            next(units)()
        if len(first) + len(second) > left:
            filling = True
            for items, length in zip(kept, lengths, strict=True):
                del items[length:]
        elif len(first) + len(second) > 2_000:
            left -= len(first) + len(second)
            yield lines
            first.clear()
            second.clear()
    yield lines


def _open(stack: ExitStack, folder: Path, number: int, compress: bool) -> BinaryIO:
    """Open a slice for writing; remove the other format of an earlier call."""
    plain, packed = (folder / f"slice-{number}.ndjson{end}" for end in ("", ".gz"))
    if not compress:
        packed.unlink(missing_ok=True)
        return stack.enter_context(plain.open("wb"))
    plain.unlink(missing_ok=True)
    raw = stack.enter_context(packed.open("wb"))
    # No name or time in the header, so that the same events give the same bytes.
    return cast(
        "BinaryIO",
        stack.enter_context(
            gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0)
        ),
    )
