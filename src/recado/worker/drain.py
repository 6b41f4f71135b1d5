"""The end of a worker: finish what executes, commit, leave the group, and say what remains."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import structlog

from recado.errors import RecadoError
from recado.kafka.abstract import Consumer
from recado.worker.commits import Commits
from recado.worker.handling.flow import Flow
from recado.worker.handling.holdings import Holdings
from recado.worker.partition.epoch import Epoch
from recado.worker.settlement import Settlement
from recado.worker.stop import StopRequest

__all__ = ["LEAVE_S", "Drain", "Remaining", "within"]

log = structlog.get_logger(__name__)

#: Rest between two looks whether handlers are through, in seconds.
LOOK_EVERY_S = 0.01

#: How long leaving the group may take, in seconds, and one commit beyond the budget: both can hang without a
#: coordinator.
LEAVE_S = 5.0

#: Longest wait for records that are not wanted, between two commits that the group refuses, in seconds.
CATCH_UP_S = 0.1


class Remaining(NamedTuple):
    """What a worker left behind: in Kafka, at this offset (and not committed, so it comes again), and why."""

    topic: str
    partition: int
    offset: int
    reason: str


class Drain:
    """Ends a worker's work in order."""

    def __init__(
        self,
        *,
        consumer: Consumer,
        holdings: Holdings,
        settlement: Settlement,
        commits: Commits,
        flow: Flow,
        stop: StopRequest,
        drain_s: float,
    ) -> None:
        self._consumer = consumer
        self._holdings = holdings
        self._settlement = settlement
        self._commits = commits
        self._flow = flow
        self._stop = stop
        self._drain_s = drain_s
        self._epochs: list[Epoch] = []
        self._uncommitted: list[Remaining] = []

    def run(self) -> list[Remaining]:
        """Blocks for ``drain_s`` since a stop was requested, and ``LEAVE_S``, at most; less when it is requested twice.

        The order: take nothing new, or there is no end; finish what executes while still polling, or the group
        throws us out and the commit fails; settle and commit, or done records come again; only then leave the group,
        because leaving gives the partitions away, and who leaves in the middle of a rebalance may not commit.
        """
        if not self._stop.requested:  # an error ended the work: also leaving the group waits no longer than this
            self._stop.request()
        self._holdings.draining = True
        self._epochs = self._holdings.snapshot()  # of a partition that is lost until the end, too
        self._holdings.close(self._epochs)
        self._settlement.release_closed()
        self._finish_executing()
        self._settlement.settle_all()
        remaining = self._remaining()
        for runner in self._holdings.runners:
            runner.stop()
        left_s = self._stop.requested_at + self._drain_s - time.monotonic()
        budget_s = max(0.0, left_s) if self._consumer.reachable else 0.0
        if not within(budget_s + LEAVE_S, self._leave):
            log.warning("kafka did not answer at the end")
        return remaining + self._uncommitted + self._left_out()

    def _finish_executing(self) -> None:
        waiting = False
        while self._settlement.is_busy(self._holdings.snapshot()) and not self._stop.is_over(self._drain_s):
            if not waiting:
                log.info("draining", executing=len(self._holdings.executing()), at_most_s=self._drain_s)
                waiting = True
            self._poll(LOOK_EVERY_S)
            self._settlement.settle()
            self._commits.commit_some()

    def _poll(self, timeout_s: float) -> None:
        """Serve rebalances. Records that come all the same are dropped: they are not committed, so they come again."""
        self._flow.pause_all()
        try:
            self._consumer.consume(1, timeout_s)
        except RecadoError:
            time.sleep(timeout_s)  # the loop ended because of it and has said so; handlers may finish all the same

    def _leave(self) -> None:
        """Commit, again and again while a rebalance refuses it (it goes on while we poll), then leave."""
        epochs = self._epochs
        self._note_uncommitted(epochs)
        while not self._commits.commit_all(self._holdings.snapshot()) and not self._stop.is_over(self._drain_s):
            self._note_uncommitted(epochs)
            self._poll(CATCH_UP_S)
        self._note_uncommitted(epochs)
        self._consumer.close()

    def _note_uncommitted(self, epochs: list[Epoch]) -> None:
        why = self._consumer.refusal or "no answer"
        self._uncommitted = [_done_again(epoch, why) for epoch in epochs if epoch.uncommitted]

    def _remaining(self) -> list[Remaining]:
        remaining = []
        for run in self._holdings.executing():
            at = run.at
            for message in run.messages[at : None if self._is_batch(run.epoch.topic) else at + 1]:
                remaining.append(
                    Remaining(message.topic(), message.partition(), message.offset(), "still being handled")
                )
        for epoch in self._holdings.snapshot():
            if unconfirmed := self._settlement.unconfirmed(epoch):
                remaining.append(
                    Remaining(*epoch.where, unconfirmed[0], "Kafka has not confirmed what was sent for it")
                )
            if (stop := epoch.stop) is not None:
                remaining.append(Remaining(*epoch.where, stop.offset, f"its partition stands still: {stop.reason}"))
        return sorted(remaining)

    def _left_out(self) -> list[Remaining]:
        """Done records that no commit tells of: the offset map was full."""
        found = []
        for epoch in self._epochs:
            if left := epoch.tracker.left_out:
                reason = f"not done, and {left} ranges done beyond it do not fit into its offset map: handled again"
                found.append(Remaining(epoch.topic, epoch.partition, epoch.tracker.position() or 0, reason))
        return found

    def _is_batch(self, topic: str) -> bool:
        return self._holdings.runner(topic).handler.batch is not None


def _done_again(epoch: Epoch, why: str) -> Remaining:
    reason = f"done from here on, but Kafka did not commit it ({why}): handled again"
    return Remaining(epoch.topic, epoch.partition, epoch.committed.offset if epoch.committed else 0, reason)


def within(seconds: float, act: Callable[[], None]) -> bool:
    """Do something that may hang; False when it did not end in time (its thread is left alone)."""
    thread = threading.Thread(target=act, name="recado-leave", daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()
