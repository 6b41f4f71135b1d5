"""What makes a request or a record the same as an earlier one (pure)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from recado.gateway.delaying import destination
from recado.gateway.problem import Problem
from recado.outcomes.delay import Delayed, opened
from recado.record import Outgoing

__all__ = ["Key", "record_keys", "request_key"]

#: Headers that differ between two tries of the same request: its trace, and what recado works out from the clock.
_VOLATILE = ("traceparent", "tracestate", "recado-")

_encode = msgspec.msgpack.encode


class Key(NamedTuple):
    """``name`` may be used once in 24 hours, with the content of ``digest``, for the records at ``indices``."""

    name: str
    digest: bytes
    indices: tuple[int, ...]
    #: The field that gave it, for a person.
    field: str


def request_key(key: str, body_digest: bytes, count: int) -> list[Key]:
    """The header ``Idempotency-Key``: one key for all records of the request."""
    return [Key(f"key:{key}", body_digest, tuple(range(count)), "idempotency-key")]


def record_keys(records: Sequence[Outgoing], own: Sequence[int]) -> list[Key]:
    """The field ``id``: one key for each record that has its sender's id. Raises Problem where one stands twice."""
    seen: dict[tuple[str, str], int] = {}
    keys = []
    for index in own:
        record = records[index]
        topic, _ = destination(record)
        earlier = seen.setdefault((topic, record.id), index)
        if earlier != index:
            detail = f"id: {record.id!r} stands at records {earlier} and {index}; it must name one."
            raise Problem(422, "invalid-field", "A field is wrong", detail, field="id", index=index)
        keys.append(Key(f"id:{topic}:{record.id}", _digest(record), (index,), "id"))
    return keys


def _digest(record: Outgoing) -> bytes:
    headers = [pair for pair in record.headers if not pair[0].startswith(_VOLATILE)]
    topic, partition = destination(record)
    content = (topic, record.value, record.key, headers, partition, _stamp_ms(record))
    digest = hashlib.sha256(_encode(content)).digest()
    # The words, not the moment: a relative delay means another one with each try, and a moment may be due by now.
    return digest + hashlib.sha256(record.due_as_sent.encode()).digest() if record.due_as_sent else digest


def _stamp_ms(record: Outgoing) -> int:
    """The timestamp that the sender asked for."""
    if not isinstance(record, Delayed):
        return record.timestamp_ms
    ticket = opened(tuple(record.headers))
    return ticket.timestamp_ms if ticket is not None else 0
