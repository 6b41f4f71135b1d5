"""Rebalance: what happens when partitions come and go; every method runs inside the consumer's ``consume``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import structlog

from recado.kafka.abstract import Committed
from recado.record import TopicPartition
from recado.worker.commits import Commits
from recado.worker.handling.flow import Flow
from recado.worker.handling.holdings import Holdings
from recado.worker.partition.epoch import Epoch
from recado.worker.reporting.pulse import Pulse
from recado.worker.settlement import Settlement
from recado.worker.stop import StopRequest

__all__ = ["Rebalance"]

log = structlog.get_logger(__name__)

#: Rest between two looks whether handlers are through and what they sent is confirmed, in seconds.
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
        stop: StopRequest,
        pulse: Pulse,
        drain_s: float,
    ) -> None:
        self._holdings = holdings
        self._settlement = settlement
        self._commits = commits
        self._flow = flow
        self._stop = stop
        self._pulse = pulse
        self._drain_s = drain_s

    def on_assign(self, partitions: Mapping[TopicPartition, Committed | None]) -> None:
        """Begin an epoch for each."""
        self._holdings.joined = True
        done_ahead = 0
        for where, committed in partitions.items():
            before = self._holdings.open(where, committed).tracker.before
            done_ahead += len(before) if before is not None else 0
        log.info(
            "partitions assigned",
            partitions=_shown(list(partitions)),
            held=len(self._holdings.epochs),
            **({"done_already": done_ahead} if done_ahead else {}),
        )

    def on_revoke(self, partitions: Sequence[TopicPartition]) -> None:
        """Finish what executes, commit, then fence: in this order, so that nothing is done again."""
        epochs = [epoch for where in partitions if (epoch := self._holdings.get(where))]
        self._holdings.close([epoch for epoch in epochs if not epoch.closed])  # else it ends already, as it should
        self._settlement.release_closed()
        deadline = time.monotonic() + self._drain_s
        while self._settlement.is_busy(epochs) and not self._is_over(deadline):
            self._pulse.tick()
            time.sleep(LOOK_EVERY_S)
            self._settlement.settle()
            self._commits.commit_some()  # else a crash repeats what all partitions have done since this began
        self._settlement.settle_all()
        if not self._commits.commit_all(epochs):
            self._say_uncommitted(epochs)
        self._say_left_out(epochs)
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

    def on_commit(self, offsets: Mapping[TopicPartition, Committed], ok: bool) -> None:
        """Pass on what came of a commit."""
        self._commits.told(offsets, ok)

    def _is_over(self, deadline: float) -> bool:
        """Whether handlers have had their time: that of this stay, or that of the whole worker."""
        return time.monotonic() >= deadline or self._stop.is_over(self._drain_s)

    def _say_left_out(self, epochs: list[Epoch]) -> None:
        for epoch in epochs:
            if epoch.tracker.left_out:
                log.warning(
                    "partition revoked with more done ahead than its offset map can tell",
                    topic=epoch.topic,
                    partition=epoch.partition,
                    offset=epoch.tracker.position(),
                    ranges_left_out=epoch.tracker.left_out,
                    remedy="its next owner handles these again",
                )

    def _say_uncommitted(self, epochs: list[Epoch]) -> None:
        for epoch in epochs:
            if epoch.uncommitted:
                log.warning(
                    "partition revoked before its done records were committed",
                    topic=epoch.topic,
                    partition=epoch.partition,
                    offset=epoch.committed.offset if epoch.committed else 0,
                    upto=epoch.tracker.position(),
                    remedy="its next owner handles these records again",
                )

    def _let_go(self, partitions: Sequence[TopicPartition], event: str) -> None:
        epochs = [epoch for where in partitions if (epoch := self._holdings.get(where))]
        self._holdings.close(epochs)
        self._holdings.fence(epochs)
        self._settlement.release_ids(epochs)
        self._flow.forget(epochs)
        log.info(event, partitions=_shown(partitions), held=len(self._holdings.epochs))


def _shown(partitions: Sequence[TopicPartition]) -> str:
    return " ".join(f"{topic}/{partition}" for topic, partition in partitions) or "none"
