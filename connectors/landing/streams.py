"""The raw streams and their Parquet columns.

Timestamps are microseconds in UTC without a zone mark; JSON is text.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from connectors.events.canonical import Identifier
from connectors.events.rows import Admitted

__all__ = ["SCHEMAS", "UNREPEATED", "rows_table", "tables"]

_text = pa.string()
_instant = pa.timestamp("us")
_identifiers = pa.list_(
    pa.struct([("type", _text), ("value", _text), ("rule", pa.int32())])
)

SCHEMAS: dict[str, pa.Schema] = {
    "events": pa.schema(
        [
            ("message_id", _text),
            ("scope", _text),
            ("type", _text),
            ("event", _text),
            ("event_text", _text),
            ("name", _text),
            ("user_id", _text),
            ("anonymous_id", _text),
            ("distinct_id", _text),
            ("previous_id", _text),
            ("group_type", _text),
            ("group_id", _text),
            ("timestamp", _instant),
            ("original_timestamp", _instant),
            ("sent_at", _instant),
            ("received_at", _instant),
            ("skew_ms", pa.int64()),
            ("properties", _text),
            ("traits", _text),
            ("context", _text),
            ("integrations", _text),
            ("consent", _text),
            ("identifiers", _identifiers),
            ("source", _text),
            ("channel", _text),
            ("contract_version", pa.int32()),
            ("violations", _text),
            ("content_hash", _text),
            ("row_hash", _text),
        ]
    ),
    "received_counts": pa.schema(
        [
            ("segment", _text),
            ("source", _text),
            ("hour", _instant),
            ("items", pa.int64()),
        ]
    ),
    "dispositions": pa.schema(
        [
            ("message_id", _text),
            ("source", _text),
            ("channel", _text),
            ("received_at", _instant),
            ("disposition", _text),
            ("reason", _text),
            ("event", _text),
            ("payload", _text),
            ("replay_of", _text),
        ]
    ),
    "consent": pa.schema(
        [
            ("message_id", _text),
            ("scope", _text),
            ("source", _text),
            ("stated_at", _instant),
            ("received_at", _instant),
            ("identifiers", _identifiers),
            ("categories", _text),
        ]
    ),
    "acks": pa.schema(
        [
            ("acked_at", _instant),
            ("run_at", _instant),
            ("destination", _text),
            ("audience", _text),
            ("batch_key", _text),
            ("operation", _text),  # on the identifier: add | remove
            ("change", _text),  # of the member: add | remove | resend
            ("profile_id", _text),
            ("identifier_type", _text),
            ("identifier_hash", _text),
            ("identifier_sent", _text),
            ("level", _text),
        ]
    ),
    "runs": pa.schema(
        [
            ("run_at", _instant),
            ("destination", _text),
            ("audience", _text),
            ("eligible", pa.int64()),
            ("sendable", pa.int64()),
            ("unchanged", pa.int64()),
            ("added", pa.int64()),
            ("removed", pa.int64()),
            ("resent", pa.int64()),
            ("invalid", pa.int64()),
            ("refused", pa.int64()),
            ("pending", pa.int64()),
            ("matched", pa.int64()),
        ]
    ),
}

UNREPEATED = frozenset(
    (
        "message_id",
        "timestamp",
        "original_timestamp",
        "sent_at",
        "received_at",
        "content_hash",
        "row_hash",
        "payload",
        "batch_key",
        "identifier_hash",
    )
)
"""Columns whose values rarely repeat: without a dictionary they are written faster, and
a tenth smaller (measured on 10,000 generated events)."""

_encode = msgspec.json.encode


def tables(admitted: Admitted) -> dict[str, pa.Table]:
    """Return the rows one load adds to each stream; omits streams without rows."""
    rows: dict[str, Sequence[Sequence[Any]]] = {
        "events": admitted.events,
        "received_counts": [
            (*place, items) for place, items in sorted(admitted.received.items())
        ],
        "dispositions": admitted.dispositions,
        "consent": [(*row[:6], _encode(row.categories)) for row in admitted.consent],
    }
    return {
        stream: rows_table(stream, values) for stream, values in rows.items() if values
    }


def rows_table(stream: str, rows: Sequence[Sequence[Any]]) -> pa.Table:
    """Return rows in the stream's column order as a table."""
    schema = SCHEMAS[stream]
    columns = zip(*rows, strict=True) if rows else ((),) * len(schema)
    return pa.Table.from_arrays(
        [
            _column(values, column.type)
            for values, column in zip(columns, schema, strict=True)
        ],
        schema=schema,
    )


def _column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    return _nested(values) if kind == _identifiers else pa.array(values, kind)


def _nested(rows: Iterable[list[Identifier]]) -> pa.Array:
    # From flat columns: ten times as fast as from nested lists.
    offsets = [0]
    flat: list[Identifier] = []
    for row in rows:
        flat += row
        offsets.append(len(flat))
    types, values, rules = zip(*flat, strict=True) if flat else ((), (), ())
    members = pa.StructArray.from_arrays(
        [pa.array(types, _text), pa.array(values, _text), pa.array(rules, pa.int32())],
        fields=list(_identifiers.value_type),
    )
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), members)
