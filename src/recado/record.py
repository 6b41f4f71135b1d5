"""The record: what a handler is given, and the values around it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from recado.done_rows import insert
from recado.errors import HandlerError

__all__ = [
    "HEADER_CONTENT_TYPE",
    "HEADER_ID",
    "HEADER_TRACEPARENT",
    "OUTBOX",
    "Headers",
    "Outgoing",
    "Record",
    "Sent",
    "TopicPartition",
    "id_in",
    "name_of",
    "place_of",
]

#: Header that carries a record's id through every topic; a UUIDv7 unless the sender chose one.
HEADER_ID = "recado-id"

#: Header that carries the media type of a value sent as a raw body.
HEADER_CONTENT_TYPE = "content-type"

#: Header that carries a W3C trace context (https://www.w3.org/TR/trace-context/).
HEADER_TRACEPARENT = "traceparent"

#: Kafka headers are an ordered list of pairs; a name may stand more than once.
Headers = tuple[tuple[str, bytes | None], ...]


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


#: So many digits as no partition (int32) and no offset (int64) needs more of.
_PLACE = re.compile(r"([^/]+)/(\d{1,9})/(\d{1,18})", re.ASCII)


def place_of(text: str) -> tuple[TopicPartition, int] | None:
    """The partition and the offset that TOPIC/PARTITION/OFFSET names; None where the text is no place."""
    found = _PLACE.fullmatch(text)
    if found is None:
        return None
    topic, partition, offset = found.groups()
    return TopicPartition(topic, int(partition)), int(offset)


def name_of(where: TopicPartition, offset: int) -> str:
    """A place as TOPIC/PARTITION/OFFSET, without zeros in front."""
    return f"{where.topic}/{where.partition}/{offset}"


def id_in(headers: Sequence[tuple[str, bytes | None]] | None) -> str:
    """The id that a record's headers carry; empty where they carry none."""
    for name, value in reversed(headers or ()):
        if name == HEADER_ID and value:
            return value.decode("utf-8", "replace")
    return ""


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

    def send(
        self,
        topic: str,
        value: Any,
        *,
        key: str | bytes | None = None,
        headers: Mapping[str, str | bytes] | Iterable[tuple[str, str | bytes | None]] = (),
    ) -> None:
        """Produce a record to ``topic`` as this one's outcome. Only inside this record's handler; never blocks.

        It is sent when the handler has returned (a handler that fails sends nothing), and this record's offset is
        committed only after Kafka has confirmed it. A string ``value`` becomes its UTF-8 bytes, bytes stay, None is a
        tombstone, anything else is JSON. Its ``recado-id`` is made of this record's place, so that an attempt after
        a crash sends the same id; ``traceparent`` goes on. Raises HandlerError outside a handler.
        """
        outbox = OUTBOX.get(None)
        if outbox is None:
            raise HandlerError("record.send works inside a handler; elsewhere, recado.Sender sends.")
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        named = tuple((name, value.encode() if isinstance(value, str) else value) for name, value in pairs)
        outbox.append(Sent(self, Record(as_bytes(value), topic, key=as_bytes(key), headers=named)))

    def offset_in(self, connection: Any) -> None:
        """Say in the user's own SQL transaction that this record is done, so that its effects there happen once.

        ``connection`` is a DB-API connection (sqlite3, psycopg, psycopg2) or one of SQLAlchemy's, in a transaction
        that the handler commits; the table ``recado_done`` is there (``recado.offset_table``). Raises AlreadyDone
        where an earlier call, perhaps of a process that was killed then, has committed it: let that pass, and the
        worker counts the record as done. Blocks while another transaction is about to commit the same record.
        """
        given = self.header(HEADER_ID)
        # A topic that is made anew has other records at the same places.
        known_as = given.decode("utf-8", "replace") if given else f"{self.id}@{self.timestamp_ms}"
        insert(
            connection,
            group=self.group,
            record_id=known_as,
            topic=self.topic,
            partition=self.partition,
            offset=self.offset,
        )


class Sent(NamedTuple):
    """A record that a handler sends, and the one that it was given."""

    source: Record
    record: Record


#: What the handler that runs in this context has sent, to be given to Kafka when it returns; unset elsewhere.
OUTBOX: ContextVar[list[Sent]] = ContextVar("recado-outbox")


def as_bytes(value: Any) -> bytes | None:
    """A value as Kafka stores it: a string's UTF-8, bytes as they are, None as a tombstone, else compact JSON.

    Raises TypeError for what JSON cannot say.
    """
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    return msgspec.json.encode(value)


class Outgoing(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One record on its way to Kafka, already checked: building it again would give the same bytes."""

    topic: str
    value: bytes | None
    id: str
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes | None]] = []
    #: -1 lets the producer's partitioner choose.
    partition: int = -1
    #: 0 lets the producer stamp the record when it takes it.
    timestamp_ms: int = 0
    #: The id is its sender's: a record with the same one is not sent twice within 24 hours.
    is_own_id: bool = False
    #: The sender's words for when it shall be delivered, "" where there are none: part of what a request is.
    due_as_sent: str = ""
