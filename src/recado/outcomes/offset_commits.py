"""Commits: explicit offsets, a few times a second without waiting, and once with waiting at the end of a stay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from recado.kafka.abstract import Committed, Consumer
from recado.outcomes.offsets import OffsetTracker
from recado.record import TopicPartition

__all__ = ["OffsetCommits", "Tracked"]


class Tracked(Protocol):
    """A partition with what is done of it, and how far that was committed."""

    where: TopicPartition
    tracker: OffsetTracker
    #: The offset of the last commit asked for, and of the last that Kafka confirmed; None before the first.
    requested: int | None
    committed: int | None


class OffsetCommits:
    """Tells the coordinator how far each partition is: the lowest offset that is not done. One thread only.

    ``every`` is the rest between two commits, in the unit of ``clock``. ``partitions`` are those held now.
    """

    def __init__(
        self,
        *,
        consumer: Consumer,
        partitions: Mapping[TopicPartition, Tracked],
        clock: Callable[[], float],
        every: float,
        max_unanswered: int,
    ) -> None:
        self._consumer = consumer
        self._partitions = partitions
        self._clock = clock
        self._every = every
        self._max_unanswered = max_unanswered
        self._next_at = 0.0
        self._unanswered = 0

    def commit_some(self) -> bool:
        """Commit what has moved, if the last commit is long enough ago; ``told`` hears what came of it.

        Tells whether it was time.
        """
        now = self._clock()
        # A wall clock that was set back must not put off commits by as much.
        if 0 < self._next_at - now <= self._every or self._unanswered >= self._max_unanswered:
            return False
        self._next_at = now + self._every
        moved = {}
        for tracked in self._partitions.values():
            position = tracked.tracker.position()
            if position is not None and position != tracked.requested:
                moved[tracked.where] = Committed(position)
        if moved and self._consumer.commit(moved, wait=False):
            self._unanswered += 1
            for where, committed in moved.items():
                self._partitions[where].requested = committed.offset
        return True

    def commit_all(self, partitions: Iterable[Tracked]) -> bool:
        """Commit what is not known to be committed, and wait for the coordinator's answer."""
        moved = {}
        for tracked in partitions:
            position = tracked.tracker.position()
            if position is not None and position != tracked.committed:
                moved[tracked.where] = Committed(position)
        if not moved:
            return True
        done = self._consumer.commit(moved, wait=True)
        self.note({where: committed.offset for where, committed in moved.items()}, done)
        return done

    def told(self, offsets: Mapping[TopicPartition, int], ok: bool) -> None:
        """What came of a commit without waiting. One that failed is carried by the next."""
        self._unanswered = max(0, self._unanswered - 1)
        self.note(offsets, ok)

    def note(self, offsets: Mapping[TopicPartition, int], ok: bool) -> None:
        """What came of any commit."""
        for where, offset in offsets.items():
            tracked = self._partitions.get(where)
            if tracked is None:
                continue
            if ok:
                tracked.committed = offset
            elif tracked.requested == offset:
                tracked.requested = tracked.committed
