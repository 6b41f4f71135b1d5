"""Retry topics: a record that fails leaves its partition and comes back, and nothing else waits for it."""

from __future__ import annotations

import threading
import time

import pytest

from recado import Backoff, Record, Reject, Retry, Worker
from recado.kafka.memory import MemoryKafka
from recado.outcomes.history import Failure, History, header_of, history_of
from recado.record import Outgoing, TopicPartition
from recado.worker.ways import sweep
from tests.programs import eventually
from tests.twin import GROUP, committed, member, wait_committed
from tests.unit.test_worker_outputs import Kafka

RETRY, DEAD = f"retry.{GROUP}.orders", f"dlq.{GROUP}.orders"

#: The shortest delay that leaves the partition.
AWAY = Backoff(first_s=2.0, factor=1, jitter=0, attempts=3)


@pytest.fixture
def kafka() -> MemoryKafka:
    return MemoryKafka({"orders": 2})


def put_back(kafka: MemoryKafka, key: str, history: History, partition: int = 0, value: bytes = b"again") -> None:
    kafka.append(Outgoing(RETRY, value, "id", key.encode(), [("recado-id", b"id"), header_of(history)], partition))


def test_a_record_that_fails_comes_back_as_it_was_and_the_rest_goes_on(kafka):
    worker, seen, at = Worker(), [], []

    @worker.handler("orders", concurrency=4, retry=AWAY)
    def handle(record: Record) -> None:
        seen.append((record.text(), record.topic, record.partition, record.offset, record.attempt))
        if record.text() == "bad" and record.attempt == 1:
            raise ConnectionError("away")

    kafka.send("orders", "bad", "good", key=b"k", partition=1)
    with member(worker, kafka):
        wait_committed(kafka, 2, partition=1)  # nothing waits for the second attempt
        assert ("good", "orders", 1, 1, 1) in seen
        at = list(seen)
        wait_committed(kafka, 1, topic=RETRY, partition=1)
    assert ("bad", "orders", 1, 0, 2) not in at
    assert seen[-1] == ("bad", "orders", 1, 0, 2)
    assert kafka.partition_counts()[RETRY] == 2


def test_its_history_counts_all_attempts_and_keeps_the_first_failure(kafka):
    worker = Worker()

    @worker.handler("orders", retry=AWAY)
    def handle(record: Record) -> None:
        raise ConnectionError(f"attempt {record.attempt}")

    before = History(GROUP, "orders", 0, 7, 123, 2, 1000, 2000, (Failure(1000, "a"), Failure(2000, "b")))
    kafka.create_topic(RETRY, 2)
    put_back(kafka, "k", before)
    with member(worker, kafka):
        wait_committed(kafka, 1, topic=RETRY)
        dead = kafka.logs[TopicPartition(DEAD, 0)][0]
    history = history_of(dead)
    assert history is not None
    assert (history.attempts, history.first_failure_ms, history.offset) == (3, 1000, 7)
    assert [failure.error for failure in history.failures] == ["a", "b", "ConnectionError: attempt 3"]


def test_its_history_counts_attempts_in_place_also_where_each_takes_long(kafka):
    worker = Worker()

    @worker.handler("orders", concurrency=2, retry=Backoff(first_s=0.05, factor=1, jitter=0, attempts=3))
    def handle(record: Record) -> None:
        time.sleep(0.4)  # long enough to be asked to make place for others
        raise ConnectionError(f"attempt {record.attempt}")

    kafka.send("orders", "a", "b", key=b"k", partition=0)
    with member(worker, kafka):
        wait_committed(kafka, 2)
        letters = kafka.logs[TopicPartition(DEAD, 0)][:2]
    for history in map(history_of, letters):
        assert history is not None
        assert [failure.error for failure in history.failures] == [f"ConnectionError: attempt {n}" for n in (1, 2, 3)]
        assert history.attempts == 3


def test_a_rejected_one_and_a_retry_with_a_delay_of_its_own(kafka):
    worker, attempts = Worker(), []

    @worker.handler("orders", retry=Backoff(first_s=0.01))
    def handle(record: Record) -> None:
        attempts.append(record.attempt)
        if record.attempt == 1:
            raise Retry(delay_s=2.0)
        raise Reject("no")

    kafka.send("orders", "a")
    with member(worker, kafka):
        eventually(lambda: kafka.logs.get(TopicPartition(DEAD, 0)) or kafka.logs.get(TopicPartition(DEAD, 1)))
    assert attempts == [1, 2]


