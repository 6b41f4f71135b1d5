"""Reports of success that are none: a broker took a record for a repeat of one that it has, and it may have none.

A broker takes any first sequence number of a producer that it does not know. So where it refuses a producer's first
records for a moment (too few replicas) and takes those behind them, the first ones, sent again, are lower than all that
it has: DUPLICATE_SEQUENCE_NUMBER, which librdkafka reports as success, without an offset. Seen in a torture: the record
was nowhere.
"""

from __future__ import annotations

from recado.errors import DeliveryUnknown
from recado.kafka.abstract import Message

__all__ = ["Repeats", "doubtful"]


def doubtful(topic: str) -> DeliveryUnknown:
    """What such a report means."""
    detail = "the broker took it for a repeat of a record that it has, and told no offset"
    return DeliveryUnknown(f"topic {topic}: {detail}. The record may or may not be in the topic.")


class Repeats:
    """Knows such reports. One thread only, which hears all reports of one producer in their order.

    Of a batch the first has no offset, and librdkafka counts on from there: 0, 1, and so on for the others.
    """

    def __init__(self) -> None:
        self._next: dict[tuple[str, int], int] = {}

    def has(self, message: Message) -> bool:
        """Whether this report of success tells of a repeat."""
        offset: int | None = message.offset()
        is_told = offset is not None and offset >= 0
        if is_told and not self._next:
            return False
        where = (message.topic(), message.partition())
        if not is_told:
            self._next[where] = 0
            return True
        if self._next.get(where) == offset:
            self._next[where] += 1
            return True
        self._next.pop(where, None)
        return False
