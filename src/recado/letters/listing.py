"""The dead letters of a group by kind, and the newest of those that are meant."""

from __future__ import annotations

import heapq
from collections.abc import Mapping

import msgspec

from recado.kafka.scan import SPARING, Range
from recado.letters.desk import check_topic
from recado.letters.filter import Filter
from recado.outcomes.glance import Glance, glance_of
from recado.outcomes.letter_kinds import Kind, Kinds
from recado.record import TopicPartition
from recado.tracking.look import Look, Progress

__all__ = ["NEWEST", "Line", "Listing", "listing"]

#: Letters that a list reads where nothing is said: with a stack of 2 KB each they were there in 0.2 s, from a broker
#: that had just started. 10,000 took 0.3 s.
NEWEST = 3_000


class Line(msgspec.Struct, frozen=True, gc=False, order=True):
    """One dead letter in a list: when it became one (milliseconds since the epoch), its place and what failed."""

    timestamp_ms: int
    #: As TOPIC/PARTITION/OFFSET.
    letter: str
    fingerprint: str
    error: str


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """What was found. ``total`` are all that are not settled, by offsets: transaction markers count, too."""

    group: str
    total: int
    settled: int
    #: How many unsettled ones were read (of another group, too, where two share a topic), and how many are meant.
    read: int
    matched: int
    kinds: list[Kind]
    #: The newest that are meant, the newest first.
    letters: list[Line]


def listing(
    look: Look, group: str, wanted: Filter, *, limit: int | None, show: int = 0, progress: Progress | None = None
) -> Listing:
    """List the newest ``limit`` letters, or all where it is None; ``show`` is how many are told one by one.

    Memory does not grow with the letters. Raises UnknownTopic and other RecadoErrors.
    """
    check_topic(look, group, wanted.topic)
    spans = _spans(look, group, wanted.topic)
    settled = look.settled(group)
    begins: dict[str, dict[int, int]] = {}
    for where, span in spans.items():
        begins.setdefault(where.topic, {})[where.partition] = span.first
    gone = sum(sum(settled.count(topic, firsts).values()) for topic, firsts in begins.items())
    kinds, newest = Kinds(), _Newest(show)
    read = 0
    for message in look.read(_wanted(look, spans, wanted, limit), progress, pace=SPARING):
        if settled.of(message.topic(), message.partition(), message.offset()) is not None:
            continue
        read += 1
        if wanted.means(message, group):
            glance = glance_of(message)
            if glance.group in ("", group):
                kinds.add(glance)
                newest.add(glance)
    return Listing(
        group=group,
        total=sum(span.end - span.first for span in spans.values()) - gone,
        settled=gone,
        read=read,
        matched=kinds.seen,
        kinds=kinds.newest_first(),
        letters=newest.lines(),
    )


class _Newest:
    """Keeps the newest few."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._heap: list[Line] = []

    def add(self, glance: Glance) -> None:
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, _line(glance))
        elif self._most and glance.timestamp_ms >= self._heap[0].timestamp_ms:
            heapq.heapreplace(self._heap, _line(glance))

    def lines(self) -> list[Line]:
        return sorted(self._heap, reverse=True)


def _line(glance: Glance) -> Line:
    return Line(glance.timestamp_ms, glance.place, glance.fingerprint, glance.error)


def _spans(look: Look, group: str, source: str) -> dict[TopicPartition, Range]:
    """What each partition with letters of the group holds, of one source topic where it is named."""
    partitions = look.letter_partitions(group, source)
    begins, ends = look.admin.begins(partitions), look.admin.ends(partitions)
    return {where: Range(begins.get(where, 0), end) for where, end in ends.items()}


def _wanted(
    look: Look, spans: Mapping[TopicPartition, Range], wanted: Filter, limit: int | None
) -> dict[TopicPartition, Range]:
    """What is read of it: the newest, and nothing that died before the time that is asked for."""
    firsts = look.admin.since(list(spans), wanted.since) if wanted.since else {}
    each = None if limit is None else -(-limit // max(1, len(spans)))
    return {
        where: Range(max(span.first, firsts.get(where, 0), 0 if each is None else span.end - each), span.end)
        for where, span in spans.items()
    }
