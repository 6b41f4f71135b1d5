"""Rebalance: what happens when partitions come and go; every method runs inside the consumer's ``consume``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import structlog

from recado.record import TopicPartition
from recado.worker.commits import Commits
from recado.worker.epoch import Epoch
from recado.worker.flow import Flow
from recado.worker.holdings import Holdings
from recado.worker.holes import Holes
from recado.worker.settlement import Settlement
from recado.worker.stop import StopRequest

__all__ = ["Rebalance"]

log = structlog.get_logger(__name__)

#: Rest between two looks whether handlers are through, in seconds.
LOOK_EVERY_S = 0.002


class Rebalance:
    """Opens and ends the stays of partitions (the contract is ``abstract.PartitionListener``)."""

    def __init__(
        self,
        *,
        holdings: Holdings,
        settlement: Settlement,
        commits: Commits,
        flow: Flow,
        holes: Holes,
        stop: StopRequest,
        drain_s: float,
    ) -> None:
        self._holdings = holdings
        self._settlement = settlement
        self._commits = commits
        self._flow = flow
        self._holes = holes
        self._stop = stop
        self._drain_s = drain_s

    def on_assign(self, partitions: Sequence[TopicPartition]) -> None:
        """Begin an epoch for each."""
        self._holdings.joined = True
        for where in partitions:
            self._holdings.open(where)
        log.info("partitions assigned", partitions=_shown(partitions), held=len(self._holdings.epochs))

    def on_revoke(self, partitions: Sequence[TopicPartition]) -> None:
        """Finish what executes and the holes, commit, then fence: in this order, so that nothing is done again."""
        epochs = [epoch for where in partitions if (epoch := self._holdings.get(where))]
        self._holdings.close([epoch for epoch in epochs if not epoch.closed])  # else it ends already, as it should
        self._settlement.release_closed()
        deadline = time.monotonic() + self._drain_s
        while self._holdings.executing(epochs) and time.monotonic() < deadline and not self._stop.hurried:
            time.sleep(LOOK_EVERY_S)
        self._settlement.settle_all()
        self._holes.fill(epochs, lambda: time.monotonic() < deadline and not self._stop.hurried, _rest)
        self._say_holes(epochs)
        if not self._commits.commit_all(epochs):
            self._say_uncommitted(epochs)
        for run in self._holdings.executing(epochs):
            log.warning(
                "partition revoked while a handler is at work",
                topic=run.epoch.topic,
                partition=run.epoch.partition,
                offset=run.messages[run.at].offset() if run.at < len(run.messages) else None,
                remedy="its next owner handles this record again; give handlers less to do, or RECADO_DRAIN_S more",
            )
        self._let_go(partitions, "partitions revoked")

    def on_lost(self, partitions: Sequence[TopicPartition]) -> None:
        """Someone else has them already: drop what comes, commit nothing."""
        self._holdings.joined = False
        self._let_go(partitions, "partitions lost")
        self._settlement.release_closed()

    def on_end(self, partition: TopicPartition, offset: int) -> None:
        """Remember the end, so that a tail of transaction markers is no lag."""
        epoch = self._holdings.get(partition)
        if epoch is not None and not epoch.closed:  # what a closed one reads is dropped, so its end says nothing
            epoch.tracker.reached_end(offset)

    def on_commit(self, offsets: Mapping[TopicPartition, int], ok: bool) -> None:
        """Pass on what came of a commit."""
        self._commits.told(offsets, ok)

    def _say_holes(self, epochs: list[Epoch]) -> None:
        for epoch in epochs:
            if ahead := epoch.tracker.done_ahead():
                log.warning(
                    "partition revoked with records done beyond one that is not",
                    topic=epoch.topic,
                    partition=epoch.partition,
                    offset=epoch.tracker.position(),
                    done_beyond=len(ahead),
                    remedy="its next owner handles these again",
                )

    def _say_uncommitted(self, epochs: list[Epoch]) -> None:
        for epoch in epochs:
            if epoch.uncommitted:
                log.warning(
                    "partition revoked before its done records were committed",
                    topic=epoch.topic,
                    partition=epoch.partition,
                    offset=epoch.committed or 0,
                    upto=epoch.tracker.position(),
                    remedy="its next owner handles these records again",
                )

    def _let_go(self, partitions: Sequence[TopicPartition], event: str) -> None:
        epochs = [epoch for where in partitions if (epoch := self._holdings.get(where))]
        self._holdings.close(epochs)
        self._holdings.fence(epochs)
        self._flow.forget(epochs)
        log.info(event, partitions=_shown(partitions), held=len(self._holdings.epochs))


def _rest() -> None:
    time.sleep(LOOK_EVERY_S)


def _shown(partitions: Sequence[TopicPartition]) -> str:
    return " ".join(f"{topic}/{partition}" for topic, partition in partitions) or "none"
