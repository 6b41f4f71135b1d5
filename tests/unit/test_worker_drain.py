"""The end of a worker on the in-memory twin: what is committed, and what is said to remain."""

from __future__ import annotations

import threading

from prometheus_client import REGISTRY

from recado import Backoff, Record, Worker
from recado.kafka.memory import MemoryKafka
from recado.settings import Settings
from recado.worker import holes
from tests.programs import eventually
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


def test_what_is_not_done_below_a_done_record_is_finished_at_the_end_so_that_nothing_is_repeated(monkeypatch):
    """Runs hold the records of one key after the other: those of the first are ahead of all others."""
    monkeypatch.setattr(holes, "BUDGET_S", 600.0)  # a handler that this test holds up seems slow
    kafka, worker, handled = MemoryKafka({"orders": 1}), Worker(), []
    began, go = threading.Event(), threading.Event()

    @worker.handler("orders", concurrency=2)
    def handle(record: Record) -> None:
        handled.append((record.key, record.offset))
        if len(handled) > 40:
            began.set()
            assert go.wait(20)

    for number in range(2000):
        kafka.send("orders", "x", key=b"%d" % (number % 40))
    with member(worker, kafka) as running:
        assert began.wait(20)
        worker.stop()
        threading.Timer(0.3, go.set).start()  # by then it has closed what waits
        assert running.join() == 0
    assert {offset for _, offset in handled} == set(range(committed(kafka)))
    assert len(handled) == committed(kafka) < 2000
    for key in {key for key, _ in handled}:
        offsets = [offset for other, offset in handled if other == key]
        assert offsets == sorted(offsets), "no key goes back"


def test_done_records_beyond_one_that_waits_for_another_attempt_are_told_with_exit_code_3(capsys):
    kafka, worker, handled = MemoryKafka({"orders": 1}), Worker(), []

    @worker.handler("orders", concurrency=4, retry=Backoff(first_s=200))
    def handle(record: Record) -> None:
        handled.append(record.offset)
        if record.offset == 1:
            raise ConnectionError

    settings = Settings(group=GROUP, worker_port=0, drain_s=5.0, log_format="json")
    for number in range(6):
        kafka.send("orders", "x", key=b"%d" % number)
    with member(worker, kafka, settings) as running:
        eventually(lambda: sorted(handled) == list(range(6)))
        wait_committed(kafka, 1)
        assert running.end() == 3
    told = capsys.readouterr().err
    assert "not done, while 4 records from offset 2 on are: those are handled again" in told
    assert '"where": "orders/0/1"' in told
    assert committed(kafka) == 1


def test_a_partition_that_moves_takes_no_done_record_along(monkeypatch):
    monkeypatch.setattr(holes, "BUDGET_S", 600.0)
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
