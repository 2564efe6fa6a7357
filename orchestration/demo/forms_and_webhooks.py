"""HTTP requests of the shop: Stripe deliveries and newsletter forms."""

import hashlib
import hmac
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pyarrow.compute as pc
import pyarrow.parquet as pq

from connectors.errors import LandingError
from connectors.home import Home
from connectors.ingest.importing import Imported
from connectors.ingest.inbox import land_inbox
from connectors.landing.manifest import Manifest
from orchestration.demo.truth import Identifier

__all__ = [
    *("FILE", "NEWSLETTER", "STRIPE", "Request", "collect", "collector"),
    *("expected_of", "form", "read_requests", "send", "stripe_event"),
    "stripe_signature",
]

FILE = "requests.ndjson"
STRIPE = "/v1/webhooks/stripe"
NEWSLETTER = "/v1/forms/newsletter"

# The collector stops when its standard input closes, so also if the demo is killed. An
# orphan would keep the lock of the demo's home.
_UNTIL_STDIN_CLOSES = (
    'exec 3<&0; { cat <&3; kill $$; } >/dev/null 2>&1 & exec "$0" "$@" 3<&-'
)


class Request(msgspec.Struct, frozen=True):
    """One request and its expected disposition."""

    path: str
    content: dict[str, Any]  # Stripe's JSON, or the fields of a form
    expected: str | None  # disposition; None: refused and not counted
    reveals: tuple[Identifier, ...] = ()  # one person's, strongest first


def stripe_event(
    number: int,
    kind: str,
    at: int,
    holds: dict[str, Any],
    reveals: tuple[Identifier, ...],
    *,
    expected: str | None = "admitted",
    is_live: bool = True,
) -> Request:
    """Return Stripe's request about an object at `at`, epoch ms."""
    event = {
        "id": f"evt_{number:012x}",
        "object": "event",
        "type": kind,
        "created": at // 1000,
        "livemode": is_live,
        "data": {"object": holds},
    }
    return Request(STRIPE, event, expected, reveals)


def form(
    fields: dict[str, str],
    reveals: tuple[Identifier, ...] = (),
    expected: str = "admitted",
) -> Request:
    """Return a newsletter form as a browser sends it."""
    return Request(NEWSLETTER, fields, expected, reveals)


def expected_of(requests: Iterable[Request]) -> dict[str, dict[str, int]]:
    """Return the expected counts of items: path → disposition → count."""
    by_path: dict[str, Counter[str]] = {}
    for request in requests:
        if request.expected is not None:
            by_path.setdefault(request.path, Counter())[request.expected] += 1
    return {path: dict(counts) for path, counts in sorted(by_path.items())}


def read_requests(folder: Path) -> list[Request]:
    """Read the requests of a generated folder."""
    return msgspec.json.Decoder(Request).decode_lines((folder / FILE).read_bytes())


def stripe_signature(secret: str, body: bytes, at: int) -> str:
    """Return the signature header of a delivery, following Stripe's documentation.

    Shares no code with the verification (docs.stripe.com/webhooks/signature, "Verify
    webhook signatures manually", read 2026-11-30).
    """
    signed = str(at).encode("ascii") + b"." + body
    mac = hmac.new(secret.encode("utf-8"), signed, hashlib.sha256)
    return f"t={at},v1={mac.hexdigest()}"


def send(
    url: str,
    requests: Iterable[Request],
    secret: str,
    *,
    clock: Callable[[], float] = time.time,
) -> None:
    """Send all requests to a collector; sign Stripe's with the secret.

    Raises:
        LandingError: a request got an unexpected answer.
    """
    with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
        for request in requests:
            is_forged = request.expected is None
            if request.path == STRIPE:
                body = msgspec.json.encode(request.content)
                signer = "whsec_of_a_stranger" if is_forged else secret
                headers = {
                    "content-type": "application/json",
                    "stripe-signature": stripe_signature(signer, body, int(clock())),
                }
                answer = client.post(request.path, content=body, headers=headers)
            else:
                answer = client.post(request.path, data=request.content)
            if answer.is_error if not is_forged else answer.status_code != 401:
                raise LandingError(
                    f"The collector answered {request.path} with {answer.status_code}."
                )


def collect(
    home: Home,
    project_path: Path,
    folder: Path,
    secret: str,
    *,
    say: Callable[[str], None] = lambda message: None,
) -> Imported:
    """Send the requests of a generated folder to a collector and land them, once.

    Stopped at any point and called again, it sends only the rest.

    Raises:
        LandingError: the collector does not start, or refuses a request.
    """
    done = folder / "sent"
    requests = read_requests(folder)
    landed = Imported()
    if done.exists() or not requests:
        return landed
    say(f"Sending {len(requests):,} webhook deliveries and forms to a collector …")
    with collector(project_path) as url:
        # Only now has a collector of an earlier attempt ended: it had the home's lock.
        landed.add(land_inbox(home, project_path, on_problem=say))
        send(url, _after(requests, _count_received(home)), secret)
    landed.add(land_inbox(home, project_path, on_problem=say))
    done.touch()
    return landed


def _count_received(home: Home) -> int:
    """Count the landed items of webhooks and forms."""
    return sum(
        pq.read_table(
            home.raw / file.path,
            columns=["channel"],
            filters=pc.field("channel").isin(["webhook", "form"]),
        ).num_rows
        for file in Manifest(home).files()
        if file.stream == "dispositions"
    )


def _after(requests: list[Request], received: int) -> list[Request]:
    """Return the requests after the first `received` that leave an item."""
    leaving = [n for n, one in enumerate(requests, 1) if one.expected is not None]
    answered = leaving[:received]
    return requests[answered[-1] :] if answered else requests


@contextmanager
def collector(project_path: Path) -> Iterator[str]:
    """Run a collector on the configured home, on a free port; yield its URL.

    Raises:
        LandingError: the collector did not start; it has printed the reason.
    """
    loomline = str(Path(sys.executable).parent / "loomline")
    command = [loomline, "collect", "--port", "0", "--admin-port", "0"]
    with subprocess.Popen(
        ["sh", "-c", _UNTIL_STDIN_CLOSES, *command],
        cwd=project_path,
        env={**os.environ, "NEWSLETTER_FORM": "on"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("Collecting at "):
            raise LandingError(
                "The demo's collector did not start; see the error above. If "
                "`make dev` is running, stop it and run the demo again."
            )
        try:
            yield line.split()[-1]
        finally:
            process.stdin.close()
            process.wait()
