"""When a record was accepted: by its id where that tells, else by its timestamp (pure)."""

from __future__ import annotations

from recado.kafka.abstract import Message
from recado.record import HEADER_ID
from recado.worker.returned import Returned, origin_of

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
    by_id, stamped = _time_in_id(message), origin_of(message).timestamp_ms
    if not 0 < by_id <= now_ms:
        return stamped
    if stamped > now_ms or message.timestamp()[0] == LOG_APPEND_TIME:
        return by_id
    return max(by_id, stamped)


def came_ms(message: Message, now_ms: int) -> int:
    """Since when a record has been there to be handled: like ``accepted_ms``, but a retry's waiting does not count."""
    if isinstance(message, Returned):
        kind, timestamp_ms = message.timestamp()
        return timestamp_ms if kind else -1
    return accepted_ms(message, now_ms)


def _time_in_id(message: Message) -> int:
    for name, value in reversed(message.headers() or ()):
        if name == HEADER_ID:
            if value is None or len(value) != ID_CHARS or value[14:15] != b"7":
                return -1
            try:
                return int(value[:8] + value[9:13], 16)
            except ValueError:
                return -1
    return -1
