"""The end of a worker on the in-memory twin: what is committed, and what is said to remain."""

from __future__ import annotations

import random
import threading
import time

from prometheus_client import REGISTRY

from recado import Backoff, Record, Worker
from recado.kafka.memory import MemoryKafka
from recado.outcomes import offsets
from recado.record import TopicPartition
from recado.settings import Settings
from recado.worker import drain
from tests.programs import eventually, free_port, status
from tests.twin import GROUP, SETTINGS, committed, member, wait_committed


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def stop_in_a_rebalance(settings: Settings, consumes: int) -> tuple[int, int | None]:
    """Stop a worker that has done one record while commits are refused; its exit code, and what is committed."""
    kafka, worker = MemoryKafka({"orders": 1}), Worker()
    began, go = threading.Event(), threading.Event()

    @worker.handler("orders")
    def handle(record: Record) -> None:
        began.set()
        assert go.wait(20)

    kafka.send("orders", "a")
    with member(worker, kafka, settings) as running:
        assert began.wait(20)
        with kafka.changed:
            kafka.group(GROUP).rebalancing[running.consumer] = consumes
            go.set()
        worker.stop()
        return running.join(), committed(kafka)


def test_who_stops_in_a_rebalance_catches_up_and_commits_before_it_leaves():
    failed = metric("recado_worker_commits_total", result="failed")
    assert stop_in_a_rebalance(SETTINGS, consumes=10) == (0, 1)
    assert metric("recado_worker_commits_total", result="failed") > failed, "it was refused before"


def test_a_commit_that_is_refused_to_the_end_is_reported_with_its_reason(capsys):
    settings = Settings(group=GROUP, worker_port=0, drain_s=0.3, log_format="json")
    code, offset = stop_in_a_rebalance(settings, consumes=1_000_000)
    assert code == 3
    assert offset in (None, 0)
    assert "the group rebalances" in capsys.readouterr().err


def test_a_stop_while_a_partition_is_given_away_begins_no_second_drain_time():
    kafka, first, go, began = MemoryKafka({"orders": 2}), Worker(), threading.Event(), []
    settings = Settings(group=GROUP, worker_port=free_port(), drain_s=3.0, log_format="json")

    @first.handler("orders", concurrency=2)
    def handle(record: Record) -> None:
        began.append(record.partition)
        assert go.wait(30)

    for partition in (0, 1):
        kafka.send("orders", "a", partition=partition)
    with member(first, kafka, settings) as running:
        eventually(lambda: len(began) == 2)
        second = Worker()
        second.handler("orders")(lambda record: None)
        with member(second, kafka):
            eventually(lambda: len(kafka.group(GROUP).members) == 2)
            time.sleep(0.5)  # the loop waits for the handler of the partition that goes
            told_at = time.monotonic()
            first.stop()
            assert status(f"http://127.0.0.1:{settings.worker_port}/health/ready") == 503
            assert running.join() == 3
            assert time.monotonic() - told_at < 4.5
        go.set()


def test_who_leaves_with_a_handler_at_work_has_waited_for_it_already_and_leaves(monkeypatch, capsys):
    monkeypatch.setattr(drain, "LEAVE_S", 0.5)
    kafka, worker, go, began = MemoryKafka({"orders": 1}), Worker(), threading.Event(), threading.Event()

    @worker.handler("orders")
    def handle(record: Record) -> None:
        began.set()
        assert go.wait(30)

    kafka.send("orders", "a")
    with member(worker, kafka, Settings(group=GROUP, worker_port=0, drain_s=1.5, log_format="json")) as running:
        assert began.wait(20)
        worker.stop()
        assert running.join() == 3
        assert kafka.group(GROUP).members == []
        go.set()
    assert "kafka did not answer at the end" not in capsys.readouterr().err


def test_what_is_done_beyond_records_that_are_not_is_not_done_again_by_the_next_worker():
    """Runs hold the records of one key after the other: those of the first are ahead of all others."""
    kafka, handled = MemoryKafka({"orders": 1}), []
    for number in range(2000):
        kafka.send("orders", "x", key=b"%d" % (number % 40))
    for stays in range(3):
        worker, began, go, before = Worker(), threading.Event(), threading.Event(), len(handled)

        @worker.handler("orders", concurrency=2)
        def handle(record: Record, before=before, began=began, go=go, stays=stays) -> None:
            handled.append((record.key, record.offset))
            if len(handled) > before + 40 and stays < 2:
                began.set()
                assert go.wait(20)

        with member(worker, kafka) as running:
            if stays < 2:
                assert began.wait(20)
            else:
                wait_committed(kafka, 2000)
            worker.stop()
            threading.Timer(0.3, go.set).start()  # by then it has closed what waits
            assert running.join() == 0
    assert sorted(offset for _, offset in handled) == list(range(2000)), "each once"
    for key in {key for key, _ in handled}:
        offsets = [offset for other, offset in handled if other == key]
        assert offsets == sorted(offsets), "no key goes back"


