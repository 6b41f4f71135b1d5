"""A worker's commits: how often, and how many may be without an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from recado.kafka.abstract import Committed, Consumer
from recado.outcomes.offset_commits import OffsetCommits, Tracked
from recado.record import TopicPartition
from recado.telemetry.metrics import WORKER_COMMITS
from recado.worker.handling.holdings import Holdings
from recado.worker.partition.epoch import Epoch
from recado.worker.ways.transactions import Transactions

__all__ = ["Commits"]

#: Rest between two commits in seconds: what a kill -9 repeats at most, while the coordinator sees few requests.
COMMIT_EVERY_S = 0.1

#: Commits without an answer yet: they would pile up while the coordinator is away. Answers come in the same queue as
#: records that were fetched ahead, so in good times too there may be some seconds' worth.
MAX_UNANSWERED = 100


class Commits(OffsetCommits):
    """Tells the coordinator how far each partition is, and counts the answers. Loop thread only."""

    def __init__(
        self, *, consumer: Consumer, holdings: Holdings, transactions: Transactions, clock: Callable[[], float]
    ) -> None:
        self._transactions = transactions
        super().__init__(
            consumer=consumer,
            partitions=holdings.epochs,
            clock=clock,
            every=COMMIT_EVERY_S,
            max_unanswered=MAX_UNANSWERED,
        )

    def commit_all(self, partitions: Iterable[Tracked]) -> bool:
        """Commit what is not known to be committed, and wait for the answers."""
        epochs = [epoch for epoch in partitions if isinstance(epoch, Epoch)]
        plain = super().commit_all(epoch for epoch in epochs if not epoch.transactional)
        mine = [epoch for epoch in epochs if epoch.transactional]
        return (not mine or self._transactions.commit_rest(mine)) and plain

    def note(self, offsets: Mapping[TopicPartition, Committed], ok: bool) -> None:
        """What came of any commit."""
        WORKER_COMMITS.labels("ok" if ok else "failed").inc()
        super().note(offsets, ok)
