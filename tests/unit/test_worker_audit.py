"""The audit: ready is false where Kafka says otherwise, or where nothing moves."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from prometheus_client import REGISTRY

from recado import Record, Worker
from recado.errors import KafkaUnreachable
from recado.kafka.abstract import Committed
from recado.kafka.memory import MemoryKafka
from recado.record import TopicPartition
from recado.telemetry import logs
from recado.worker.handling.crew import crew_of
from recado.worker.handling.delays import Delays
from recado.worker.handling.holdings import Holdings
from recado.worker.partition.epoch import Epoch
from recado.worker.reporting.audit import GRACE_S, STALLED_S, Audit

ONE, TWO = TopicPartition("orders", 0), TopicPartition("orders", 1)


def takes_many(records: list[Record]) -> None: ...


class Scene:
    """A member that believes to hold ONE, and what its coordinator says."""

    def __init__(self, *, batch: tuple[int, float] | None = None) -> None:
        worker = Worker()
        worker.handler("orders", batch=batch)(takes_many if batch else lambda record: None)
        self.kafka = MemoryKafka({"orders": 2})
        self.consumer = self.kafka.consumer("group")
        crew = crew_of(worker.handlers.all)
        self.runner = crew.runners[0]
        self.now = 1000.0
        self.owns: set[TopicPartition] | None = {ONE}
        self.end = 10
        self.away = self.parks = False
        self.parked_read = 0
        self.begin = 0
        self.delays = Delays()
        self.holdings = Holdings(
            group="group", runners=crew.runners, find=lambda topic: self.runner, guards={}, homes={}, topic_id=str
        )
        self.epoch = self.holdings.open(ONE, Committed(10))
        self.epoch.tracker.reached_end(10)
        self.audit = Audit(
            coordinator=self,
            consumer=self.consumer,
            holdings=self.holdings,
            delays=self.delays,
            pauses={},
            parking=self,
            clock=lambda: self.now,
        )

    def is_waiting(self, epoch: Epoch) -> bool:
        """As ``Parking``: something of the partition is parked."""
        return self.parks

    def moves(self, epoch: Epoch) -> int:
        """As ``Parking``: how far what is parked of the partition was read."""
        return self.parked_read

    def owned(self, member: str) -> set[TopicPartition] | None:
        assert member == self.consumer.member_id
        return self.owns

    def ends(self, partitions) -> dict[TopicPartition, int]:
        if self.away:
            raise KafkaUnreachable("nobody answers")
        return dict.fromkeys(partitions, self.end)

    def begins(self, partitions) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, self.begin)

    def close(self) -> None: ...

    def after(self, seconds: float) -> list[tuple[str, int | None]]:
        """Look now, and again after some time; the reasons then."""
        self.audit.look()
        self.now += seconds
        self.audit.look()
        return [(reason["code"], reason.get("partition")) for reason in self.audit.reasons()]


def test_where_all_agree_there_is_no_reason():
    assert Scene().after(1000) == []


@pytest.mark.parametrize(
    ("owns", "expected"),
    [
        (set(), [("not-owned", 0)]),
        ({ONE, TWO}, [("not-taken", 1)]),
        ({TWO}, [("not-owned", 0), ("not-taken", 1)]),
        (None, [("unknown-member", None)]),
    ],
)
def test_a_difference_is_told_when_it_lasts_longer_than_a_rebalance(owns, expected):
    scene = Scene()
    scene.owns = owns
    assert scene.after(GRACE_S - 1) == []
    assert scene.after(2) == expected
    scene.owns = {ONE}
    assert scene.after(1) == []


def test_a_partition_that_has_records_and_does_not_move_is_stalled():
    scene = Scene()
    scene.end = 11
    assert scene.after(STALLED_S - 1) == []
    assert scene.after(2) == [("stalled", 0)]
    scene.epoch.tracker.reached_end(11)
    assert scene.after(1) == []


def test_what_moves_or_is_being_handled_or_waits_for_a_reason_is_not_stalled():
    scene = Scene()
    scene.end = 1000
    for offset in range(10, 20):
        scene.epoch.tracker.deliver([offset])
        assert scene.after(STALLED_S - 1) == []
    scene.runner.executing = lambda: [object()]
    assert scene.after(10 * STALLED_S) == []
    scene.runner.executing = list
    scene.epoch.claims[12] = "waits for another copy"
    assert scene.after(10 * STALLED_S) == []
    scene.epoch.claims.clear()
    scene.parks = True
    assert scene.after(10 * STALLED_S) == []
    scene.parks = False
    assert scene.after(STALLED_S + 1) == [("stalled", 0)]


def test_what_is_read_first_is_movement_too_and_a_full_worker_may_stand_still():
    scene = Scene()
    scene.end = 1000
    for number in range(5):
        scene.parked_read = number
        assert scene.after(STALLED_S - 1) == []
    assert scene.after(STALLED_S + 1) == [("stalled", 0)]


def test_a_batch_may_wait_until_it_is_full():
    scene = Scene(batch=(100, 600))
    scene.end = 11
    assert scene.after(STALLED_S + 599) == []
    assert scene.after(2) == [("stalled", 0)]


def test_the_ends_are_those_of_the_last_answer():
    scene = Scene()
    assert scene.audit.ends() == {}
    scene.audit.look()
    scene.end, scene.away = 20, True
    with pytest.raises(KafkaUnreachable):
        scene.audit.look()
    assert scene.audit.ends() == {ONE: 10}


def test_while_kafka_does_not_answer_nothing_is_claimed():
    scene = Scene()
    scene.owns, scene.away = None, True
    with pytest.raises(KafkaUnreachable):
        scene.audit.look()
    assert scene.audit.reasons() == []


def test_the_twin_says_what_a_member_owns():
    kafka = MemoryKafka({"orders": 2})
    consumer = kafka.consumer("group")

    class Deaf:
        def on_assign(self, partitions): ...
        def on_revoke(self, partitions): ...
        def on_end(self, partition, offset): ...

    consumer.subscribe(["orders"], Deaf())
    consumer.consume(1, 0)
    said = kafka.coordinator("group")
    assert said.owned(consumer.member_id) == {ONE, TWO}
    assert said.owned("nobody") is None
    kafka.send("orders", "x", partition=1)
    assert said.ends([ONE, TWO]) == {ONE: 0, TWO: 1}
    consumer.close()


def expired() -> float:
    labels = {"topic": "orders", "outcome": "expired"}
    return REGISTRY.get_sample_value("recado_worker_records_total", labels) or 0.0


def message(offset: int) -> SimpleNamespace:
    return SimpleNamespace(offset=lambda: offset)


def test_records_that_were_deleted_before_they_were_read_are_told_and_other_gaps_are_not(capsys):
    scene, before = Scene(), expired()
    logs.set_up(format="json", level="info")
    scene.epoch.gaps.note([message(12), message(13), message(20)])  # it began at 10
    scene.begin, scene.end = 12, 30
    scene.audit.look()
    scene.audit.look()
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(one["first"], one["last"]) for one in told if "deleted" in one["event"]] == [(10, 11)]
    assert expired() == before + 2
