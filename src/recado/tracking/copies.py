"""Copies of a group's records: what waits in its retry topics and on the way there, and its dead letters."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import chain
from typing import NamedTuple

from pyroaring import BitMap64

from recado.kafka.abstract import Message
from recado.kafka.headers import headers_of
from recado.kafka.scan import Range
from recado.outcomes.delay import opened
from recado.outcomes.group_topics import (
    DEAD_LETTER,
    dead_letter_topic,
    is_group_topic,
    retry_topic,
    source_of_letters,
)
from recado.outcomes.history import Failure, History, history_of
from recado.outcomes.letter import Letter, letter_of
from recado.outcomes.settled import What
from recado.record import TopicPartition, id_in
from recado.settings import is_topic_name
from recado.tracking.find import known_ms
from recado.tracking.look import Look, Progress

__all__ = [
    "Copy",
    "Source",
    "dead",
    "delayed",
    "deleted_letters",
    "letter_copy",
    "source_by_id",
    "source_of",
    "sources",
    "waiting",
]

#: How far the clock of whoever sent a record may be ahead of a worker's that copies it, in milliseconds.
AHEAD_MS = 600_000


class Source(NamedTuple):
    """Where a record stood first, and the group that has a copy of it ("": that does not tell)."""

    group: str
    where: TopicPartition
    offset: int
    #: The id of its topic; empty where nothing tells.
    topic_id: str


class Copy(NamedTuple):
    """A copy, where it lies, and the record that it is one of."""

    at: TopicPartition
    offset: int
    #: Where the record stood first.
    partition: int
    first: int
    attempts: int
    failures: tuple[Failure, ...]
    #: When its next attempt is due, in milliseconds since the epoch; 0 where it is not waiting for a time.
    due_ms: int
    #: How a dead letter is settled; None where it is not, or is none.
    settled: What | None = None
    #: The id of the record's topic; empty where nothing tells.
    topic_id: str = ""


def waiting(look: Look, group: str, topic: str, progress: Progress | None = None) -> Iterator[Copy]:
    """What is not done in the retry topic."""
    ranges = look.waiting(group, look.partitions(retry_topic(group, topic)))
    for message in look.read(ranges, progress):
        where = TopicPartition(message.topic(), message.partition())
        if not look.reached(group, where).covers(message.offset()):
            yield from _copy(message, history_of(message), group, topic)


def delayed(look: Look, group: str, topic: str, progress: Progress | None = None) -> Iterator[Copy]:
    """What is on its way into the retry topic, also where somebody has deleted that: it comes back when it is there."""
    target = retry_topic(group, topic)
    for message in look.read(look.delayed(), progress):
        ticket = opened(headers_of(message))
        if ticket is not None and ticket.topic == target:
            yield from _copy(message, history_of(message), group, topic)


def dead(look: Look, group: str, topic: str, sent_ms: int = 0, progress: Progress | None = None) -> Iterator[Copy]:
    """The dead letters of a topic, of records that were sent at ``sent_ms`` or later."""
    partitions = look.partitions(dead_letter_topic(group, topic))
    ends = look.ends(partitions)
    firsts = _firsts(look, partitions, sent_ms)
    ranges: Mapping[TopicPartition, Range] = {where: Range(firsts.get(where, 0), end) for where, end in ends.items()}
    settled = look.settled(group)
    for message in look.read(ranges, progress):
        how = settled.of(message.topic(), message.partition(), message.offset())
        if (history := history_of(message)) is not None:
            yield from _copy(message, history, group, topic, how)
            continue
        letter = letter_of(message)  # of another family, or another program
        if letter.source_topic == topic and letter.group in ("", group) and letter.source_offset >= 0:
            yield _of_letter(letter, how)


def letter_copy(look: Look, source: Source, message: Message) -> Copy | None:
    """What a dead letter tells, whichever family of headers it has; None where it is no dead letter."""
    if not message.topic().startswith(DEAD_LETTER):
        return None
    letter = letter_of(message)
    how = look.settled(source.group).of(letter.topic, letter.partition, letter.offset)
    return _of_letter(letter, how, source.topic_id)


def _of_letter(letter: Letter, how: What | None, topic_id: str = "") -> Copy:
    where = TopicPartition(letter.topic, letter.partition)
    first = (letter.source_partition, letter.source_offset)
    return Copy(where, letter.offset, *first, letter.attempts, letter.failures, 0, how, topic_id)


def source_of(message: Message) -> Source | None:
    """Where the record stood first that this is a copy of; None where nothing tells."""
    told = letter_of(message)  # what waits for a retry tells it in the same way
    if not is_topic_name(told.source_topic) or told.source_partition < 0 or told.source_offset < 0:
        return None
    history = history_of(message)
    where = TopicPartition(told.source_topic, told.source_partition)
    group = _group_of(message.topic(), told.source_topic, told.group)
    return Source(group, where, told.source_offset, history.topic_id if history is not None else "")


def _group_of(copies: str, topic: str, told: str) -> str:
    """The group whose copies of a topic are here: the one that is told, unless the name says that it is another."""
    named = copies.removeprefix(DEAD_LETTER).removesuffix(f".{topic}")
    if copies != f"{DEAD_LETTER}{named}.{topic}" or (told and source_of_letters(copies, told) == topic):
        return told
    return named


def source_by_id(look: Look, topic: str, id_: str, sent_ms: int, progress: Progress | None = None) -> Source | None:
    """Where the record of this id stood first, as the copies tell that any group has of it; None: there are none."""
    found = (source for message, source in sources(look, topic, sent_ms, progress) if id_in(headers_of(message)) == id_)
    return next(found, None)


def sources(
    look: Look, topic: str, sent_ms: int = 0, progress: Progress | None = None
) -> Iterator[tuple[Message, Source]]:
    """The copies that any group has of a topic's records, also after it was deleted, and where each stood first."""
    names = [name for name in sorted(look.counts) if is_group_topic(name) and name.endswith(f".{topic}")]
    partitions = [where for name in names for where in look.partitions(name)]
    firsts, ends = _firsts(look, partitions, sent_ms), look.ends(partitions)
    ranges = {where: Range(firsts.get(where, 0), end) for where, end in ends.items()}
    for message in chain(look.read(ranges, progress), look.read(look.delayed(), progress)):
        source = source_of(message)
        if source is not None and source.where.topic == topic:
            yield message, source


