"""keep_order: what follows a failed record of its key waits behind it, in the retry topic too; nothing else does."""

from __future__ import annotations

import threading
import time

import msgspec
import pytest

from recado import Backoff, Record, Worker
from recado.errors import DeliveryUnknown, HandlerError
from recado.kafka.delivery import Delivery
from recado.kafka.memory import MemoryKafka
from recado.outcomes.history import Failure, History, header_of, history_of
from recado.record import Outgoing, TopicPartition
from tests.programs import eventually
from tests.twin import GROUP, SETTINGS, committed, member, wait_committed

RETRY, DEAD = f"retry.{GROUP}.orders", f"dlq.{GROUP}.orders"

#: The shortest delay for which a record goes to the retry topic.
KEEP = Backoff(first_s=2.0, factor=1, jitter=0, attempts=3, keep_order=True)


AUDIBLE = msgspec.structs.replace(SETTINGS, log_level="warning")


@pytest.fixture
def kafka() -> MemoryKafka:
    return MemoryKafka({"orders": 2})


def parked(kafka: MemoryKafka, key: str, offset: int, value: str, *, attempts: int = 0, due_ms: int = 0) -> None:
    failures = tuple(Failure(1000 + n, "away") for n in range(attempts))
    history = History(GROUP, "orders", 0, offset, attempts=attempts, failures=failures, due_ms=due_ms, parked=True)
    if RETRY not in kafka.partition_counts():
        kafka.create_topic(RETRY, 2)
    headers = [("recado-id", b"id"), header_of(history)]
    kafka.append(Outgoing(RETRY, value.encode(), "id", key.encode(), headers, 0))


class Seen:
    """A handler's calls; records named ``bad…`` fail so often."""

    def __init__(self, worker: Worker, *, failures: int = 1, retry: Backoff = KEEP, **declared) -> None:
        self.calls: list[tuple[str, int]] = []
        self.left: dict[str, int] = {}

        @worker.handler("orders", concurrency=4, retry=retry, **declared)
        def handle(record: Record) -> None:
            self.calls.append((record.text(), record.attempt))
            if record.text().startswith("bad"):
                left = self.left.setdefault(record.text(), failures)
                if left:
                    self.left[record.text()] = left - 1
                    raise ConnectionError("away")

    def of(self, *names: str) -> list[tuple[str, int]]:
        return [call for call in self.calls if call[0] in names]


def test_later_records_of_the_key_wait_behind_it_and_others_go_on(kafka):
    worker = Worker()
    seen = Seen(worker)
    kafka.send("orders", "bad", "next", "last", key=b"k", partition=0)
    kafka.send("orders", "other", key=b"o", partition=0)
    with member(worker, kafka):
        wait_committed(kafka, 4)  # all have left the partition
        assert seen.calls in ([("bad", 1), ("other", 1)], [("other", 1), ("bad", 1)])
        kafka.send("orders", "afterwards", key=b"k", partition=0)
        kafka.send("orders", "free", key=b"o", partition=0)
        wait_committed(kafka, 6)
        assert ("free", 1) in seen.calls
        assert seen.of("bad", "next", "last", "afterwards") == [("bad", 1)]
        wait_committed(kafka, len(kafka.logs[TopicPartition(RETRY, 0)]), topic=RETRY)
        assert seen.of("bad", "next", "last", "afterwards") == [
            ("bad", 1), ("bad", 2), ("next", 1), ("last", 1), ("afterwards", 1),
        ]  # fmt: skip
        kafka.send("orders", "now", key=b"k", partition=0)
        wait_committed(kafka, 7)
        eventually(lambda: ("now", 1) in seen.calls)  # nothing is parked any more
    assert len(kafka.logs[TopicPartition(RETRY, 0)]) == 4


def test_who_takes_over_reads_what_is_parked_before_it_begins(kafka):
    worker = Worker()
    seen = Seen(worker)
    parked(kafka, "k", 0, "bad", attempts=1, due_ms=int((time.time() + 1.5) * 1000))
    parked(kafka, "k", 1, "next")
    kafka.send("orders", "(bad)", "(next)", "last", key=b"k", partition=0)  # the first two got there before a crash
    kafka.send("orders", "other", key=b"o", partition=0)
    with member(worker, kafka):
        wait_committed(kafka, 4)
        eventually(lambda: seen.calls == [("other", 1)])
        wait_committed(kafka, 4, topic=RETRY)  # one more: the second failure of "bad" is told there
        assert seen.calls == [("other", 1), ("bad", 2), ("bad", 3), ("next", 1), ("last", 1)]