def test_a_record_that_waits_for_another_attempt_is_all_that_comes_again():
    kafka, handled = MemoryKafka({"orders": 1}), []
    for number in range(6):
        kafka.send("orders", "x", key=b"%d" % number)
    failing = True
    for _ in range(2):
        worker = Worker()

        @worker.handler("orders", concurrency=4, retry=Backoff(first_s=1.9, jitter=0))
        def handle(record: Record, failing=failing) -> None:
            handled.append(record.offset)
            if record.offset == 1 and failing:
                raise ConnectionError

        with member(worker, kafka) as running:
            if failing:
                eventually(lambda: sorted(handled) == list(range(6)))
                eventually(lambda: kafka.group(GROUP).offsets[TopicPartition("orders", 0)].metadata)
                assert committed(kafka) == 1
            else:
                wait_committed(kafka, 6)
            assert running.end() == 0
        failing = False
    assert sorted(handled) == [0, 1, 1, 2, 3, 4, 5]


def test_a_map_that_is_full_rests_the_partition_and_says_what_it_leaves_out(monkeypatch, capsys):
    monkeypatch.setattr(offsets, "MAP_CHARS", 40)
    kafka, worker, handled, go = MemoryKafka({"orders": 1}), Worker(), [], threading.Event()

    @worker.handler("orders", concurrency=64)
    def handle(record: Record) -> None:
        if record.key.startswith(b"slow"):
            assert go.wait(20)
        handled.append(record.offset)

    chance = random.Random(3)
    slow = 0
    for number in range(400):
        slow += (is_slow := slow < 60 and chance.random() < 0.3)
        kafka.send("orders", "x", key=b"slow%d" % number if is_slow else b"%d" % number)
    settings = Settings(group=GROUP, worker_port=0, drain_s=0.3, log_format="json")
    with member(worker, kafka, settings) as running:
        eventually(lambda: len(handled) > 300)
        assert running.end() == 3
        go.set()
    assert "do not fit into its offset map: handled again" in capsys.readouterr().err


def test_a_partition_that_moves_takes_no_done_record_along():
    kafka, first, second, handled = MemoryKafka({"orders": 2}), Worker(), Worker(), []
    began, go = threading.Event(), threading.Event()

    @first.handler("orders", concurrency=2)
    def one(record: Record) -> None:
        handled.append((record.partition, record.offset))
        if len(handled) > 40:
            began.set()
            assert go.wait(20)

    second.handler("orders")(lambda record: handled.append((record.partition, record.offset)))
    for number in range(400):
        kafka.send("orders", "x", key=b"%d" % (number % 40), partition=number % 2)
    with member(first, kafka):
        assert began.wait(20)
        with member(second, kafka):
            eventually(lambda: len(kafka.group(GROUP).members) == 2)
            go.set()
            wait_committed(kafka, 200, partition=0)
            wait_committed(kafka, 200, partition=1)
    assert len(handled) == 400


def test_what_is_done_and_not_committed_is_told_also_of_a_partition_that_was_lost_meanwhile(capsys):
    kafka, worker, began, go = MemoryKafka({"orders": 1}), Worker(), threading.Event(), threading.Event()

    @worker.handler("orders", order="none", concurrency=2)
    def handle(record: Record) -> None:
        if record.offset == 1:
            began.set()
            assert go.wait(20)

    settings = Settings(topic="orders", group=GROUP, worker_port=0, drain_s=5.0, log_format="json")
    kafka.send("orders", "a")
    with member(worker, kafka, settings) as running:
        wait_committed(kafka, 1)
        with kafka.changed:
            kafka.group(GROUP).rebalancing[running.consumer] = 1_000_000
        kafka.send("orders", "b", "c")
        assert began.wait(20)
        worker.stop()
        eventually(lambda: "draining" in capsys.readouterr().err)
        with kafka.changed:
            kafka.group(GROUP).expel(running.consumer)
        code = running.join()
        go.set()
    assert code == 3
    assert "done from here on, but Kafka did not commit it" in capsys.readouterr().err
