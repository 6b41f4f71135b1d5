"""A row of the spool: one record, with what the spool notes of it."""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple

import msgspec

from recado.record import Outgoing

__all__ = [
    "REFUSED",
    "ROW_BYTES",
    "TOPIC_BITS",
    "WAITING",
    "Extent",
    "Row",
    "Saved",
    "Unreadable",
    "decoded",
    "encoded",
]

#: A row's number is its topic's number, shifted by so many bits, plus its place: so one range holds one topic.
TOPIC_BITS = 40

#: What a row takes on disk beyond its record, in bytes (b-tree cell, number, time, checksum), rounded up.
ROW_BYTES = 40

#: States of a row: it waits for Kafka, or Kafka refused it and it waits for a person.
WAITING, REFUSED = 0, 1

_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.Decoder(Outgoing).decode


class Row(NamedTuple):
    """One record in the spool. ``kept_ms`` is when it was accepted, in milliseconds since the epoch."""

    seq: int
    record: Outgoing
    kept_ms: int
    state: int = WAITING
    reason: str = ""


class Unreadable(NamedTuple):
    """A row whose bytes are not those that were written."""

    seq: int


class Extent(NamedTuple):
    """What is waiting of one topic: rows and bytes, the lowest and highest row number, the oldest row's time."""

    topic: str
    number: int
    rows: int
    size_bytes: int
    lowest: int
    highest: int
    oldest_ms: int


#: (record, accepted at in ms since the epoch, state, reason): a row on its way into another file.
Saved = tuple[Outgoing, int, int, str]


def encoded(record: Outgoing) -> bytes:
    """The bytes of a record as the spool keeps them."""
    return _encode(record)


def decoded(crc: Any, body: Any) -> Outgoing | None:
    """The record whose bytes these are; None where they are not those that were written."""
    try:
        return _decode(body) if zlib.crc32(body) == crc else None
    except (TypeError, msgspec.MsgspecError):
        return None