def test_attempts_outlive_the_process_and_the_last_one_is_a_dead_letter(kafka):
    worker = Worker()
    seen = Seen(worker, failures=99)
    parked(kafka, "k", 0, "bad", attempts=1)
    parked(kafka, "k", 1, "next")
    parked(kafka, "k", 0, "bad", attempts=2)  # what an earlier process told of its second attempt
    with member(worker, kafka):
        wait_committed(kafka, 3, topic=RETRY)
    assert seen.calls == [("bad", 3), ("next", 1)]
    history = history_of(kafka.logs[TopicPartition(DEAD, 0)][0])
    assert history is not None
    assert (history.attempts, history.offset) == (3, 0)


def test_a_failure_in_the_retry_topic_is_told_there_before_the_worker_ends(kafka):
    worker, ended = Worker(), threading.Event()
    seen = Seen(worker, failures=99)
    parked(kafka, "k", 0, "bad", attempts=1)
    parked(kafka, "k", 1, "next")
    with member(worker, kafka):
        eventually(lambda: len(kafka.logs[TopicPartition(RETRY, 0)]) == 3)
        ended.set()
    told = history_of(kafka.logs[TopicPartition(RETRY, 0)][2])
    assert told is not None
    assert (told.attempts, told.offset, told.parked) == (2, 0, True)
    assert told.due_ms > time.time() * 1000 - 60_000
    assert committed(kafka, RETRY) in (None, 0)
    assert seen.calls == [("bad", 2)]


def test_what_a_stopped_process_parks_though_it_has_lost_the_partition_is_not_handled_again(kafka):
    worker = Worker()
    seen = Seen(worker)
    kafka.send("orders", "first", "bad", key=b"k", partition=0)
    with member(worker, kafka):
        wait_committed(kafka, 2)
        due_ms = history_of(kafka.logs[TopicPartition(RETRY, 0)][0]).due_ms
        parked(kafka, "k", 0, "first")
        wait_committed(kafka, 2, topic=RETRY)
        assert time.time() * 1000 >= due_ms, "and it does not bring the one behind it forward"
    assert seen.calls == [("first", 1), ("bad", 1), ("bad", 2)]


def test_one_with_a_lower_offset_does_not_bring_the_others_forward(kafka):
    worker = Worker()
    seen = Seen(worker)
    due_ms = int((time.time() + 1.5) * 1000)
    parked(kafka, "k", 5, "bad", attempts=1, due_ms=due_ms)
    parked(kafka, "k", 6, "next")
    parked(kafka, "k", 0, "again", attempts=1)
    with member(worker, kafka):
        eventually(lambda: seen.calls == [("again", 2)])
        wait_committed(kafka, 4, topic=RETRY)
    assert time.time() * 1000 >= due_ms
    assert seen.calls == [("again", 2), ("bad", 2), ("bad", 3), ("next", 1)]


def test_two_keys_wait_each_for_its_own(kafka):
    worker = Worker()
    seen = Seen(worker)
    for key in ("a", "b"):
        kafka.send("orders", f"bad-{key}", f"next-{key}", key=key.encode(), partition=0)
    with member(worker, kafka):
        wait_committed(kafka, 4)
        wait_committed(kafka, 4, topic=RETRY)
    for key in ("a", "b"):
        assert seen.of(f"bad-{key}", f"next-{key}") == [(f"bad-{key}", 1), (f"bad-{key}", 2), (f"next-{key}", 1)]


def test_without_a_key_nothing_waits(kafka):
    worker = Worker()
    seen = Seen(worker)
    kafka.send("orders", "bad", "next", key=None, partition=0)
    with member(worker, kafka):
        eventually(lambda: ("next", 1) in seen.calls)
        eventually(lambda: ("bad", 2) in seen.calls)
        wait_committed(kafka, 2)


@pytest.mark.parametrize("order", ["partition", "key"])
def test_where_a_batch_or_the_partition_is_kept_in_order_it_waits_in_memory(kafka, order):
    worker, calls = Worker(), []
    batch = (10, 0.05) if order == "key" else None

    def take(given) -> None:
        calls.extend(record.text() for record in (given if isinstance(given, list) else [given]))
        if calls.count("bad") == 1:
            raise ConnectionError("away")

    take.__annotations__ = {"given": list[Record] if batch else Record}
    worker.handler("orders", order=order, batch=batch, retry=KEEP)(take)
    kafka.send("orders", "bad", "next", key=b"k", partition=0)
    with member(worker, kafka):
        wait_committed(kafka, 2)
    assert RETRY not in kafka.partition_counts()
    assert calls[-2:] == ["bad", "next"]


def test_it_needs_an_order_and_a_consumer_group():
    with pytest.raises(HandlerError, match="order is 'none'"):
        Seen(Worker(), order="none")
    with pytest.raises(HandlerError, match="keep_order='yes'"):
        Backoff(keep_order="yes")
    worker = Worker(engine="share")
    Seen(worker)
    with pytest.raises(HandlerError, match="a share group keeps no order"):
        worker.handlers.engine("share")


