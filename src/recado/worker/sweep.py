"""The sweep: what has come back through a retry topic and is done is deleted there, and stays committed.

Retry topics keep everything until then, however long a record waits. And a coordinator forgets the offsets of topics
that no member subscribes to after ``offsets.retention.minutes`` (7 days) without a commit: whoever reads them then
begins at the earliest record, which must be none that was done long ago.
"""

from __future__ import annotations

from collections.abc import Callable

from recado.kafka.abstract import Clients
from recado.record import TopicPartition
from recado.worker.epoch import Epoch
from recado.worker.holdings import Holdings

__all__ = ["Sweep"]

#: Rest between two sweeps, in seconds: each asks the leaders of the partitions that have moved.
SWEEP_EVERY_S = 30.0

#: A partition at rest is committed again so often, in seconds: far below the shortest retention that makes sense.
RENEW_EVERY_S = 3600.0


class Sweep:
    """Looks after the retry partitions that are held. Loop thread only."""

    def __init__(self, *, holdings: Holdings, clients: Callable[[], Clients], clock: Callable[[], float]) -> None:
        self._holdings = holdings
        self._clients = clients
        self._clock = clock
        self._sweep_at = clock() + SWEEP_EVERY_S
        self._renew_at = clock() + RENEW_EVERY_S
        self._swept: dict[TopicPartition, int] = {}

    def some(self) -> None:
        """Delete what is committed, and let commits be renewed, each when it is time. Never blocks."""
        now = self._clock()
        if now < self._sweep_at:
            return
        self._sweep_at = now + SWEEP_EVERY_S
        back = [epoch for epoch in self._holdings.epochs.values() if epoch.home != epoch.where]
        if now >= self._renew_at:
            self._renew_at = now + RENEW_EVERY_S
            for epoch in back:
                epoch.requested, epoch.asked_at = None, -1
        self._delete(back)

    def _delete(self, back: list[Epoch]) -> None:
        moved = {
            epoch.where: epoch.committed.offset
            for epoch in back
            if epoch.committed is not None and epoch.committed.offset > self._swept.get(epoch.where, 0)
        }
        if moved:
            self._swept.update(moved)
            self._clients().delete_before(moved)
