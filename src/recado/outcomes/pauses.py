"""Which assigned partitions rest: the consumer is told only what changes, since pausing drops what was fetched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from recado.kafka.abstract import Consumer
from recado.record import TopicPartition

__all__ = ["Pauses"]


class Pauses:
    """The partitions of one consumer that are paused. Belongs to the consumer's thread."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._paused: set[TopicPartition] = set()

    def __iter__(self) -> Iterator[TopicPartition]:
        return iter(self._paused)

    def only(self, wanted: set[TopicPartition]) -> None:
        """Pause these and no others; the set is kept, so make a new one for each call."""
        if more := wanted - self._paused:
            self._consumer.pause(sorted(more))
        if fewer := self._paused - wanted:
            self._consumer.resume(sorted(fewer))
        self._paused = wanted

    def add(self, partitions: Iterable[TopicPartition]) -> None:
        """Pause these, too; the consumer hears of it even where that is nothing new."""
        more = [where for where in partitions if where not in self._paused]
        self._consumer.pause(more)
        self._paused.update(more)

    def forget(self, where: TopicPartition) -> None:
        """A partition is no longer ours: it is not paused when it comes back (``Consumer.pause``)."""
        self._paused.discard(where)