def test_what_a_stopped_process_parks_while_its_next_owner_is_at_it_is_handled_once(kafka):
    worker, calls, go = Worker(), list[tuple[str, int]](), threading.Event()

    @worker.handler("orders", concurrency=4, retry=KEEP)
    def handle(record: Record) -> None:
        calls.append((record.text(), record.attempt))
        if record.text() == "slow":
            assert go.wait(20)

    kafka.send("orders", "slow", "next", key=b"k", partition=0)
    with member(worker, kafka):
        eventually(lambda: calls == [("slow", 1)])
        parked(kafka, "k", 0, "slow")
        parked(kafka, "k", 1, "next")
        wait_committed(kafka, 2, topic=RETRY)
        go.set()
        wait_committed(kafka, 2)
        kafka.send("orders", "last", key=b"k", partition=0)
        wait_committed(kafka, 3)
    assert calls == [("slow", 1), ("next", 1), ("last", 1)]


class Refusing(MemoryKafka):
    """A twin that does not take one record at first, and says so before or after it takes the next one."""

    def __init__(self, topics: dict[str, int], value: bytes, *, is_late: bool) -> None:
        super().__init__(topics)
        self.value = value
        self.is_late = is_late
        self.refused: list[Delivery] = []

    def producer(self, **named):
        made = super().producer(**named)
        real = made.send

        def send(delivery: Delivery) -> None:
            if self.refused or delivery.records[0].value != self.value:
                real(delivery)
                if len(self.refused) == 1 and self.is_late:
                    self.refused[0].settle(0, DeliveryUnknown("purged"))
                    self.refused.append(delivery)
            else:
                self.refused.append(delivery)
                if not self.is_late:
                    delivery.settle(0, DeliveryUnknown("purged"))

        made.send = send  # type: ignore[method-assign]
        return made


@pytest.mark.parametrize("is_late", [False, True])
def test_a_parked_record_that_kafka_takes_only_later_is_not_overtaken(is_late):
    kafka, worker, calls, go = (
        Refusing({"orders": 1}, b"second", is_late=is_late),
        Worker(),
        list[str](),
        threading.Event(),
    )

    @worker.handler("orders", concurrency=4, retry=KEEP)
    def handle(record: Record) -> None:
        calls.append(record.text())
        if record.text() == "bad" and record.attempt == 1:
            raise ConnectionError("away")
        if record.text() == "bad":
            assert go.wait(20)

    kafka.send("orders", "bad", key=b"k")
    with member(worker, kafka):
        eventually(lambda: calls == ["bad", "bad"])  # the key's line moves
        kafka.send("orders", "first", "second", "third", key=b"k")
        eventually(lambda: bool(kafka.refused))
        kafka.send("orders", "fourth", key=b"k")
        eventually(lambda: len(kafka.logs[TopicPartition(RETRY, 0)]) == 5)
        go.set()
        wait_committed(kafka, 5, topic=RETRY)
    found = [message.value() for message in kafka.logs[TopicPartition(RETRY, 0)] if message is not None]
    late = [b"third", b"second"] if is_late else [b"second", b"third"]
    assert found == [b"bad", b"first", *late, b"fourth"]
    assert calls == ["bad", "bad", "first", "second", "third", "fourth"]


def test_records_of_a_topic_that_was_made_anew_are_not_taken_for_parked_ones_of_the_earlier(kafka):
    worker = Worker()
    seen = Seen(worker)
    kafka.send("orders", "bad", "next", key=b"k", partition=0)
    with member(worker, kafka):
        wait_committed(kafka, 2)
        kafka.recreate_topic("orders", 2)
        kafka.send("orders", "new 0", "new 1", "new 2", key=b"k", partition=0)
        wait_committed(kafka, 3)
        wait_committed(kafka, len(kafka.logs[TopicPartition(RETRY, 0)]), topic=RETRY)
        eventually(lambda: len(seen.calls) >= 6, why=lambda: str(seen.calls))
    texts = [text for text, _ in seen.calls]
    assert sorted(texts) == ["bad", "bad", "new 0", "new 1", "new 2", "next"]
    for names in (["bad", "bad", "next"], ["new 0", "new 1", "new 2"]):
        assert [text for text in texts if text in names] == names


