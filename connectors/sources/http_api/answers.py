"""HTTP answers in the form SDKs read, with the headers browsers need."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import msgspec

__all__ = [
    "JSON",
    "UNAUTHORIZED",
    "UNKNOWN_PATH",
    "Answer",
    "Refused",
    "cors",
    "error",
    "json_answer",
    "send_answer",
]

Headers = list[tuple[bytes, bytes]]

JSON = (b"content-type", b"application/json")

# Every header that recorded browser SDKs send. `*` would not cover `authorization`
# (Fetch standard), without which two of them send nothing.
_ALLOWED = (
    b"authorization, content-type, content-encoding, anonymousid, sentat, "
    b"x-retry-count, x-write-key, x-ip-policy, x-enable-debug, x-loomline-receipts, "
    b"rsa-retry-attempt, rsa-retry-reason, rsa-since-first-attempt, "
    b"rsa-since-last-attempt, rsa-recovered, posthog-sdk-info, posthog-attempt, "
    b"posthog-request-id, posthog-request-timestamp"
)
_PREFLIGHT: Headers = [
    (b"access-control-allow-methods", b"GET, HEAD, POST, OPTIONS"),
    (b"access-control-allow-headers", _ALLOWED),
    (b"access-control-max-age", b"86400"),
]
_EXPOSED = (b"access-control-expose-headers", b"Retry-After")
_ANY_ORIGIN = (b"access-control-allow-origin", b"*")
_VARY = (b"vary", b"Origin")
_CREDENTIALS = (b"access-control-allow-credentials", b"true")


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: Sequence[tuple[bytes, bytes]] = (JSON,)


class Refused(Exception):
    """The request as a whole is answered with an error."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def json_answer(value: Any, status: int = 200) -> Answer:
    return Answer(status, msgspec.json.encode(value))


def error(
    status: int, code: str, message: str, *, retry_after_s: int | None = None
) -> Answer:
    """Return an error, repeated in every field SDKs read.

    Segment's and RudderStack's Python clients print `code` and `message`, PostHog's
    `detail`; RudderStack's raises an error of its own without `code`.
    """
    body = {
        "success": False,
        "code": code,
        "message": message,
        "detail": message,
        "error": message,
        "status": status,
    }
    headers = [JSON]
    if retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % retry_after_s))
    return Answer(status, msgspec.json.encode(body), headers)


def cors(origin: bytes | None, *, is_preflight: bool = False) -> Headers:
    """Return headers that let pages of any site send events and read the answer.

    Write keys are not session secrets and cookies are never read, so any origin is
    allowed; one that sends credentials (a beacon does) must be named.
    """
    if origin is None:
        return [_ANY_ORIGIN]
    headers = [
        (b"access-control-allow-origin", origin),
        _VARY,
        _CREDENTIALS,
        _EXPOSED,
    ]
    return headers + _PREFLIGHT if is_preflight else headers


async def send_answer(
    send: Callable[[dict[str, Any]], Awaitable[None]],
    answer: Answer,
    method: str,
    more: Sequence[tuple[bytes, bytes]] = (),
) -> None:
    """Send an answer, with extra headers; a HEAD request gets no body."""
    headers = [*answer.headers, (b"content-length", b"%d" % len(answer.body)), *more]
    body = b"" if method == "HEAD" else answer.body
    start = {"type": "http.response.start", "status": answer.status, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": body})


UNKNOWN_PATH = error(404, "not_found", "This path does not exist.")
UNAUTHORIZED = error(401, "invalid_write_key", "The write key is missing or unknown.")
