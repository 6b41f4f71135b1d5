"""The sweep: what has come back through a retry topic and is done is deleted there, and stays committed.

Retry topics keep everything until then, however long a record waits. And a coordinator forgets the offsets of topics
that no member subscribes to after ``offsets.retention.minutes`` (7 days) without a commit: whoever reads them then
begins at the earliest record, which must be none that was done long ago.

Where another group may have a retry topic of the same name, each deletes its own records only, up to the first one of
the other: so they come to the end of it in turns.
"""

from __future__ import annotations

from collections.abc import Callable

from recado.kafka.abstract import Clients, Reader
from recado.outcomes.group_topics import may_be_shared
from recado.record import TopicPartition
from recado.worker.handling.holdings import Holdings
from recado.worker.partition.epoch import Epoch
from recado.worker.partition.returned import returned

__all__ = ["Sweep"]

#: Rest between two sweeps, in seconds: each asks the leaders of the partitions that have moved.
SWEEP_EVERY_S = 30.0

#: A partition at rest is committed again so often, in seconds: far below the shortest retention that makes sense.
RENEW_EVERY_S = 3600.0

#: Records that are looked at in one turn of the loop: it has others to serve.
LOOK_AT = 500


class Sweep:
    """Looks after the retry partitions that are held. Loop thread only."""

    def __init__(
        self,
        *,
        group: str,
        holdings: Holdings,
        clients: Callable[[], Clients],
        reader: Callable[[], Reader],
        clock: Callable[[], float],
    ) -> None:
        self._group = group
        self._holdings = holdings
        self._clients = clients
        self._connect = reader
        self._reader: Reader | None = None
        self._clock = clock
        self._sweep_at = clock() + SWEEP_EVERY_S
        self._renew_at = clock() + RENEW_EVERY_S
        self._swept: dict[TopicPartition, int] = {}
        #: Partitions of which it is read now whose their records are, and how far they are committed.
        self._looking: dict[TopicPartition, tuple[Epoch, int]] = {}

    def some(self) -> None:
        """Delete what is committed, and let commits be renewed, each when it is time. Never blocks."""
        if self._looking and self._reader is not None:
            self._look(self._reader)
        now = self._clock()
        if now < self._sweep_at:
            return
        self._sweep_at = now + SWEEP_EVERY_S
        back = [epoch for epoch in self._holdings.epochs.values() if epoch.home != epoch.where]
        if now >= self._renew_at:
            self._renew_at = now + RENEW_EVERY_S
            self._swept.clear()  # what was in the way may be gone
            for epoch in back:
                epoch.requested, epoch.asked_at = None, -1
        self._delete(back)

    def close(self) -> None:
        """Look no more."""
        if self._reader is not None:
            self._reader.close()

    def _delete(self, back: list[Epoch]) -> None:
        moved = {
            epoch: epoch.committed.offset
            for epoch in back
            if epoch.committed is not None and epoch.committed.offset > self._swept.get(epoch.where, 0)
            if epoch.where not in self._looking
        }
        self._swept.update({epoch.where: offset for epoch, offset in moved.items()})
        shared = {epoch for epoch in moved if may_be_shared(self._group, epoch.home.topic)}
        if ours := {epoch.where: offset for epoch, offset in moved.items() if epoch not in shared}:
            self._clients().delete_before(ours)
        if shared:
            self._reader = self._reader or self._connect()
            self._reader.add({epoch.where: None for epoch in shared})
            self._looking.update({epoch.where: (epoch, moved[epoch]) for epoch in shared})

    def _look(self, reader: Reader) -> None:
        """Read on in partitions that may be shared, and delete what is surely ours alone."""
        messages, ends = reader.read(LOOK_AT, 0.0)
        found: dict[TopicPartition, int] = {}
        for message in messages:
            where, offset = TopicPartition(message.topic(), message.partition()), message.offset()
            if where in self._looking and where not in found:
                epoch, committed = self._looking[where]
                if returned(message, self._group, epoch.home) is None:
                    found[where] = min(offset, committed)
                elif offset + 1 >= committed:
                    found[where] = committed
        for where, end in ends.items():
            if where in self._looking and where not in found:
                found[where] = min(end, self._looking[where][1])
        held = {where for where, (epoch, _) in self._looking.items() if self._holdings.get(where) is epoch}
        if over := [where for where in self._looking if where in found or where not in held]:
            reader.drop(over)
            for where in over:
                del self._looking[where]
        if ours := {where: offset for where, offset in found.items() if where in held}:
            self._clients().delete_before(ours)
