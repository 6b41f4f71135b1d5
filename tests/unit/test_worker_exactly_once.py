"""Handlers with ``exactly_once``: what they send and their offsets go into Kafka together, whatever fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import pytest

from recado import Record, Reject, Worker
from recado.errors import HandlerError, RecordTooLarge
from recado.kafka.abstract import Enlisted, Outlet, Transacted
from recado.kafka.memory import MemoryKafka
from recado.outcomes import offsets
from recado.outcomes.offset_map import Encoded, encode
from recado.record import Outgoing, TopicPartition
from recado.worker.handling.threads import ThreadRunner
from tests.programs import eventually
from tests.twin import GROUP, committed, member, wait_committed

#: What a test does instead of, or around, a transaction.
Around = Callable[[Callable[[], Transacted], Sequence[Outgoing], Enlisted], Transacted]


class Kafka(MemoryKafka):
    """A twin whose transactions a test may meddle with, one after the other."""

    def __init__(self, topics: dict[str, int]) -> None:
        super().__init__(topics)
        self.around: list[Around] = []
        self.seen: list[tuple[int, dict[TopicPartition, int]]] = []

    def outlet(self) -> Outlet:
        return super().outlet()._replace(transactor=self.made)

    def made(self, group: str):
        real = self.transactor(group)
        transact = real.transact

        def meddled(records: Sequence[Outgoing], enlisted: Enlisted) -> Transacted:
            self.seen.append((len(records), {where: found.offset for where, found in enlisted.offsets.items()}))
            around = self.around.pop(0) if self.around else None
            if around is None:
                return transact(records, enlisted)
            return around(lambda: transact(records, enlisted), records, enlisted)

        real.transact = meddled  # type: ignore[method-assign]
        return real


def copier(**options) -> Worker:
    worker = Worker()

    @worker.handler("orders", exactly_once=True, **options)
    def copy(record: Record):
        if record.value == b"bad":
            raise Reject("bad")
        return Record(record.value, "out", key=record.key)

    return worker


def values(kafka: MemoryKafka, topic: str = "out") -> list[bytes | None]:
    return [m.value() for m in kafka.logs.get(TopicPartition(topic, 0), []) if m is not None]


@pytest.mark.parametrize("concurrency", [1, 4])
def test_output_and_offsets_come_together_and_no_other_commit_is_made(concurrency):
    kafka = Kafka({"orders": 1, "out": 1})
    kafka.send("orders", *(str(n) for n in range(50)), key=b"k")
    with member(copier(concurrency=concurrency), kafka) as running:
        plain = []
        consumer = eventually(lambda: running.consumer)
        real = consumer.commit
        consumer.commit = lambda offsets, wait: real(offsets, wait=wait) if wait else not plain.append(offsets)
        eventually(lambda: len(values(kafka)) == 50)
        assert running.end() == 0
    assert values(kafka) == [b"%d" % n for n in range(50)]
    assert kafka.seen
    assert plain == [], "the twin's transactor commits, and waits"


def test_what_was_aborted_is_sent_again_without_its_handler():
    kafka, calls = Kafka({"orders": 1, "out": 1}), []
    worker = Worker()

    @worker.handler("orders", exactly_once=True)
    def copy(record: Record):
        calls.append(record.offset)
        return Record(record.value, "out")

    kafka.around = [lambda go, records, enlisted: Transacted(False, why="the coordinator moved")] * 3
    kafka.send("orders", "a", "b")
    with member(worker, kafka):
        wait_committed(kafka, 2)
    assert values(kafka) == [b"a", b"b"]
    assert calls == [0, 1]


def test_a_refused_record_stops_its_partition_and_the_others_go_on():
    kafka, worker = Kafka({"orders": 2, "out": 1}), Worker()

    @worker.handler("orders", exactly_once=True)
    def copy(record: Record):
        return Record(record.value, "nowhere" if record.value == b"lost" else "out")

    kafka.send("orders", "a", "lost", "b", partition=0)
    kafka.send("orders", *"cde", partition=1)
    with member(worker, kafka) as running:
        wait_committed(kafka, 3, partition=1)
        wait_committed(kafka, 1, partition=0)
        assert running.end() == 3
    assert sorted(values(kafka)) == [b"a", b"b", b"c", b"d", b"e"], "b was done beyond it, and is in the map"


def test_a_dead_letter_is_part_of_the_transaction_and_trimmed_where_it_is_too_large():
    kafka = Kafka({"orders": 1, "out": 1, f"dlq.{GROUP}.orders": 1})
    sizes = []

    def too_large(go, records, enlisted):
        index = next((i for i, record in enumerate(records) if record.topic.startswith("dlq.")), None)
        if index is None:
            kafka.around.append(too_large)
            return go()
        sizes.append(sum(len(v or b"") for _, v in records[index].headers))
        return Transacted(False, {index: RecordTooLarge("too large")})

    kafka.around = [too_large]
    kafka.send("orders", "a", "bad", "b")
    with member(copier(batch=None), kafka):
        eventually(lambda: len(values(kafka)) == 2)
        wait_committed(kafka, 3)
    assert len(values(kafka, f"dlq.{GROUP}.orders")) == 1
    assert len(sizes) == 1


def test_a_fenced_partitions_output_never_appears():
    kafka = Kafka({"orders": 1, "out": 1})
    entered, go = threading.Event(), threading.Event()

    def hold(transact, records, enlisted):
        entered.set()
        assert go.wait(20)
        return Transacted(False, why="illegal generation")

    kafka.around = [hold]
    kafka.send("orders", "a", "b", "c")
    with member(copier(), kafka) as running:
        assert entered.wait(20)
        assert running.consumer is not None
        with kafka.changed:
            kafka.group(GROUP).expel(running.consumer)
        go.set()
        wait_committed(kafka, 3)  # as a new member it handles them again
        assert running.end() == 0
    assert values(kafka) == [b"a", b"b", b"c"]


def test_a_commit_that_was_lost_without_an_answer_leaves_no_second_copy():
    """What a transactor must tell the truth about: it was committed though the answer did not come."""
    kafka = Kafka({"orders": 1, "out": 1})
    kafka.around = [lambda go, records, enlisted: go()._replace(why="resolved by the offsets")]
    kafka.send("orders", "a", "b")
    with member(copier(), kafka):
        wait_committed(kafka, 2)
    assert values(kafka) == [b"a", b"b"]


def test_output_stays_out_of_a_transaction_whose_map_has_no_room_for_its_offset(monkeypatch):
    """Offset 0 waits; of what is done beyond it the map tells only the lowest range."""

    def small(base, ranges, leader_epoch, *, limit) -> Encoded:
        kept = encode(base, ranges[:1], leader_epoch, limit=limit)
        return Encoded(kept.text, 1)

    monkeypatch.setattr(offsets, "encode", small)
    kafka, worker, go = Kafka({"orders": 1, "out": 1}), Worker(), threading.Event()

    @worker.handler("orders", exactly_once=True, concurrency=8, order="none")
    def copy(record: Record):
        if record.value in (b"slow", b"slower"):
            assert go.wait(20)
        return Record(record.value, "out")

    kafka.send("orders", "slow", "a", "b", "slower", "c", "d")
    with member(worker, kafka):
        eventually(lambda: sorted(values(kafka)) == [b"a", b"b"])
        assert committed(kafka) == 0
        eventually(lambda: len(kafka.seen) > 1)
        assert sorted(values(kafka)) == [b"a", b"b"], "c and d have no room in the map"
        go.set()
        wait_committed(kafka, 6)
    assert sorted(values(kafka)) == [b"a", b"b", b"c", b"d", b"slow", b"slower"]


def test_a_revoked_partition_ends_with_a_last_transaction():
    kafka = Kafka({"orders": 2, "out": 1})
    kafka.send("orders", *"ab", partition=0)
    kafka.send("orders", *"cd", partition=1)
    with member(copier(), kafka), member(copier(), kafka):
        wait_committed(kafka, 2, partition=0)
        wait_committed(kafka, 2, partition=1)
    assert sorted(values(kafka)) == [b"a", b"b", b"c", b"d"]


def test_exactly_once_must_be_true_or_false():
    with pytest.raises(HandlerError, match="exactly_once"):
        Worker().handler("orders", exactly_once="yes")(lambda record: None)  # type: ignore[arg-type]


def test_what_the_loop_has_not_counted_yet_stays_outside(monkeypatch):
    """Between handing over what it sends and saying that it is through, a thread may be held up for long.

    Committed before that, the next transaction would take the offset back.
    """
    held, go = threading.Event(), threading.Event()

    def hold(self, run) -> None:
        held.set()
        assert go.wait(20)

    monkeypatch.setattr(ThreadRunner, "_wait_for_kafka", hold)
    kafka = Kafka({"orders": 1, "out": 1})
    kafka.send("orders", "a", "b")
    with member(copier(), kafka):
        assert held.wait(20)
        before = len(kafka.seen)
        time.sleep(0.5)
        assert values(kafka) == []
        assert len(kafka.seen) <= before + 1
        go.set()
        wait_committed(kafka, 2)
    offsets_seen = [offset for _, committed_then in kafka.seen for offset in committed_then.values()]
    assert offsets_seen == sorted(offsets_seen)
    assert values(kafka) == [b"a", b"b"]
