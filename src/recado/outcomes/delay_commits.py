"""Commits of the delay line: the lowest offset that has not moved on; what lies behind it is deleted."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from recado.kafka.abstract import Clients, Consumer
from recado.outcomes.delay_hold import Stay
from recado.outcomes.offset_commits import OffsetCommits
from recado.record import TopicPartition

__all__ = ["DelayCommits"]

#: Rest between two commits, in milliseconds: what a kill -9 repeats at most.
COMMIT_EVERY_MS = 100

#: Commits without an answer yet; more would pile up while the coordinator is away.
MAX_UNANSWERED = 50

#: Rest between two deletions of what has moved on, in milliseconds: the disk gives back whole segments only.
PURGE_EVERY_MS = 60_000


class DelayCommits(OffsetCommits):
    """Tells the coordinator how far each partition is. Line thread only."""

    def __init__(
        self,
        *,
        consumer: Consumer,
        clients: Clients,
        stays: Mapping[TopicPartition, Stay],
        clock_ms: Callable[[], int],
    ) -> None:
        super().__init__(
            consumer=consumer, partitions=stays, clock=clock_ms, every=COMMIT_EVERY_MS, max_unanswered=MAX_UNANSWERED
        )
        self._clients = clients
        self._stays = stays
        self._clock_ms = clock_ms
        self._purge_at_ms = clock_ms() + PURGE_EVERY_MS

    def commit_some(self) -> bool:
        """Commit what has moved, if it is time; now and then delete what lies behind."""
        if not super().commit_some():
            return False
        now_ms = self._clock_ms()
        if not 0 < self._purge_at_ms - now_ms <= PURGE_EVERY_MS:
            self._purge_at_ms = now_ms + PURGE_EVERY_MS
            self._purge()
        return True

    def _purge(self) -> None:
        """Only below what is committed: nobody will ask for it again."""
        behind = {}
        for stay in self._stays.values():
            if stay.committed is not None and stay.committed.offset > stay.purged:
                behind[stay.where] = stay.purged = stay.committed.offset
        if behind:
            self._clients.delete_before(behind)
