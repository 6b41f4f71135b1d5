"""Commits of the delay line: the lowest offset that has not moved on; what lies behind it is deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from recado.kafka.abstract import Clients, Committed, Consumer
from recado.outcomes.delay_hold import Stay
from recado.record import TopicPartition

__all__ = ["DelayCommits"]

#: Rest between two commits, in milliseconds: what a kill -9 repeats at most.
COMMIT_EVERY_MS = 100

#: Commits without an answer yet; more would pile up while the coordinator is away.
MAX_UNANSWERED = 50

#: Rest between two deletions of what has moved on, in milliseconds: the disk gives back whole segments only.
PURGE_EVERY_MS = 60_000


class DelayCommits:
    """Tells the coordinator how far each partition is. Line thread only."""

    def __init__(
        self,
        *,
        consumer: Consumer,
        clients: Clients,
        stays: Mapping[TopicPartition, Stay],
        clock_ms: Callable[[], int],
    ) -> None:
        self._consumer = consumer
        self._clients = clients
        self._stays = stays
        self._clock_ms = clock_ms
        self._commit_at_ms = 0
        self._purge_at_ms = clock_ms() + PURGE_EVERY_MS
        self._unanswered = 0

    def commit_some(self) -> None:
        """Commit what has moved, if the last commit is long enough ago."""
        now_ms = self._clock_ms()
        # A clock that was set back must not put off commits by as much.
        if 0 < self._commit_at_ms - now_ms <= COMMIT_EVERY_MS or self._unanswered >= MAX_UNANSWERED:
            return
        self._commit_at_ms = now_ms + COMMIT_EVERY_MS
        moved = {}
        for stay in self._stays.values():
            position = stay.tracker.position()
            if position is not None and position != stay.requested:
                moved[stay.where] = Committed(position)
        if moved and self._consumer.commit(moved, wait=False):
            self._unanswered += 1
            for where, committed in moved.items():
                self._stays[where].requested = committed.offset
        if not 0 < self._purge_at_ms - now_ms <= PURGE_EVERY_MS:
            self._purge_at_ms = now_ms + PURGE_EVERY_MS
            self._purge()

    def commit_all(self, stays: Iterable[Stay]) -> bool:
        """Commit what is not known to be committed, and wait for the coordinator's answer."""
        moved = {}
        for stay in stays:
            position = stay.tracker.position()
            if position is not None and position != stay.committed:
                moved[stay.where] = Committed(position)
        if not moved:
            return True
        done = self._consumer.commit(moved, wait=True)
        self._note({where: committed.offset for where, committed in moved.items()}, done)
        return done

    def told(self, offsets: Mapping[TopicPartition, int], ok: bool) -> None:
        """What came of a commit without waiting. One that failed is carried by the next."""
        self._unanswered = max(0, self._unanswered - 1)
        self._note(offsets, ok)

    def _note(self, offsets: Mapping[TopicPartition, int], ok: bool) -> None:
        for where, offset in offsets.items():
            stay = self._stays.get(where)
            if stay is None:
                continue
            if ok:
                stay.committed = offset
            elif stay.requested == offset:
                stay.requested = stay.committed

    def _purge(self) -> None:
        """Only below what is committed: nobody will ask for it again."""
        behind = {}
        for stay in self._stays.values():
            if stay.committed is not None and stay.committed > stay.purged:
                behind[stay.where] = stay.purged = stay.committed
        if behind:
            self._clients.delete_before(behind)
