"""Commits: explicit offsets, a few times a second without waiting, and once with waiting at the end of a stay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from recado.kafka.abstract import Committed, Consumer
from recado.outcomes.offsets import OffsetTracker
from recado.record import TopicPartition

__all__ = ["OffsetCommits", "Tracked", "how_far"]


class Tracked(Protocol):
    """A partition with what is done of it, and how far that was committed."""

    where: TopicPartition
    tracker: OffsetTracker
    #: The last commit asked for, and the last that Kafka confirmed; None before the first.
    requested: Committed | None
    committed: Committed | None
    #: The tracker's count of changes when a commit was asked for last.
    asked_at: int
    #: Whether only transactions commit it.
    transactional: bool


class OffsetCommits:
    """Tells the coordinator how far each partition is: the lowest offset that is not done, and what is done beyond it.

    One thread only.

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
            if tracked.tracker.changes != tracked.asked_at and not tracked.transactional:
                tracked.asked_at = tracked.tracker.changes
                now_at = how_far(tracked)
                if now_at is not None and now_at != tracked.requested:
                    moved[tracked.where] = now_at
        if moved and self._consumer.commit(moved, wait=False):
            self._unanswered += 1
            for where, committed in moved.items():
                self._partitions[where].requested = committed
        elif moved:
            for where in moved:
                self._partitions[where].asked_at = -1
        return True

    def commit_all(self, partitions: Iterable[Tracked]) -> bool:
        """Commit what is not known to be committed, and wait for the coordinator's answer."""
        moved = {}
        for tracked in partitions:
            now_at = how_far(tracked)
            if now_at is not None and now_at != tracked.committed:
                moved[tracked.where] = now_at
        if not moved:
            return True
        done = self._consumer.commit(moved, wait=True)
        self.note(moved, done)
        return done

    def told(self, offsets: Mapping[TopicPartition, Committed], ok: bool) -> None:
        """What came of a commit without waiting. One that failed is carried by the next."""
        self._unanswered = max(0, self._unanswered - 1)
        self.note(offsets, ok)

    def note(self, offsets: Mapping[TopicPartition, Committed], ok: bool) -> None:
        """What came of any commit."""
        for where, committed in offsets.items():
            tracked = self._partitions.get(where)
            if tracked is None:
                continue
            if ok:
                tracked.committed = committed
            elif tracked.requested == committed:
                tracked.requested, tracked.asked_at = tracked.committed, -1


def how_far(tracked: Tracked) -> Committed | None:
    """What is to be committed of a partition; None while nothing is known."""
    position = tracked.tracker.position()
    return None if position is None else Committed(position, tracked.tracker.map_text(position))
