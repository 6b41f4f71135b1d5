"""What became of redriven letters is never told too early: a copy that moves between two looks still waits."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from recado.kafka.groups import GroupLag
from recado.kafka.memory import MemoryMessage
from recado.letters.follow import Fates, fates
from recado.letters.origins import Origins
from recado.outcomes.dead_letter import cause_of, dead_letter
from recado.outcomes.delay import GROUP as DELAY_GROUP
from recado.outcomes.history import Failure, History, failed
from recado.outcomes.retry import retry_copy, retry_record
from recado.record import Outgoing, TopicPartition
from recado.settings import Settings
from recado.tracking.look import Look

GROUP, TOPIC = "g", "orders"
ORIGIN = (TOPIC, 0, 7)
HISTORY = History(GROUP, *ORIGIN, 5_000, redriven=1, dead_letter="dlq.g.orders/0/0")
SOURCE = MemoryMessage(Outgoing(TOPIC, b"x", id="i", key=b"k"), 0, 7, 5_000)
COPY = retry_record(SOURCE, HISTORY, 0)
DELAYED = retry_copy(SOURCE, failed(HISTORY, Failure(1, "x"), due_ms=10_000), 0, 1_000)
DEAD = dead_letter(SOURCE, failed(HISTORY, Failure(1, "x")), cause_of(ValueError("x"), "given up"), partition=0)
RETRIES, LETTERS, DELAYS = (TopicPartition(record.topic, 0) for record in (COPY, DEAD, DELAYED))


class Cluster:
    """A log for each partition, and commits; ``then`` happens each time when ends were asked."""

    def __init__(self) -> None:
        self.logs: dict[TopicPartition, list[MemoryMessage]] = {RETRIES: [], LETTERS: [], DELAYS: []}
        self.commits: dict[str, dict[TopicPartition, int]] = {GROUP: {}, DELAY_GROUP: {}}
        self.then: list[Callable[[], None]] = []

    def write(self, record: Outgoing) -> None:
        where = TopicPartition(record.topic, 0)
        self.logs[where].append(MemoryMessage(record, 0, len(self.logs[where])))

    def commit(self, group: str, where: TopicPartition) -> None:
        self.commits[group][where] = len(self.logs[where])

    # What an Admin is asked

    def topic_partitions(self) -> dict[str, int]:
        return {where.topic: 1 for where in self.logs}

    def wait_stable(self, partitions, patience_s) -> dict[TopicPartition, int]:
        return self.ends(partitions)

    def begins(self, partitions) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    def ends(self, partitions) -> dict[TopicPartition, int]:
        found = {where: len(self.logs[where]) for where in partitions}
        if self.then:
            self.then.pop(0)()
        return found

    client = None


def fate(cluster: Cluster, monkeypatch) -> Fates:
    look = Look(Settings(), admin=cluster)  # type: ignore[arg-type]
    look.groups.lags = lambda groups: {  # type: ignore[method-assign]
        group.name: [GroupLag(group.name, *where, at, 0, 0) for where, at in cluster.commits[group.name].items()]
        for group in groups
    }
    monkeypatch.setattr(
        Look, "read",
        lambda self, ranges, progress=None: (
            message for where, span in ranges.items() for message in cluster.logs[where][span.first : span.end]
        ),
    )  # fmt: skip
    return fates(look, GROUP, Origins([ORIGIN]), {f"{LETTERS.topic}/0": 0})


def test_it_waits_then_it_is_done_or_dead_again(monkeypatch):
    cluster = Cluster()
    cluster.write(COPY)
    assert fate(cluster, monkeypatch) == Fates(0, 0, 1)
    cluster.commit(GROUP, RETRIES)
    assert fate(cluster, monkeypatch) == Fates(1, 0, 0)
    cluster.write(DEAD)
    assert fate(cluster, monkeypatch) == Fates(0, 1, 0)


@pytest.mark.parametrize("looks", range(4))
def test_a_copy_that_comes_back_from_a_delay_topic_between_two_looks_is_not_done(looks, monkeypatch):
    cluster = Cluster()
    cluster.write(COPY)
    cluster.commit(GROUP, RETRIES)
    cluster.write(DELAYED)

    def lands() -> None:
        cluster.write(COPY)
        cluster.commit(DELAY_GROUP, DELAYS)

    cluster.then = [*[lambda: None] * looks, lands]
    assert fate(cluster, monkeypatch) == Fates(0, 0, 1)


@pytest.mark.parametrize("looks", range(6))
def test_a_copy_that_dies_between_two_looks_is_not_done(looks, monkeypatch):
    cluster = Cluster()
    cluster.write(COPY)

    def dies() -> None:
        cluster.write(DEAD)
        cluster.commit(GROUP, RETRIES)

    cluster.then = [*[lambda: None] * looks, dies]
    assert fate(cluster, monkeypatch).done == 0