def test_a_key_is_never_at_two_records_though_one_of_them_comes_back(kafka):
    worker, inside, overlaps, go_on = Worker(), set(), [], threading.Event()

    @worker.handler("orders", concurrency=8)
    def handle(record: Record) -> None:
        if record.key in inside:
            overlaps.append(record.offset)
        inside.add(record.key)
        go_on.wait(0.05)
        inside.discard(record.key)

    kafka.create_topic(RETRY, 2)
    for number in range(20):
        kafka.send("orders", f"{number}", key=b"k", partition=0)
        put_back(kafka, "k", History(GROUP, "orders", 0, number))
    with member(worker, kafka):
        wait_committed(kafka, 20)
        wait_committed(kafka, 20, topic=RETRY)
    assert not overlaps


def test_its_offset_is_its_own_and_moves_only_when_it_is_done(kafka):
    worker, inside, go_on = Worker(), threading.Event(), threading.Event()

    @worker.handler("orders", concurrency=4)
    def handle(record: Record) -> None:
        if record.text() == "again":
            inside.set()
            assert go_on.wait(20)

    kafka.create_topic(RETRY, 2)
    put_back(kafka, "k", History(GROUP, "orders", 0, 1))
    with member(worker, kafka):
        assert inside.wait(20)
        kafka.send("orders", "a", "b", "c", key=b"other", partition=0)
        wait_committed(kafka, 3)
        assert committed(kafka, RETRY) in (None, 0)
        go_on.set()
        wait_committed(kafka, 1, topic=RETRY)
        assert committed(kafka) == 3


def test_an_offset_is_done_only_when_kafka_has_the_copy():
    kafka, worker = Kafka({"orders": 1}), Worker()
    kafka.go.clear()

    @worker.handler("orders", concurrency=2, retry=AWAY)
    def handle(record: Record) -> None:
        if record.text() == "bad" and record.attempt == 1:
            raise ConnectionError("away")

    kafka.send("orders", "bad", "good")
    with member(worker, kafka):
        eventually(lambda: kafka.waiting)
        eventually(lambda: kafka.group(GROUP).offsets.get(TopicPartition("orders", 0)))  # that the second is done
        assert committed(kafka) == 0
        kafka.go.set()
        kafka.release()
        wait_committed(kafka, 2)


def test_a_partition_that_is_taken_away_takes_what_comes_back_with_it(kafka):
    handled: list[int] = []
    inside = threading.Event()

    def made() -> Worker:
        worker = Worker()

        @worker.handler("orders", concurrency=4)
        def handle(record: Record) -> None:
            handled.append(record.partition)
            inside.set()
            time.sleep(0.5)  # longer than the other needs to join and to read

        return worker

    kafka.create_topic(RETRY, 2)
    with member(made(), kafka) as one:
        eventually(lambda: one.consumer and len(one.consumer.target) == 2)
        for partition in (0, 1):
            put_back(kafka, "k", History(GROUP, "orders", partition, 1), partition)
        assert inside.wait(20)
        with member(made(), kafka) as two:
            for partition in (0, 1):
                wait_committed(kafka, 1, topic=RETRY, partition=partition)
            eventually(lambda: two.consumer and len(two.consumer.target) == 1)
            put_back(kafka, "k", History(GROUP, "orders", 0, 2), 0)
            put_back(kafka, "k", History(GROUP, "orders", 1, 2), 1)
            for partition in (0, 1):
                wait_committed(kafka, 2, topic=RETRY, partition=partition)
    assert sorted(handled) == [0, 0, 1, 1]


def test_another_groups_record_in_a_topic_of_the_same_name_is_no_ones(kafka):
    worker, seen = Worker(), []

    @worker.handler("orders")
    def handle(record: Record) -> None:
        seen.append(record.text())

    kafka.create_topic(RETRY, 2)
    put_back(kafka, "k", History("gro", "up.orders", 0, 1), value=b"theirs")
    put_back(kafka, "k", History(GROUP, "orders", 0, 1), value=b"ours")
    put_back(kafka, "k", History("gro", "up.orders", 0, 1), value=b"theirs")
    with member(worker, kafka):
        wait_committed(kafka, 3, topic=RETRY)
    assert seen == ["ours"]


def test_what_was_put_into_a_retry_topic_by_hand_is_handled(kafka):
    worker, seen = Worker(), []

    @worker.handler("orders")
    def handle(record: Record) -> None:
        seen.append((record.text(), record.topic, record.attempt))

    kafka.create_topic(RETRY, 2)
    kafka.send(RETRY, "by hand", partition=1)
    with member(worker, kafka):
        wait_committed(kafka, 1, topic=RETRY, partition=1)
    assert seen == [("by hand", "orders", 1)]


