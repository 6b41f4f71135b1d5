"""The record: what a handler is given, and the values around it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

__all__ = ["HEADER_CONTENT_TYPE", "HEADER_ID", "Headers", "Outgoing", "Record", "TopicPartition"]

#: Header that carries a record's id through every topic; a UUIDv7 unless the sender chose one.
HEADER_ID = "recado-id"

#: Header that carries the media type of a value sent as a raw body.
HEADER_CONTENT_TYPE = "content-type"

#: Kafka headers are an ordered list of pairs; a name may stand more than once.
Headers = tuple[tuple[str, bytes | None], ...]


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record as a handler sees it. Immutable, so it may be shared between threads.

    ``timestamp_ms`` is Kafka's record timestamp in milliseconds since the epoch (UTC), or -1 where the
    record has none. ``attempt`` is 1 on the first try.
    """

    value: bytes | None = None
    topic: str = ""
    partition: int = 0
    offset: int = 0
    timestamp_ms: int = -1
    key: bytes | None = None
    headers: Headers = ()
    attempt: int = 1
    group: str = ""

    @property
    def timestamp(self) -> datetime:
        """Kafka's record timestamp as an aware datetime in UTC (the epoch where the record has none)."""
        return datetime.fromtimestamp(max(self.timestamp_ms, 0) / 1000, UTC)

    @property
    def id(self) -> str:
        """The ``recado-id`` header, or ``topic/partition/offset`` for a record that recado did not send."""
        found = self.header(HEADER_ID)
        return found.decode("utf-8", "replace") if found else f"{self.topic}/{self.partition}/{self.offset}"

    def header(self, name: str) -> bytes | None:
        """Return the last value of the header ``name``, or None."""
        for key, value in reversed(self.headers):
            if key == name:
                return value
        return None

    def text(self) -> str:
        """Decode the value as UTF-8. A tombstone is ``""``; UnicodeDecodeError where it is not UTF-8."""
        return (self.value or b"").decode("utf-8")

    def json(self) -> Any:
        """Decode the value as JSON. A tombstone is None; ``msgspec.DecodeError`` where it is not JSON."""
        return None if self.value is None else msgspec.json.decode(self.value)


class Outgoing(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One record on its way to Kafka, already checked: building it again would give the same bytes."""

    topic: str
    value: bytes | None
    id: str
    key: bytes | None = None
    headers: list[tuple[str, bytes]] = []
    #: -1 lets the producer's partitioner choose.
    partition: int = -1
    #: 0 lets the producer stamp the record when it takes it.
    timestamp_ms: int = 0
    #: The id is its sender's: a record with the same one is not sent twice within 24 hours.
    is_own_id: bool = False
    #: The sender's words for when it shall be delivered, "" where there are none: part of what a request is.
    due_as_sent: str = ""
