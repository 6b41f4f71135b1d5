"""Finding a record by its id: the time in the id says where to look first."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from recado.clock import wall_clock_ms
from recado.kafka.abstract import Message
from recado.kafka.headers import headers_of
from recado.kafka.scan import Range
from recado.record import HEADER_ID, TopicPartition, id_in
from recado.tracking.look import Look, Progress

__all__ = ["find", "id_of", "known_ms", "time_of"]

#: Around the time in an id, in milliseconds before and after: first where a record stands that went straight to Kafka,
#: then for clocks that differ and brokers that were slow.
WINDOWS_MS = ((200, 1_000), (30_000, 60_000))

#: The bits of a UUIDv7 below its time (RFC 9562, section 5.7).
BELOW_TIME = 80


def time_of(id_: str) -> int | None:
    """When an id was given, in milliseconds since the epoch: a UUIDv7 tells, any other does not."""
    try:
        found = uuid.UUID(id_)
    except ValueError:
        return None
    return found.int >> BELOW_TIME if found.version == 7 else None


def known_ms(sent_ms: int) -> int:
    """When a record was sent, as its sender tells; 0 where that clock is ahead of ours, so that it may be any time."""
    return 0 if sent_ms > wall_clock_ms() else sent_ms


def id_of(message: Message) -> str:
    """A record's id, or where it stands where it has none."""
    return id_in(headers_of(message)) or f"{message.topic()}/{message.partition()}/{message.offset()}"


def find(look: Look, topic: str, id_: str, since_ms: int, progress: Progress | None = None) -> Message | None:
    """The first record of a topic with an id, which was sent at about ``since_ms`` or later; None where there is none.

    Reads from there to the end, the most likely part first, and last what stands behind an open transaction: its end is
    waited for. One whose timestamp its sender chose to be earlier is not found. Raises RecadoError.
    """
    wanted = id_.encode()
    for ranges in _ranges(look, look.partitions(topic), since_ms):
        for message in look.read(ranges, progress):
            for name, value in headers_of(message):
                if value == wanted and name == HEADER_ID:
                    return message
    return None


def _ranges(look: Look, partitions: list[TopicPartition], since_ms: int) -> Iterator[dict[TopicPartition, Range]]:
    """What is to be read, widening; nothing twice."""
    ends, stable = look.admin.ends(partitions), look.admin.stable_ends(partitions)
    read: dict[TopicPartition, Range] = {}
    for before_ms, after_ms in WINDOWS_MS:
        firsts = look.admin.since(partitions, max(0, since_ms - before_ms))
        lasts = look.admin.since(partitions, since_ms + after_ms)
        window = {
            where: Range(min(first, stable[where]), min(lasts.get(where, first), stable[where]))
            for where, first in firsts.items()
            if where in stable
        }
        if not read:
            yield window
        else:
            yield {where: Range(span.first, read[where].first) for where, span in window.items() if where in read}
            yield {where: Range(read[where].end, span.end) for where, span in window.items() if where in read}
        read.update(window)
    yield {where: Range(span.end, stable[where]) for where, span in read.items()}
    # Who reads committed records is told nothing of what stands behind an open transaction, not even that it is there.
    behind = {where: Range(stable[where], end) for where, end in ends.items() if stable.get(where, end) < end}
    look.ends(behind)
    yield behind
