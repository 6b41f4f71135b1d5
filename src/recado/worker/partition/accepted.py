"""When a record was accepted: by its id where that tells, else by its timestamp (pure)."""

from __future__ import annotations

from collections.abc import Sequence

from recado.kafka.abstract import Message
from recado.kafka.headers import headers_of
from recado.record import HEADER_ID
from recado.worker.partition.returned import Returned

__all__ = ["accepted_ms", "came_ms"]

#: The length of an id that recado gives: a UUIDv7, whose first twelve digits are milliseconds (RFC 9562, section 5.7).
ID_CHARS = 36

#: Kafka's type of a timestamp that the broker gave when it stored the record.
LOG_APPEND_TIME = 2


def accepted_ms(message: Message, now_ms: int) -> int:
    """When recado accepted a record, in milliseconds since the epoch; -1 where nothing tells.

    Its id tells it also where the sender chose another timestamp. A delayed record is accepted when it lands, which is
    its timestamp then. One that comes back for another attempt was accepted when it came first.
    """
    kind, stamped = message.timestamp()
    if isinstance(message, Returned):
        stamped = message.history.timestamp_ms
    elif not kind:
        stamped = -1
    headers = headers_of(message)
    by_id = _time_in_id(headers) if headers else -1
    if not 0 < by_id <= now_ms:
        return stamped
    return by_id if stamped > now_ms or kind == LOG_APPEND_TIME else max(by_id, stamped)


def came_ms(message: Message, now_ms: int) -> int:
    """Since when a record has been there to be handled: like ``accepted_ms``, but a retry's waiting does not count."""
    if isinstance(message, Returned):
        kind, timestamp_ms = message.timestamp()
        return timestamp_ms if kind else -1
    return accepted_ms(message, now_ms)


def _time_in_id(headers: Sequence[tuple[str, bytes | None]]) -> int:
    for name, value in reversed(headers):
        if name == HEADER_ID:
            if value is None or len(value) != ID_CHARS or value[14:15] != b"7":
                return -1
            try:
                return int(value[:8] + value[9:13], 16)
            except ValueError:
                return -1
    return -1
