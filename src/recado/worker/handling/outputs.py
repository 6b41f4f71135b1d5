"""What a handler hands back: records to be sent, or nothing."""

from __future__ import annotations

import hashlib
import inspect
from collections import Counter
from collections.abc import Sequence
from typing import Any

from recado.errors import HandlerError
from recado.kafka.abstract import Message
from recado.kafka.headers import headers_of
from recado.outcomes.values import shown
from recado.record import HEADER_ID, HEADER_TRACEPARENT, Outgoing, Record, Sent, as_bytes
from recado.settings import is_topic_name
from recado.worker.partition.epoch import Epoch
from recado.worker.partition.returned import origin_of

__all__ = ["outgoing", "returned"]


def returned(result: Any) -> list[Record]:
    """The records that a handler returned: one, or a list or tuple of them. What else it returns means nothing.

    Raises HandlerError for an awaitable: a coroutine that nobody awaits has done nothing, so it is no success.
    """
    if isinstance(result, Record):
        return [result]
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise HandlerError("it returned an awaitable that nobody would await; declare it with `async def`")
    if not isinstance(result, (list, tuple)) or not any(isinstance(one, Record) for one in result):
        return []
    if not all(isinstance(one, Record) for one in result):
        raise HandlerError("it returned a list of which some are no Record; return only records, or none")
    return list(result)


def outgoing(epoch: Epoch, messages: Sequence[Message], sent: Sequence[Sent], back: Sequence[Record]) -> list[Outgoing]:
    """What is to be sent for records that a handler was given: what it sent, then what it returned.

    Raises HandlerError for what can be sent nowhere.
    """
    by_origin = {origin_of(message)[:3]: message for message in messages}
    pairs: list[tuple[Message, Record]] = []
    for source, record in sent:
        message = by_origin.get((source.topic, source.partition, source.offset))
        if message is None:
            place = f"{source.topic}/{source.partition}/{source.offset}"
            raise HandlerError(f"record.send was called on {place} after its handler had returned")
        pairs.append((message, record))
    pairs += [(messages[0], record) for record in back]
    counts: Counter[int] = Counter()
    found = []
    for message, record in pairs:
        counts[message.offset()] += 1
        found.append(_outgoing(epoch, message, record, counts[message.offset()]))
    return found


def _outgoing(epoch: Epoch, source: Message, record: Record, number: int) -> Outgoing:
    if not is_topic_name(record.topic):
        raise HandlerError(f"it sends a record to {record.topic!r}, which is no topic name")
    if (record.topic, record.partition, record.offset) == origin_of(source)[:3]:
        raise HandlerError("it returned the record that it was given, which would come again and again")
    _check(record)
    given = dict(headers_of(source))
    own = dict(record.headers).get(HEADER_ID)
    if own is None or own == given.get(HEADER_ID):  # one that it has from its source is the source's
        own = _derived_id(epoch, source, number).encode()
    headers = [(name, value) for name, value in record.headers if name != HEADER_ID]
    trace = given.get(HEADER_TRACEPARENT)
    if trace is not None and not any(name == HEADER_TRACEPARENT for name, _ in headers):
        headers.append((HEADER_TRACEPARENT, trace))
    return Outgoing(
        record.topic,
        as_bytes(record.value),
        own.decode("utf-8", "replace"),
        as_bytes(record.key),
        [(HEADER_ID, own), *headers],
        timestamp_ms=max(record.timestamp_ms, 0),
    )


def _check(record: Record) -> None:
    """Raise ValueError for what no record in Kafka can hold: the client would refuse it when nobody can answer."""
    if not isinstance(record.timestamp_ms, int) or record.timestamp_ms >= 2**63:
        raise ValueError(f"it sends a record with timestamp_ms={shown(record.timestamp_ms)}, which is no int64")
    for name, value in record.headers:
        is_text = isinstance(name, str) and name.encode("utf-8", "ignore").decode() == name
        if not is_text or not (value is None or isinstance(value, bytes)):
            raise ValueError(
                f"it sends a record with the header {shown(name)}: {shown(value)}, which is no text: bytes"
            )


def _derived_id(epoch: Epoch, source: Message, number: int) -> str:
    """A UUIDv7 (RFC 9562) that is the same whenever this group handles this record again: its time is the record's."""
    topic, partition, offset, timestamp_ms = origin_of(source)
    timestamp_ms = max(timestamp_ms, 0) % (1 << 48)
    place = f"{epoch.group}\0{topic}\0{partition}\0{offset}\0{timestamp_ms}\0{number}"
    chance = int.from_bytes(hashlib.blake2b(place.encode(), digest_size=10).digest())
    bits = timestamp_ms << 80 | 0x7 << 76 | (chance >> 68) << 64 | 0b10 << 62 | chance & (1 << 62) - 1
    digits = f"{bits:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