def deleted_letters(look: Look, group: str, topic: str, *, but: Collection[What]) -> dict[TopicPartition, BitMap64]:
    """The offsets of dead letters that Kafka has deleted, ``but`` those that were settled so; by partition."""
    begins = look.admin.begins(look.partitions(dead_letter_topic(group, topic)))
    settled = look.settled(group)
    found = {where: settled.others(*where, begin, than=but) for where, begin in begins.items() if begin}
    return {where: offsets for where, offsets in found.items() if offsets}


def _firsts(look: Look, partitions: list[TopicPartition], sent_ms: int) -> dict[TopicPartition, int]:
    """Before where no copy lies of what was sent at a time, or later."""
    since_ms = known_ms(sent_ms) - AHEAD_MS
    return look.admin.since(partitions, since_ms) if since_ms > 0 else look.admin.begins(partitions)


def _copy(
    message: Message, history: History | None, group: str, topic: str, settled: What | None = None
) -> Iterator[Copy]:
    if history is not None and (history.group, history.topic) == (group, topic):
        where = TopicPartition(message.topic(), message.partition())
        yield Copy(
            at=where,
            offset=message.offset(),
            partition=history.partition,
            first=history.offset,
            attempts=history.attempts,
            failures=history.failures,
            due_ms=history.due_ms,
            settled=settled,
            topic_id=history.topic_id,
        )
