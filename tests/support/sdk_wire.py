"""Requests recorded from real SDKs."""

import base64
import gzip
import json
import zlib
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.support import PROJECT

__all__ = ["RECORDED", "body", "scenarios"]

RECORDED = sorted((PROJECT / "tests/fixtures/sdk_wire").glob("*.ndjson"))


def body(request: dict[str, Any]) -> bytes:
    """The request's bytes; what compressed them is told by their beginning alone."""
    if "body_base64" not in request:
        return json.dumps(request["body_json"]).encode()
    data = base64.b64decode(request["body_base64"])
    if data.startswith(b"\x1f\x8b"):
        return gzip.decompress(data)
    if data.startswith(b"\x28\xb5\x2f\xfd"):
        zstd: bytes = pa.input_stream(pa.py_buffer(data), compression="zstd").read()
        return zstd
    return zlib.decompress(data) if data.startswith(b"\x78") else data


def scenarios(path: Path) -> dict[str, list[dict[str, Any]]]:
    found = defaultdict(list)
    for line in path.read_text().splitlines():
        request = json.loads(line)
        if "event_ids" in request:  # else it asked for settings
            found[request["scenario"]].append(request)
    return found