def test_what_is_done_is_deleted_and_what_rests_is_committed_again(kafka, monkeypatch):
    monkeypatch.setattr(sweep, "SWEEP_EVERY_S", 0.05)
    monkeypatch.setattr(sweep, "RENEW_EVERY_S", 0.05)
    worker, go_on, deleted = Worker(), threading.Event(), []
    delete_before = kafka.delete_before
    monkeypatch.setattr(kafka, "delete_before", lambda offsets: (deleted.append(dict(offsets)), delete_before(offsets)))

    @worker.handler("orders", concurrency=2)
    def handle(record: Record) -> None:
        if record.offset == 1:
            assert go_on.wait(20)

    kafka.create_topic(RETRY, 2)
    for number in range(3):
        put_back(kafka, str(number), History(GROUP, "orders", 0, number))
    where = TopicPartition(RETRY, 0)
    with member(worker, kafka):
        eventually(lambda: deleted)
        assert {offset for one in deleted for offset in one.values()} == {1}, "the next one is at work"
        go_on.set()
        eventually(lambda: {where: 3} in deleted)
        del kafka.group(GROUP).offsets[where]  # as a coordinator forgets it
        wait_committed(kafka, 3, topic=RETRY)


def test_of_a_retry_topic_that_two_groups_share_each_deletes_its_own_records_only(kafka, monkeypatch):
    monkeypatch.setattr(sweep, "SWEEP_EVERY_S", 0.05)
    monkeypatch.setattr(sweep, "RENEW_EVERY_S", 0.05)
    worker, seen, topic = Worker(), [], f"retry.{GROUP}.orders.eu"

    @worker.handler("orders.eu")
    def handle(record: Record) -> None:
        seen.append(record.offset)

    def there() -> list[int]:
        return [offset for offset, message in enumerate(kafka.logs[where]) if message is not None]

    kafka.create_topic("orders.eu", 1)
    kafka.create_topic(topic, 1)
    where, other = TopicPartition(topic, 0), History(f"{GROUP}.orders", "eu", 0, 7)
    for history in (*[History(GROUP, "orders.eu", 0, number) for number in range(2)], other, other):
        kafka.append(Outgoing(topic, b"again", "id", b"k", [header_of(history)], 0))
    kafka.append(Outgoing(topic, b"again", "id", b"k", [header_of(History(GROUP, "orders.eu", 0, 2))], 0))
    with member(worker, kafka):
        wait_committed(kafka, 5, topic=topic)
        eventually(lambda: there() == [2, 3, 4])
        time.sleep(0.5)  # several sweeps
        assert there() == [2, 3, 4], "the other group has not handled its records"
        kafka.delete_before({where: 4})
        eventually(lambda: not there())
    assert seen == [0, 1, 2]


def test_a_pattern_does_not_mean_the_groups_own_topics(kafka):
    worker, seen = Worker(), []

    @worker.handler("^.*")
    def handle(record: Record) -> None:
        seen.append(record.topic)

    kafka.create_topic(DEAD, 2)
    kafka.send(DEAD, "dead", partition=0)
    kafka.send("orders", "alive", partition=0)
    with member(worker, kafka):
        wait_committed(kafka, 1)
        eventually(lambda: seen)
    assert seen == ["orders"]
    assert committed(kafka, DEAD) is None


def test_two_members_share_what_comes_back_as_they_share_the_partitions(kafka):
    handled: list[tuple[str, int]] = []

    def made(name: str) -> Worker:
        worker = Worker()

        @worker.handler("orders")
        def handle(record: Record) -> None:
            handled.append((name, record.partition))

        return worker

    kafka.create_topic(RETRY, 2)
    with member(made("a"), kafka) as one, member(made("b"), kafka) as two:
        eventually(lambda: one.consumer and two.consumer and len(one.consumer.target) == len(two.consumer.target) == 1)
        for number in range(10):
            put_back(kafka, "k", History(GROUP, "orders", number % 2, number), number % 2)
        for partition in (0, 1):
            wait_committed(kafka, 5, topic=RETRY, partition=partition)
        assert len(handled) == 10
        assert len({name for name, partition in handled if partition == 0}) == 1
        assert one.end() == 0
        put_back(kafka, "k", History(GROUP, "orders", 0, 11), 0)
        put_back(kafka, "k", History(GROUP, "orders", 1, 11), 1)
        wait_committed(kafka, 6, topic=RETRY, partition=0)
        wait_committed(kafka, 6, topic=RETRY, partition=1)
    assert len(handled) == 12
