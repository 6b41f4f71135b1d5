"""The worker as a whole on the in-memory twin: what is committed when, and what runs beside what."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import urllib.error
import urllib.request

import pytest
from prometheus_client import REGISTRY

from recado import Backoff, Record, Reject, Retry, Worker
from recado.errors import NotAllowed
from recado.kafka.memory import MemoryKafka
from recado.outcomes.history import history_of
from recado.record import TopicPartition
from recado.settings import Settings
from recado.worker.handling import flow
from tests.programs import eventually
from tests.twin import GROUP, SETTINGS, committed, member, wait_committed

AT_ONCE = Backoff(first_s=0, jitter=0, attempts=3)


class NoDeadLetters(MemoryKafka):
    """A cluster that lets nobody make a topic for dead letters."""

    def create_topic(self, name, partitions=1, config=None):
        if name.startswith("dlq."):
            raise NotAllowed(f"creating topic {name}: not allowed")
        return super().create_topic(name, partitions, config)


def dead_letters(kafka: MemoryKafka, topic: str = "orders", partitions: int = 1) -> list[tuple[bytes, int]]:
    """The dead letters of a topic: (value, offset it had)."""
    stored = [kafka.logs.get(TopicPartition(f"dlq.{GROUP}.{topic}", number), []) for number in range(partitions)]
    found = [message for log in stored for message in log]
    return [(m.value(), int(dict(m.headers())["__dlq.errors.offset"])) for m in found]


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_records_are_handled_in_order_and_committed():
    kafka, worker, got = MemoryKafka({"orders": 1}), Worker(), []
    worker.handler("orders")(lambda record: got.append(record.text()))
    kafka.send("orders", "a", "b", "c")
    with member(worker, kafka) as running:
        wait_committed(kafka, 3)
        assert running.end() == 0
    assert got == ["a", "b", "c"]


def test_the_offset_stays_at_the_lowest_not_done_record():
    kafka, worker = MemoryKafka({"orders": 1}), Worker()
    go, done = threading.Event(), []

    @worker.handler("orders", concurrency=4)
    def handle(record: Record):
        if record.offset == 1:
            assert go.wait(20)
        done.append(record.offset)

    for number in range(4):
        kafka.send("orders", "x", key=b"%d" % number)
    with member(worker, kafka):
        eventually(lambda: len(done) == 3)
        wait_committed(kafka, 1)
        go.set()
        wait_committed(kafka, 4)


@pytest.mark.parametrize("is_async", [False, True])
def test_one_key_at_a_time_and_in_order_different_keys_side_by_side(is_async):
    kafka, worker = MemoryKafka({"orders": 1}), Worker()
    active: dict[bytes, int] = {}
    seen: dict[bytes, list[int]] = {}
    problems: list[str] = []
    most = [0]

    def enter(record: Record) -> None:
        if record.key in active:
            problems.append("overlap")
        active[record.key] = 1
        most[0] = max(most[0], len(active))
        seen.setdefault(record.key, []).append(record.offset)

    if is_async:

        @worker.handler("orders", concurrency=8)
        async def handle(record: Record):
            enter(record)
            await asyncio.sleep(0.001)
            del active[record.key]
    else:

        @worker.handler("orders", concurrency=8)
        def handle(record: Record):
            enter(record)
            time.sleep(0.001)
            del active[record.key]

    for number in range(400):
        kafka.send("orders", "x", key=b"%d" % (number % 13))
    with member(worker, kafka):
        wait_committed(kafka, 400)
    assert problems == []
    assert most[0] == 8
    assert all(offsets == sorted(offsets) for offsets in seen.values())


def test_concurrency_goes_beyond_the_partitions_for_records_without_key():
    kafka, worker = MemoryKafka({"orders": 1}), Worker()
    together = threading.Barrier(6)
    worker.handler("orders", concurrency=6)(lambda record: together.wait(20))
    kafka.send("orders", *["x"] * 6)
    with member(worker, kafka):
        wait_committed(kafka, 6)


def test_order_partition_is_one_at_a_time_per_partition_and_partitions_side_by_side():
    kafka, worker = MemoryKafka({"orders": 2}), Worker()
    together, active, problems = threading.Barrier(2), set(), []

    @worker.handler("orders", concurrency=4, order="partition")
    def handle(record: Record):
        if record.partition in active:
            problems.append(record)
        active.add(record.partition)
        together.wait(20)
        active.discard(record.partition)

    for partition in (0, 1):
        kafka.send("orders", "a", "b", "c", partition=partition)
    with member(worker, kafka):
        wait_committed(kafka, 3, partition=0)
        wait_committed(kafka, 3, partition=1)
    assert problems == []


def test_a_slow_partition_does_not_keep_the_only_thread():
    kafka, worker, seen = MemoryKafka({"orders": 2}), Worker(), []

    @worker.handler("orders")
    def handle(record: Record):
        seen.append(record.partition)
        time.sleep(0.05)

    kafka.send("orders", *["x"] * 60, partition=0)
    kafka.send("orders", "x", partition=1)
    with member(worker, kafka):
        eventually(lambda: 1 in seen)
        assert len(seen) < 40, "partition 1 had to wait for all of partition 0"


def test_a_failing_record_is_tried_again_and_its_key_waits_while_others_go_on():
    kafka, worker, tries, done = MemoryKafka({"orders": 1}), Worker(), [], []
    others_done = threading.Event()

    @worker.handler("orders", concurrency=2, retry=Backoff(first_s=0.05, jitter=0))
    def handle(record: Record):
        if record.value == b"bad" and not others_done.is_set():
            tries.append(record.attempt)
            raise ConnectionError("down")
        done.append(record.text())
        if record.text() == "other":
            others_done.set()

    kafka.send("orders", "bad", "after", key=b"k")
    kafka.send("orders", "other", key=b"o")
    with member(worker, kafka):
        wait_committed(kafka, 3)
    assert done == ["other", "bad", "after"]
    assert tries[:1] == [1]


def test_a_dead_letter_that_cannot_be_written_stops_its_partition_while_others_go_on(capsys):
    kafka, worker, tries, done = NoDeadLetters({"orders": 2}), Worker(), [], []
    stopped = metric("recado_worker_records_total", topic="orders", outcome="stopped")

    @worker.handler("orders", retry=AT_ONCE)
    def handle(record: Record):
        if record.value == b"bad":
            tries.append(record.attempt)
            raise ValueError("no good")
        done.append((record.partition, record.offset))

    kafka.send("orders", "ok", "bad", "later", partition=0, key=b"k")
    kafka.send("orders", "ok", partition=1)
    with member(worker, kafka):
        wait_committed(kafka, 1, partition=1)
        wait_committed(kafka, 1, partition=0)
        eventually(lambda: metric("recado_worker_stopped_partitions", topic="orders") == 1)
        kafka.send("orders", "ok", partition=0)
        kafka.send("orders", "ok", partition=1)
        wait_committed(kafka, 2, partition=1)
        assert committed(kafka, partition=0) == 1
    assert tries == [1, 2, 3]
    assert metric("recado_worker_records_total", topic="orders", outcome="stopped") == stopped + 1
    said = next(line for line in capsys.readouterr().err.splitlines() if "partition stopped" in line)
    assert json.loads(said) | {"timestamp": ""} == {
        "event": "partition stopped", "level": "error", "timestamp": "",
        "topic": "orders", "partition": 0, "offset": 1, "attempt": 3,
        "reason": "its dead letter was refused by topic dlq.group.orders: NotAllowed: creating topic "
        "dlq.group.orders: not allowed",
        "error": "NotAllowed: creating topic dlq.group.orders: not allowed",
        "remedy": "let Kafka take it, or fix the handler and restart; nothing is lost",
    }  # fmt: skip


def test_after_a_restart_the_stopped_record_and_all_after_it_are_handled():
    kafka, good, done = NoDeadLetters({"orders": 1}), threading.Event(), []

    def handle(record: Record):
        if record.value == b"bad" and not good.is_set():
            raise Reject("not yet")
        done.append(record.text())

    kafka.send("orders", "ok", "bad", "later")
    first = Worker()
    first.handler("orders")(handle)
    with member(first, kafka) as running:
        wait_committed(kafka, 1)
        eventually(lambda: metric("recado_worker_stopped_partitions", topic="orders") == 1)
        assert running.end() == 3, "the one that failed is left behind"
    good.set()
    second = Worker()
    second.handler("orders")(handle)
    with member(second, kafka):
        wait_committed(kafka, 3)
    assert sorted(done) == ["bad", "later", "ok"], "what was done beyond it is not done again"


def test_an_undecodable_record_is_a_dead_letter_at_once():
    kafka, worker, got = MemoryKafka({"orders": 1}), Worker(), []

    @worker.handler("orders")
    def handle(order: dict):
        got.append(order)

    kafka.send("orders", '{"a":1}', "{", '{"a":2}')
    with member(worker, kafka):
        wait_committed(kafka, 3)
    assert got == [{"a": 1}, {"a": 2}]
    assert dead_letters(kafka) == [(b"{", 1)]


@pytest.mark.parametrize("order", ["key", "partition", "none"])
@pytest.mark.parametrize("concurrency", [1, 4])
def test_the_last_failed_attempt_makes_a_dead_letter_and_what_follows_goes_on(order, concurrency):
    kafka, worker, done = MemoryKafka({"orders": 2}), Worker(), []
    before = metric("recado_worker_records_total", topic="orders", outcome="dead")

    @worker.handler("orders", order=order, concurrency=concurrency, retry=AT_ONCE)
    def handle(record: Record):
        if record.value == b"bad":
            raise ValueError("no good")
        done.append(record.text())

    kafka.send("orders", "a", "bad", "b", "bad", "bad", "c", partition=1, key=b"k")
    with member(worker, kafka) as running:
        wait_committed(kafka, 6, partition=1)
        assert running.end() == 0
    assert sorted(done) == ["a", "b", "c"]
    assert sorted(dead_letters(kafka, partitions=2)) == [(b"bad", 1), (b"bad", 3), (b"bad", 4)]
    assert metric("recado_worker_records_total", topic="orders", outcome="dead") == before + 3
    letter = kafka.logs[TopicPartition(f"dlq.{GROUP}.orders", 1)][0]  # the partition that it had
    assert letter is not None
    history = history_of(letter)
    assert history is not None
    assert (history.attempts, len(history.failures), letter.key()) == (3, 3, b"k")


def test_a_dead_letter_is_done_only_when_kafka_has_it():
    kafka, worker = MemoryKafka({"orders": 1, "dlq.group.orders": 1}), Worker()
    real, go = kafka.outlet, threading.Event()

    def outlet():
        made = real()
        send = made.producer.send
        made.producer.send = lambda delivery: threading.Thread(target=lambda: go.wait(20) and send(delivery)).start()
        return made

    kafka.outlet = outlet

    @worker.handler("orders")
    def handle(record: Record):
        raise Reject("no")

    kafka.send("orders", "x")
    with member(worker, kafka):
        eventually(lambda: metric("recado_worker_failed_attempts_total", topic="orders", error="Reject") > 0)
        time.sleep(0.3)
        assert committed(kafka) in (None, 0)
        go.set()
        wait_committed(kafka, 1)


@pytest.mark.parametrize("error", [SystemExit(0), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit()])
def test_whatever_a_handler_raises_is_no_success(error):
    kafka, worker = MemoryKafka({"orders": 1}), Worker()
    failed = threading.Event()

    @worker.handler("orders", retry=None)
    def handle(record: Record):
        failed.set()
        raise error

    kafka.send("orders", "x")
    with member(worker, kafka):
        wait_committed(kafka, 1)
    assert failed.is_set()
    assert dead_letters(kafka) == [(b"x", 0)]


def test_a_cancelled_async_handler_is_no_success():
    kafka, worker, tries = MemoryKafka({"orders": 1}), Worker(), []

    @worker.handler("orders", retry=AT_ONCE)
    async def handle(record: Record):
        tries.append(record.attempt)
        if record.attempt < 3:
            asyncio.current_task().cancel()
            await asyncio.sleep(1)

    kafka.send("orders", "x")
    with member(worker, kafka):
        wait_committed(kafka, 1)
    assert tries == [1, 2, 3]


def test_retry_with_a_delay_and_per_exception_class():
    kafka, worker, tries = MemoryKafka({"orders": 1}), Worker(), []

    @worker.handler("orders", retry={ConnectionError: AT_ONCE, ValueError: None})
    def handle(record: Record):
        tries.append((record.offset, record.attempt))
        if record.value == b"retry" and record.attempt == 1:
            raise Retry(delay_s=0)
        if record.value == b"down" and record.attempt < 3:
            raise ConnectionResetError
        if record.value == b"wrong":
            raise ValueError

    kafka.send("orders", "retry", "down", "wrong", key=b"k")
    with member(worker, kafka):
        wait_committed(kafka, 3)
    assert dead_letters(kafka) == [(b"wrong", 2)]
    assert tries == [(0, 1), (0, 2), (1, 1), (1, 2), (1, 3), (2, 1)]


def test_stopping_waits_for_what_executes_takes_nothing_new_and_commits():
    kafka, worker, done = MemoryKafka({"orders": 1}), Worker(), []
    began, go = threading.Event(), threading.Event()

    @worker.handler("orders")
    def handle(record: Record):
        began.set()
        assert go.wait(20)
        done.append(record.offset)

    kafka.send("orders", "a", "b", "c")
    with member(worker, kafka) as running:
        assert began.wait(20)
        worker.stop()
        threading.Timer(0.2, go.set).start()
        assert running.join() == 0
    assert done == [0]
    assert committed(kafka) == 1


def test_a_handler_that_does_not_end_in_time_is_reported_and_not_committed():
    kafka, worker = MemoryKafka({"orders": 1}), Worker()
    began, go = threading.Event(), threading.Event()

    @worker.handler("orders")
    def handle(record: Record):
        began.set()
        go.wait(20)

    kafka.send("orders", "a", "b")
    settings = Settings(group=GROUP, worker_port=0, drain_s=0.2, log_level="error")
    with member(worker, kafka, settings) as running:
        assert began.wait(20)
        worker.stop()
        assert running.join() == 3
    go.set()
    assert committed(kafka) in (None, 0)


def test_a_second_stop_hurries():
    kafka, worker = MemoryKafka({"orders": 1}), Worker()
    began, go = threading.Event(), threading.Event()

    @worker.handler("orders")
    def handle(record: Record):
        began.set()
        go.wait(30)

    kafka.send("orders", "a")
    with member(worker, kafka, Settings(group=GROUP, worker_port=0, drain_s=60, log_level="error")) as running:
        assert began.wait(20)
        worker.stop()
        worker.stop()
        assert running.join(within_s=10) == 3
    go.set()


def test_a_wait_for_another_attempt_ends_at_shutdown_and_the_record_stays():
    kafka, worker, tried = MemoryKafka({"orders": 1}), Worker(), threading.Event()

    @worker.handler("orders", retry=Backoff(first_s=1.9, jitter=0))
    def handle(record: Record):
        tried.set()
        raise ConnectionError

    kafka.send("orders", "a")
    with member(worker, kafka) as running:
        assert tried.wait(20)
        assert running.end() == 0
    assert committed(kafka) in (None, 0)


def test_a_tail_without_records_is_no_lag():
    kafka, worker = MemoryKafka({"orders": 1}), Worker()
    worker.handler("orders")(lambda record: None)
    kafka.send("orders", "a")
    for _ in range(3):
        kafka.append_gap(TopicPartition("orders", 0))
    with member(worker, kafka):
        wait_committed(kafka, 4)


def test_a_failed_commit_is_carried_by_the_next():
    kafka, worker, done = MemoryKafka({"orders": 1}), Worker(), threading.Event()
    failed = metric("recado_worker_commits_total", result="failed")

    @worker.handler("orders")
    def handle(record: Record):
        kafka.reachable = False
        done.set()

    kafka.send("orders", "a")
    with member(worker, kafka):
        assert done.wait(20)
        eventually(lambda: metric("recado_worker_commits_total", result="failed") > failed)
        assert committed(kafka) in (None, 0)
        kafka.reachable = True
        wait_committed(kafka, 1)


def test_revoking_waits_for_what_executes_then_commits_and_the_next_owner_goes_on():
    kafka, first, second = MemoryKafka({"orders": 2}), Worker(), Worker()
    began, go, handled = threading.Event(), threading.Event(), []

    @first.handler("orders")
    def one(record: Record):
        began.set()
        assert go.wait(20)
        handled.append(("first", record.partition, record.offset))

    second.handler("orders")(lambda record: handled.append(("second", record.partition, record.offset)))
    kafka.send("orders", "a", "b", partition=1)
    with member(first, kafka):
        assert began.wait(20)
        with member(second, kafka):
            eventually(lambda: len(kafka.group(GROUP).members) == 2)
            assert handled == []
            go.set()
            wait_committed(kafka, 2, partition=1)
    assert sorted(handled, key=lambda h: h[2]) == handled
    assert [h[1:] for h in handled] == [(1, 0), (1, 1)]


def test_what_is_done_is_committed_while_a_partition_waits_to_be_given_away():
    kafka, first, second = MemoryKafka({"orders": 2}), Worker(), Worker()
    quick, slow, at_work = threading.Event(), threading.Event(), []

    @first.handler("orders", concurrency=4)
    def one(record: Record):
        at_work.append(record.text())
        assert (slow if record.text() == "slow" else quick).wait(20)

    second.handler("orders")(lambda record: None)
    with member(first, kafka) as running:
        for count, name in enumerate(("quick", "slow"), 1):
            for partition in range(2):
                kafka.send("orders", name, key=name.encode(), partition=partition)
            eventually(lambda count=count: len(at_work) == 2 * count)
        with member(second, kafka):
            eventually(lambda: len(kafka.group(GROUP).members) == 2)
            time.sleep(0.3)  # the first one waits for its handlers, inside of the rebalance
            quick.set()
            wait_committed(kafka, 1, partition=0)
            wait_committed(kafka, 1, partition=1)
            owners = kafka.group(GROUP).owners
            assert {owners[TopicPartition("orders", number)] for number in range(2)} == {running.consumer}
            slow.set()
            wait_committed(kafka, 2, partition=0)
            wait_committed(kafka, 2, partition=1)


def test_late_results_of_a_lost_partition_are_dropped_and_its_key_does_not_overlap():
    kafka, worker = MemoryKafka({"orders": 1}), Worker()
    began, go, active, problems = threading.Event(), threading.Event(), [], []
    late = metric("recado_worker_late_results_total", topic="orders")

    @worker.handler("orders", concurrency=4)
    def handle(record: Record):
        problems.extend(active)
        active.append(record.offset)
        began.set()
        assert go.wait(20)
        active.remove(record.offset)

    kafka.send("orders", "a", key=b"k")
    with member(worker, kafka) as running:
        assert began.wait(20)
        consumer = running.consumer
        with kafka.changed:
            kafka.group(GROUP).expel(consumer)
        eventually(lambda: not consumer.expelled and consumer.target)
        assert committed(kafka) in (None, 0)
        go.set()
        wait_committed(kafka, 1)
    assert problems == []
    assert metric("recado_worker_late_results_total", topic="orders") == late + 1


def test_memory_stays_within_its_budget_and_everything_is_handled(monkeypatch):
    monkeypatch.setattr(flow, "MAX_RECORDS", 80)
    monkeypatch.setattr(flow, "PATIENCE_S", 0.05)
    kafka, worker, go, done = MemoryKafka({"orders": 2}), Worker(), threading.Event(), []

    @worker.handler("orders", concurrency=2)
    def handle(record: Record):
        assert go.wait(20)
        done.append(record.offset)

    for partition in (0, 1):
        kafka.send("orders", *["x"] * 500, partition=partition)
    with member(worker, kafka) as running:
        consumer = eventually(lambda: running.consumer)
        eventually(lambda: len(consumer._paused) == 2)
        assert sum(consumer._positions.values()) <= 100
        go.set()
        wait_committed(kafka, 500, partition=0)
        wait_committed(kafka, 500, partition=1)
    assert len(done) == 1000


def test_a_record_that_waits_does_not_let_what_is_done_ahead_of_it_grow_for_ever(monkeypatch):
    monkeypatch.setattr(flow, "MAX_AHEAD", 50)
    monkeypatch.setattr(flow, "PATIENCE_S", 0.05)
    kafka, worker, go, done = MemoryKafka({"orders": 2}), Worker(), threading.Event(), []

    @worker.handler("orders", concurrency=2)
    def handle(record: Record):
        if record.key == b"slow":
            assert go.wait(20)
        done.append(record.partition)

    kafka.send("orders", "x", key=b"slow", partition=0)
    with member(worker, kafka) as running:
        for _ in range(100):
            kafka.send("orders", *["x"] * 100, partition=0)
            time.sleep(0.002)
        consumer = running.consumer
        eventually(lambda: TopicPartition("orders", 0) in consumer._paused)
        kafka.send("orders", "x", partition=1)
        wait_committed(kafka, 1, partition=1)
        go.set()
        wait_committed(kafka, 10_001, partition=0)


def test_batches():
    kafka, worker, batches = MemoryKafka({"orders": 1}), Worker(), []

    @worker.handler("orders", batch=(4, 0.1))
    def handle(orders: list[dict]):
        batches.append([order["n"] for order in orders])

    kafka.send("orders", *[json.dumps({"n": n}) for n in range(10)])
    with member(worker, kafka):
        wait_committed(kafka, 10)
    assert batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_a_failing_batch_is_tried_again_as_a_whole_and_only_an_undecodable_record_of_it_is_dead():
    kafka, worker, batches = MemoryKafka({"orders": 1}), Worker(), []

    @worker.handler("orders", batch=(3, 0.05), retry=AT_ONCE)
    async def handle(orders: list[dict]):
        batches.append(len(orders))
        if len(batches) == 1:
            raise ConnectionError

    kafka.send("orders", "{}", "{}", "{}", "{}", "not json", "{}")
    with member(worker, kafka):
        wait_committed(kafka, 6)
    assert batches == [3, 3, 1, 1]
    assert dead_letters(kafka) == [(b"not json", 4)]


def test_a_batch_that_fails_for_good_becomes_as_many_dead_letters():
    kafka, worker = MemoryKafka({"orders": 1}), Worker()

    @worker.handler("orders", batch=(3, 0.05), retry=AT_ONCE)
    def handle(records: list[Record]):
        if records[0].offset == 0:
            raise ValueError("no good")

    kafka.send("orders", *"abcdef")
    with member(worker, kafka):
        wait_committed(kafka, 6)
    assert dead_letters(kafka) == [(b"a", 0), (b"b", 1), (b"c", 2)]


def test_patterns_take_topics_that_come_later():
    kafka, worker, got = MemoryKafka({"orders.eu": 1}), Worker(), []
    worker.handler(r"^orders\..*")(lambda record: got.append(record.topic))
    kafka.send("orders.eu", "x")
    with member(worker, kafka):
        wait_committed(kafka, 1, "orders.eu")
        kafka.create_topic("orders.us", 1)
        kafka.send("orders.us", "x")
        wait_committed(kafka, 1, "orders.us")
    assert got == ["orders.eu", "orders.us"]


def test_several_handlers_do_not_hold_up_one_another(monkeypatch):
    monkeypatch.setattr(flow, "MAX_RECORDS", 80)
    kafka, worker, go = MemoryKafka({"slow": 1, "fast": 1}), Worker(), threading.Event()
    worker.handler("slow")(lambda record: go.wait(20))
    worker.handler("fast")(lambda record: None)
    kafka.send("slow", *["x"] * 200)
    kafka.send("fast", *["x"] * 200)
    with member(worker, kafka):
        wait_committed(kafka, 200, "fast")
        go.set()
        wait_committed(kafka, 200, "slow")


def ready(port: int) -> tuple[int, dict]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_the_health_port_tells_why_it_is_not_ready():
    kafka, worker, began, go = NoDeadLetters({"orders": 1}), Worker(), threading.Event(), threading.Event()

    @worker.handler("orders")
    def handle(record: Record):
        began.set()
        assert go.wait(20)
        raise Reject("wrong customer")

    ports = []
    kafka.send("orders", "x")
    with pytest.MonkeyPatch.context() as patch:
        from recado.worker import worker as module

        real = module.HealthPort

        def spy(**given):
            port = real(**given)
            ports.append(port.port)
            return port

        patch.setattr(module, "HealthPort", spy)
        with member(worker, kafka):
            assert began.wait(20)
            assert ready(ports[0]) == (200, {"status": "ready", "reasons": []})
            with urllib.request.urlopen(f"http://127.0.0.1:{ports[0]}/health/live", timeout=5) as answer:
                assert answer.status == 200
            with urllib.request.urlopen(f"http://127.0.0.1:{ports[0]}/metrics", timeout=5) as answer:
                assert b"recado_worker_assigned_partitions" in answer.read()
            go.set()
            _, body = eventually(lambda: (found := ready(ports[0]))[0] == 503 and found)
            reason = body["reasons"][0]
            assert (reason["code"], reason["topic"], reason["partition"], reason["offset"]) == (
                "partition-stopped", "orders", 0, 0,
            )  # fmt: skip
            assert "its dead letter was refused" in reason["error"]


def test_a_taken_health_port_gives_way_to_the_next_free_one():
    from recado.worker.reporting.health import HealthPort

    first = HealthPort(host="127.0.0.1", port=0, reasons=list)
    second = HealthPort(host="127.0.0.1", port=first.port, reasons=list)
    try:
        assert second.port > first.port
    finally:
        first.close()
        second.close()


def test_a_worker_without_handlers_says_so():
    with pytest.raises(SystemExit) as ended:
        Worker().run(settings=SETTINGS, consumer=lambda settings, group: MemoryKafka().consumer(group))
    assert ended.value.code == 2


def test_a_value_that_is_nested_too_deeply_is_a_dead_letter_and_its_batch_goes_on():
    kafka, worker, got = MemoryKafka({"orders": 1}), Worker(), []

    @worker.handler("orders", batch=(3, 0.1))
    def handle(values: list[dict]):
        got.extend(values)

    kafka.send("orders", '{"n": 1}', '{"a":' * 200_000, '{"n": 2}')
    with member(worker, kafka):
        wait_committed(kafka, 3)
    assert got == [{"n": 1}, {"n": 2}]
    assert [offset for _, offset in dead_letters(kafka)] == [1]
