"""What handlers send: when it goes out, under which id, and when the offsets behind it are done."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable

import msgspec
import pytest
from prometheus_client import REGISTRY

from recado import Backoff, Record, Worker
from recado.errors import Backpressure, DeliveryUnknown, HandlerError, RecadoError
from recado.kafka.delivery import Delivery
from recado.kafka.memory import MemoryKafka
from recado.outcomes import Dead, Done, Stopped
from recado.record import TopicPartition
from tests.programs import eventually
from tests.twin import GROUP, SETTINGS, Member, committed, member, wait_committed

OUT = TopicPartition("out", 0)


class Kafka(MemoryKafka):
    """A twin whose producer may hold records back, or fail some of them first."""

    def __init__(self, topics: dict[str, int]) -> None:
        super().__init__(topics)
        self.go = threading.Event()
        self.go.set()
        self.waiting: list[Delivery] = []
        self.failing: list[RecadoError] = []

    def producer(self, **named):
        made, real = super().producer(**named), super().producer(**named)

        def send(delivery: Delivery) -> None:
            if self.failing:
                error = self.failing.pop(0)
                for index in range(len(delivery.records)):
                    delivery.settle(index, error)
            elif self.go.is_set():
                real.send(delivery)
            else:
                self.waiting.append(delivery)

        made.send = send  # type: ignore[method-assign]
        made.serve = real.serve  # type: ignore[method-assign]
        self.release = lambda: [real.send(delivery) for delivery in self.waiting]
        return made


def sent(kafka: MemoryKafka, topic: str = "out") -> list[Record]:
    found = []
    for message in kafka.logs[TopicPartition(topic, 0)]:
        assert message is not None
        headers = tuple(message.headers() or ())
        found.append(
            Record(message.value(), topic, key=message.key(), headers=headers, timestamp_ms=message.timestamp()[1])
        )
    return found


def copier(worker: Worker, how: str) -> None:
    """The same handler in four ways to run it."""
    if how == "async":

        @worker.handler("orders", concurrency=4)
        async def copy_async(record: Record):
            await asyncio.sleep(0)
            record.send("out", record.value, key=record.key)
            return Record(b"second", "out")

    elif how == "batch":

        @worker.handler("orders", batch=(3, 0.05))
        def copy_batch(records: list[Record]):
            for record in records:
                record.send("out", record.value, key=record.key)
                record.send("out", "second")

    else:

        @worker.handler("orders", concurrency=2, timeout_s=20 if how == "process" else None)
        def copy(record: Record):
            record.send("out", record.value, key=record.key)
            return [Record(b"second", "out")]


@pytest.mark.parametrize("how", ["def", "async", "batch", "process"])
def test_what_a_handler_sends_and_returns_is_in_kafka_before_its_offset_is_committed(how):
    kafka, worker = Kafka({"orders": 1, "out": 1}), Worker()
    copier(worker, how)
    kafka.go.clear()
    kafka.send("orders", *(f"v{number}" for number in range(9)), key=b"k")
    with member(worker, kafka) as running:
        eventually(lambda: sum(len(d.records) for d in kafka.waiting) == 18)
        assert committed(kafka) in (None, 0)
        kafka.go.set()
        kafka.release()
        wait_committed(kafka, 9)
        assert running.end() == 0
    found = sent(kafka)
    assert [record.text() for record in found if record.key] == [f"v{number}" for number in range(9)]
    assert len(found) == 18
    assert len({record.id for record in found}) == 18


def test_a_handler_that_fails_sends_nothing_of_that_attempt():
    kafka, worker = Kafka({"orders": 1, "out": 1}), Worker()

    @worker.handler("orders", retry=Backoff(first_s=0, jitter=0, attempts=3))
    def handle(record: Record):
        record.send("out", f"attempt {record.attempt}")
        if record.attempt < 3:
            raise ConnectionError

    kafka.send("orders", "x")
    with member(worker, kafka):
        wait_committed(kafka, 1)
    assert [record.text() for record in sent(kafka)] == ["attempt 3"]


def test_records_that_send_nothing_are_done_beside_one_that_waits_for_kafka():
    kafka, worker = Kafka({"orders": 1, "out": 1}), Worker()
    handled = []

    @worker.handler("orders")
    def handle(record: Record):
        if record.offset == 1:
            record.send("out", "x")
        handled.append(record.offset)

    kafka.go.clear()
    kafka.send("orders", *"abcd")
    with member(worker, kafka):
        eventually(lambda: len(handled) == 4)
        wait_committed(kafka, 1)
        eventually(lambda: kafka.committed(GROUP)[TopicPartition("orders", 0)].metadata)  # 2 and 3 are in the map
        kafka.release()
        wait_committed(kafka, 4)


@pytest.mark.parametrize("passing", [Backpressure("full"), DeliveryUnknown("nobody knows")])
def test_what_kafka_did_not_take_for_now_is_sent_again(passing):
    kafka, worker = Kafka({"orders": 1, "out": 1}), Worker()
    worker.handler("orders")(lambda record: Record(record.value, "out"))
    kafka.failing.append(passing)
    kafka.send("orders", "a", "b")
    with member(worker, kafka):
        wait_committed(kafka, 2)
    assert sorted(record.text() for record in sent(kafka)) == ["a", "b"]


def test_a_refused_record_stops_the_partition_and_says_which_topic():
    kafka, worker = Kafka({"orders": 1}), Worker()
    worker.handler("orders")(lambda record: Record(record.value, "nowhere"))
    kafka.send("orders", "a", "b")
    with member(worker, kafka) as running:
        eventually(lambda: REGISTRY.get_sample_value("recado_worker_stopped_partitions", {"topic": "orders"}) == 1)
        assert running.end() == 3
    assert committed(kafka) in (None, 0)


def test_a_stop_waits_for_what_was_sent_and_names_what_is_not_confirmed(capfd):
    kafka, worker = Kafka({"orders": 1, "out": 1}), Worker()
    handled = threading.Event()

    @worker.handler("orders")
    def handle(record: Record):
        handled.set()
        return Record(b"x", "out")

    kafka.go.clear()
    kafka.send("orders", "a")
    with member(worker, kafka) as running:
        eventually(handled.is_set)
        eventually(lambda: kafka.waiting)
        running.worker.stop()
        kafka.release()
        assert running.join() == 0
    assert committed(kafka) == 1
    with member(worker_that_sends(), kafka) as running:
        kafka.waiting.clear()
        kafka.send("orders", "b")
        eventually(lambda: kafka.waiting)
        running.worker.stop()
        running.worker.stop()
        assert running.join() == 3
    assert "Kafka has not confirmed what was sent for it" in capfd.readouterr().err


def worker_that_sends() -> Worker:
    worker = Worker()
    worker.handler("orders")(lambda record: Record(record.value, "out"))
    return worker


def test_a_revoked_partition_waits_for_what_was_sent():
    kafka = Kafka({"orders": 1, "out": 1})
    kafka.go.clear()
    kafka.send("orders", "a")
    with member(worker_that_sends(), kafka):
        eventually(lambda: kafka.waiting)
        threading.Timer(0.3, kafka.release).start()
        other = Member(worker_that_sends(), kafka, SETTINGS)
        wait_committed(kafka, 1)
        other.worker.stop()
        other.join()
    assert len(sent(kafka)) == 1


def test_an_attempt_after_a_crash_sends_the_same_ids():
    record = Record(b"x", "orders", 2, 7, 1_700_000_000_000, headers=(("traceparent", b"00-t"),), group="g")
    worker = Worker()

    @worker.handler("orders")
    def handle(record: Record):
        record.send("out", {"a": 1}, key="k", headers={"h": "v"})
        return Record(b"2", "out")

    first, second = worker.test(record), worker.test(record)
    assert isinstance(first, Done)
    assert first == second
    one, two = first.sent
    assert (one.value, one.key, one.header("h"), one.header("traceparent")) == (b'{"a":1}', b"k", b"v", b"00-t")
    assert one.id != two.id
    assert uuid.UUID(one.id).version == 7
    assert uuid.UUID(one.id).int >> 80 == 1_700_000_000_000
    other = worker.test(msgspec.structs.replace(record, offset=8))
    assert isinstance(other, Done)
    assert one.id != other.sent[0].id


def test_a_record_that_goes_on_gets_an_id_of_its_own_unless_its_handler_gives_one():
    record = Record(b"x", "orders", headers=(("recado-id", b"mine"), ("a", b"1")))
    worker = Worker()

    @worker.handler("orders")
    def handle(record: Record):
        record.send("out", "x", headers={"recado-id": "given"})
        return msgspec.structs.replace(record, topic="out")

    outcome = worker.test(record)
    assert isinstance(outcome, Done)
    given, moved = outcome.sent
    assert given.id == "given"
    assert moved.id != "mine"
    assert moved.header("a") == b"1"


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (lambda record: record, "returned the record that it was given"),
        (lambda record: Record(b"x"), "no topic name"),
        (lambda record: [Record(b"x", "out"), 1], "some are no Record"),
    ],
)
def test_what_can_be_sent_nowhere_is_the_handlers_mistake(handler: Callable[[Record], object], reason: str):
    worker = Worker()
    worker.handler("orders")(handler)
    outcome = worker.test(Record(b"x", "orders"))
    assert isinstance(outcome, Stopped)
    assert reason in outcome.reason


def test_what_else_a_handler_returns_means_nothing():
    worker = Worker()
    worker.handler("orders")(lambda record: [1, 2])
    assert worker.test(Record(b"x", "orders")) == Done()


def test_send_outside_a_handler_is_an_error():
    with pytest.raises(HandlerError, match="inside a handler"):
        Record(b"x", "orders").send("out", "y")


def test_send_after_the_handler_has_returned_is_an_error():
    worker, kept = Worker(), []

    @worker.handler("orders")
    def handle(record: Record):
        kept.append(record)
        kept[0].send("out", "y")

    assert isinstance(worker.test(Record(b"x", "orders", offset=0)), Done)
    outcome = worker.test(Record(b"x", "orders", offset=1))
    assert isinstance(outcome, Stopped)
    assert "after its handler had returned" in outcome.reason


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"timestamp_ms": 2**63}, "timestamp_ms"),
        ({"timestamp_ms": 10**400}, "timestamp_ms"),
        ({"timestamp_ms": 1.5}, "timestamp_ms"),
        ({"headers": (("\ud83d", b"x"),)}, "header"),
        ({"headers": ((b"x", b"x"),)}, "header"),
        ({"headers": (("x", "text"),)}, "header"),
        ({"headers": (("x", 5),)}, "header"),
    ],
)
def test_what_no_record_can_hold_fails_the_attempt_and_is_named(wrong, what):
    worker = Worker(settings=SETTINGS)
    worker.handler("orders", retry=None)(lambda record: Record(b"x", "out", **wrong))
    outcome = worker.test(Record(b"x", topic="orders"))
    assert isinstance(outcome, Dead)
    assert what in outcome.reason
