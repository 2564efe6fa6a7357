"""One asset per audience and destination, which delivers the changes."""

import time
from collections.abc import Iterable, Iterator, Mapping

import dagster as dg

from connectors.destinations.settings import Settings
from orchestration.audiences import Audience
from orchestration.pipeline.delivery import Push
from orchestration.pipeline.run import Run

__all__ = ["SYNC_DELTA", "push_assets", "push_keys"]

SYNC_DELTA = dg.AssetKey(["destinations", "sync_delta"])

Event = dg.MaterializeResult[None] | dg.AssetCheckResult


def push_assets(
    audiences: Mapping[str, Audience],
    destinations: Mapping[str, Settings],
    checked: Iterable[dg.AssetKey],
) -> list[dg.AssetsDefinition]:
    """Return assets `destination/audience`; checks of `checked` tables can stop them.

    Each destination also has an asset that empties the lists of audiences that are no
    longer synced there.
    """
    after = [SYNC_DELTA, *checked]
    return [
        _push(name, settings, audience, after)
        for name, settings in destinations.items()
        for audience in [*audiences.values(), None]
        if audience is None or name in audience.sync_to
    ]


def push_keys(
    audiences: Mapping[str, Audience], destinations: Iterable[str]
) -> list[dg.AssetKey]:
    """Return the keys of the assets of `push_assets`."""
    return [
        _key(name, audience)
        for name in destinations
        for audience in [*audiences.values(), None]
        if audience is None or name in audience.sync_to
    ]


def _key(destination: str, audience: Audience | None) -> dg.AssetKey:
    return dg.AssetKey([destination, audience.name if audience else "no_longer_synced"])


def _push(
    destination: str,
    settings: Settings,
    audience: Audience | None,
    after: list[dg.AssetKey],
) -> dg.AssetsDefinition:
    key = _key(destination, audience)
    about = (
        f"{audience.name} at {destination}"
        if audience
        else f"Lists at {destination} of audiences that are no longer synced there"
    )
    deps = after
    if audience:
        deps = [dg.AssetKey(["audiences", audience.name]), *after]

    @dg.asset(
        key=key,
        deps=deps,
        group_name="destinations",
        description=f"{about}. Delivers the changes and records the confirmed ones.",
        owners=[f"team:{audience.owner}"] if audience and audience.owner else None,
        kinds={settings.kind},
        pool="warehouse",
        required_resource_keys={"run"},
        check_specs=[
            dg.AssetCheckSpec(
                "confirmed",
                asset=key,
                description="The destination has confirmed every change.",
            )
        ],
    )
    def push(context: dg.AssetExecutionContext) -> Iterator[Event]:
        run: Run = context.resources.run
        started = time.monotonic()
        pushes = run.push(destination, audience.name if audience else None)
        seconds = time.monotonic() - started
        yield dg.MaterializeResult(metadata=_metadata(pushes, seconds))
        reasons = [push.held_back for push in pushes if push.held_back]
        yield dg.AssetCheckResult(
            check_name="confirmed",
            passed=not reasons,
            description="; ".join(sorted({*reasons})) or "Every change is confirmed.",
        )

    return push


def _metadata(pushes: list[Push], seconds: float) -> dict[str, int | float]:
    """Return counts of people over all lists; `size` is their current total."""

    def total(name: str) -> int:
        return sum(getattr(push, name) for push in pushes)

    eligible = sum(push.sync.eligible for push in pushes)
    sendable = sum(push.sync.sendable for push in pushes)
    before = sum(push.sync.held for push in pushes)
    matched = [push.matched for push in pushes if push.matched is not None]
    return {
        "eligible": eligible,
        "sendable": sendable,
        "unchanged": total("unchanged"),
        "added": total("added"),
        "removed": total("removed"),
        "resent": total("resent"),
        "refused": total("refused"),
        "pending": total("pending"),
        "size": before + total("added") - total("removed"),
        "seconds": round(seconds, 3),
    } | ({"matched": sum(matched)} if matched else {})
