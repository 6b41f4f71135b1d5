"""What this member holds now: an epoch for each assigned partition, and who handles it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import structlog

from recado.kafka.abstract import Committed
from recado.record import TopicPartition
from recado.telemetry.metrics import WORKER_ASSIGNED, WORKER_STOPPED
from recado.worker.handling.run import Run
from recado.worker.handling.runner import Runner
from recado.worker.partition.epoch import Epoch, Guarding, Stop

__all__ = ["Holdings"]

log = structlog.get_logger(__name__)


class Holdings:
    """The epochs of the assigned partitions. Loop thread only, except ``snapshot``."""

    def __init__(
        self,
        *,
        group: str,
        runners: list[Runner],
        find: Callable[[str], Runner | None],
        guards: Mapping[Runner, Guarding],
        homes: Mapping[TopicPartition, TopicPartition],
        topic_id: Callable[[str], str],
    ) -> None:
        self._guards = guards
        self._homes = homes
        self._topic_id = topic_id
        self._group = group
        self._find = find
        self._by_topic: dict[str, Runner] = {}
        self.runners = runners
        self.epochs: dict[TopicPartition, Epoch] = {}
        #: Whether the group ever gave this member its share, be it empty.
        self.joined = False
        #: Set at shutdown: what is assigned from then on is closed at once.
        self.draining = False

    def get(self, where: TopicPartition) -> Epoch | None:
        """The current epoch of a partition, if this member holds it."""
        return self.epochs.get(where)

    def snapshot(self) -> list[Epoch]:
        """The current epochs (any thread)."""
        return list(self.epochs.values())

    def runner(self, topic: str) -> Runner:
        """Who handles a topic that ``open`` was called for."""
        return self._by_topic[topic]

    def open(self, where: TopicPartition, committed: Committed | None) -> Epoch:
        """Begin a new epoch for a partition, at what the group has committed."""
        home = self._homes.get(where, where)
        topic_id = self._topic_id(home.topic)
        epoch = self.epochs[where] = Epoch(where, self._group, committed, home=home, topic_id=topic_id)
        epoch.closed = self.draining
        runner = self._find(epoch.home.topic)
        if runner is None:
            # librdkafka matched a pattern that Python's re does not match: better to stand still than to lose.
            self.halt(epoch, Stop(0, 0, "no handler's pattern matches this topic in Python's regular expressions"))
            log.error("partition stopped", topic=where.topic, partition=where.partition, error=epoch.stop)
        else:
            self._by_topic[where.topic] = runner
            epoch.transactional = runner.handler.exactly_once
            epoch.guard = self._guards.get(runner)
        self.count()
        return epoch

    def close(self, epochs: Iterable[Epoch]) -> None:
        """Hand out nothing more of these; their executing runs end after their present record."""
        closing = set(epochs)
        for epoch in closing:
            epoch.closed = True
        for run in self.executing():
            if run.epoch in closing:
                run.halt = True

    def halt(self, epoch: Epoch, stop: Stop) -> None:
        """Let a partition stand still at a record."""
        self.close([epoch])
        epoch.stop = stop
        self.count()

    def fence(self, epochs: Iterable[Epoch]) -> None:
        """These are no longer ours: whatever still comes of them is dropped."""
        for epoch in epochs:
            epoch.closed = epoch.fenced = True
            if self.epochs.get(epoch.where) is epoch:
                del self.epochs[epoch.where]
        self.count()

    def executing(self, epochs: Iterable[Epoch] | None = None) -> list[Run]:
        """The runs that threads are at now, of these epochs (of any)."""
        runs = [run for runner in self.runners for run in runner.executing()]
        if epochs is None:
            return runs
        wanted = set(epochs)
        return [run for run in runs if run.epoch in wanted]

    def count(self) -> None:
        """Bring the gauges of assigned and stopped partitions up to date."""
        held: Counter[str] = Counter(dict.fromkeys(self._by_topic, 0))
        stopped: Counter[str] = Counter(dict.fromkeys(self._by_topic, 0))
        for epoch in self.epochs.values():
            held[epoch.topic] += 1
            stopped[epoch.topic] += epoch.stop is not None
        for topic, count in held.items():
            WORKER_ASSIGNED.labels(topic).set(count)
            WORKER_STOPPED.labels(topic).set(stopped[topic])