def test_what_comes_back_of_another_partition_is_handled_whatever_its_offset(kafka):
    """The topic has more partitions than its retry topic: what fails in the last comes back by another one."""
    kafka = MemoryKafka({"orders": 3})
    kafka.create_topic(RETRY, 2)
    worker = Worker()
    seen = Seen(worker)
    kafka.send("orders", *(f"x{number}" for number in range(9)), key=b"o", partition=0)
    kafka.send("orders", "bad", "next", "last", key=b"k", partition=2)
    with member(worker, kafka):
        wait_committed(kafka, 9)
        wait_committed(kafka, 3, partition=2)
        eventually(lambda: ("bad", 2) in seen.calls, why=lambda: str(seen.calls))
        kafka.send("orders", "afterwards", key=b"k", partition=2)
        wait_committed(kafka, 4, partition=2)
        eventually(lambda: ("afterwards", 1) in seen.calls)
        wait_committed(kafka, len(kafka.logs[TopicPartition(RETRY, 0)]), topic=RETRY)
    assert sorted(text for text, _ in seen.calls if text[0] != "x") == ["afterwards", "bad", "bad", "last", "next"]
    assert len(kafka.logs[TopicPartition(RETRY, 0)]) <= 2  # the failed one, and what is told of its second attempt


def test_what_waits_for_what_is_parked_takes_no_room_from_it(kafka, monkeypatch):
    """Else the worker is full of records that may not begin before it has read what it has no room for."""
    monkeypatch.setattr("recado.worker.handling.flow.MAX_RECORDS", 40)
    worker = Worker()
    seen = Seen(worker)
    for offset in range(60):
        parked(kafka, "k", offset, f"parked {offset}")
    kafka.send("orders", *(f"other {number}" for number in range(200)), key=b"o", partition=0)
    with member(worker, kafka):
        wait_committed(kafka, 60, topic=RETRY)
        wait_committed(kafka, 200)
    assert len(seen.calls) == 260


def test_a_record_without_a_key_has_no_order_to_keep_and_comes_back_once_for_each_attempt(kafka):
    worker = Worker()
    seen = Seen(worker, failures=99)
    kafka.send("orders", "bad", key=None, partition=0)
    with member(worker, kafka):
        eventually(lambda: kafka.logs.get(TopicPartition(DEAD, 0)), within_s=20, why=lambda: str(seen.calls))
        wait_committed(kafka, 2, topic=RETRY)
    assert seen.calls == [("bad", 1), ("bad", 2), ("bad", 3)]
    assert len(kafka.logs[TopicPartition(DEAD, 0)]) == 1


def test_a_copy_that_an_earlier_owner_parked_late_counts_only_where_its_record_is_not_read_here(kafka):
    kafka.create_topic(RETRY, 2)
    kafka.send("orders", "first", key=b"k", partition=0)
    before, worker = Worker(), Worker()
    Seen(before)
    seen = Seen(worker)
    with member(before, kafka):
        wait_committed(kafka, 1)
    with member(worker, kafka):
        kafka.send("orders", "other", key=b"o", partition=0)
        wait_committed(kafka, 2)  # what is parked is known now
        parked(kafka, "k", 4, "last")  # by whoever had the partition before, and had read on further
        wait_committed(kafka, 1, topic=RETRY)
        kafka.send("orders", "next", "third", "last", key=b"k", partition=0)
        wait_committed(kafka, 5)
        parked(kafka, "k", 0, "first again")  # this may be all that there is of it
        wait_committed(kafka, 2, topic=RETRY)
    assert [text for text, _ in seen.calls] == ["other", "next", "third", "last", "first again"]


def parked_late(kafka: MemoryKafka, keys: int) -> int:
    """As an earlier owner's producer may leave it: the first of keys come last, and some were told of twice."""
    for offset in range(2, 60):
        parked(kafka, f"k{offset % keys}", offset, f"{offset}")
    for offset in range(5, 60, 5):
        parked(kafka, f"k{offset % keys}", offset, f"{offset}", attempts=1)
    for offset in (1, 0, 1):
        parked(kafka, f"k{offset}", offset, f"{offset}")
    return len(kafka.logs[TopicPartition(RETRY, 0)])


def test_where_there_is_no_room_to_read_on_what_was_parked_late_still_keeps_its_place(kafka, monkeypatch, capsys):
    monkeypatch.setattr("recado.worker.handling.flow.MAX_RECORDS", 40)
    worker = Worker()
    seen = Seen(worker)
    count = parked_late(kafka, 10)
    with member(worker, kafka, AUDIBLE):
        wait_committed(kafka, count, topic=RETRY)
    assert "no room" not in capsys.readouterr().err
    for key in range(10):
        found = [int(text) for text, _ in seen.calls if int(text) % 10 == key]
        assert found == list(range(key, 60, 10))


def test_where_all_that_there_is_room_for_waits_for_what_there_is_not_one_goes_before_and_the_log_says_so(
    kafka, monkeypatch, capsys
):
    monkeypatch.setattr("recado.worker.handling.flow.MAX_RECORDS", 40)
    worker = Worker()
    seen = Seen(worker)
    count = parked_late(kafka, 2)
    with member(worker, kafka, AUDIBLE):
        wait_committed(kafka, count, topic=RETRY)
    assert "no room for what is parked" in capsys.readouterr().err
    assert sorted(int(text) for text, _ in seen.calls) == list(range(60))
