"""Ahead: which parked records a full worker has no room to read yet, by their keys and places (``parking.py``).

It may not wait with what it has until it has read the rest; and of a key an earlier record may stand behind a later
one there, where a producer was late. So the rest is looked through once, without keeping it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import structlog

from recado.kafka.abstract import Message, Reader
from recado.record import TopicPartition
from recado.worker.partition.epoch import Epoch
from recado.worker.partition.returned import Returned, returned

__all__ = ["Ahead"]

log = structlog.get_logger(__name__)

#: Records that are looked at in one turn of the loop: it has others to serve.
LOOK_AT = 2_000

#: How long Kafka may be silent before it is given up, in seconds.
SILENT_S = 15.0


class Ahead:
    """Looks through retry partitions beyond what was read of them. Loop thread only; never blocks."""

    def __init__(self, *, reader: Callable[[], Reader], clock: Callable[[], float]) -> None:
        self._connect = reader
        self._clock = clock
        self._reader: Reader | None = None
        self._looking: dict[TopicPartition, Epoch] = {}
        self._seen: set[Epoch] = set()
        self._heard_at = 0.0

    @property
    def is_looking(self) -> bool:
        """Whether it wants to be asked for more soon."""
        return bool(self._looking)

    def look(self, epochs: Iterable[Epoch]) -> bool:
        """Begin with those that are new; whether all of them were looked through."""
        found = set(epochs)
        if begun := found - self._seen - set(self._looking.values()):
            self._reader = self._reader or self._connect()
            self._heard_at = self._clock()
            self._reader.add({epoch.where: epoch.tracker.last + 1 for epoch in begun})
            self._looking.update({epoch.where: epoch for epoch in begun})
        return found <= self._seen

    def some(self) -> list[tuple[Epoch, Returned]]:
        """Some more of the parked records that their stays have not read yet."""
        if not self._looking or self._reader is None:
            return []
        messages, ends = self._reader.read(LOOK_AT, 0.0)
        now = self._clock()
        if messages or ends:
            self._heard_at = now
        unread = [found for message in messages if (found := self._unread(message)) is not None]
        over = {where for where, epoch in self._looking.items() if where in ends or epoch.fenced}
        if now - self._heard_at > SILENT_S:
            over = set(self._looking)
            log.warning("what is parked cannot be looked through", topics=" ".join(sorted({w.topic for w in over})))
        if over:
            self._reader.drop(sorted(over))
            self._seen.update(self._looking.pop(where) for where in over)
            self._seen = {epoch for epoch in self._seen if not epoch.fenced}
        return unread

    def close(self) -> None:
        """Look no more."""
        if self._reader is not None:
            self._reader.close()

    def _unread(self, message: Message) -> tuple[Epoch, Returned] | None:
        epoch = self._looking.get(TopicPartition(message.topic(), message.partition()))
        if epoch is None or message.offset() <= epoch.tracker.last or not epoch.reads(message.offset()):
            return None
        found = returned(message, epoch.group, epoch.home)
        return (epoch, found) if found is not None and found.history.parked else None
