"""Commits: explicit offsets, a few times a second without waiting, and once with waiting at the end of a stay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from recado.kafka.abstract import Committed, Consumer
from recado.record import TopicPartition
from recado.telemetry.metrics import WORKER_COMMITS
from recado.worker.epoch import Epoch
from recado.worker.holdings import Holdings

__all__ = ["Commits"]

#: Rest between two commits in seconds: what a kill -9 repeats at most, while the coordinator sees few requests.
COMMIT_EVERY_S = 0.1

#: Commits without an answer yet: they would pile up while the coordinator is away. Answers come in the same queue as
#: records that were fetched ahead, so in good times too there may be some seconds' worth.
MAX_UNANSWERED = 100


class Commits:
    """Tells the coordinator how far each partition is: the lowest offset that is not done. Loop thread only."""

    def __init__(self, *, consumer: Consumer, holdings: Holdings, clock: Callable[[], float]) -> None:
        self._consumer = consumer
        self._holdings = holdings
        self._clock = clock
        self._next_at = 0.0
        self._unanswered = 0

    def commit_some(self) -> None:
        """Commit what has moved, if the last commit is long enough ago; ``told`` hears what came of it."""
        now = self._clock()
        if now < self._next_at or self._unanswered >= MAX_UNANSWERED:
            return
        self._next_at = now + COMMIT_EVERY_S
        moved = {}
        for epoch in self._holdings.epochs.values():
            position = epoch.tracker.position()
            if position is not None and position != epoch.requested:
                moved[epoch.where] = Committed(position)
        if moved and self._consumer.commit(moved, wait=False):
            self._unanswered += 1
            for where, committed in moved.items():
                self._holdings.epochs[where].requested = committed.offset

    def commit_all(self, epochs: Iterable[Epoch]) -> bool:
        """Commit what is not known to be committed, and wait for the coordinator's answer."""
        moved = {}
        for epoch in epochs:
            position = epoch.tracker.position()
            if position is not None and position != epoch.committed:
                moved[epoch.where] = Committed(position)
        if not moved:
            return True
        done = self._consumer.commit(moved, wait=True)
        self.told({where: committed.offset for where, committed in moved.items()}, done)
        return done

    def told(self, offsets: Mapping[TopicPartition, int], ok: bool) -> None:
        """What came of a commit. One that failed is carried by the next."""
        self._unanswered = max(0, self._unanswered - 1)
        WORKER_COMMITS.labels("ok" if ok else "failed").inc()
        for where, offset in offsets.items():
            epoch = self._holdings.get(where)
            if epoch is None:
                continue
            if ok:
                epoch.committed = offset
            elif epoch.requested == offset:
                epoch.requested = epoch.committed
