"""What a running worker's metrics tell."""

from __future__ import annotations

import re
import threading
import urllib.request
import uuid
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

import recado.worker
from recado import Backoff, Record, Reject, Worker
from recado.clock import wall_clock_ms
from recado.errors import HandlerError
from recado.kafka.memory import MemoryKafka
from recado.outcomes.history import History, header_of
from recado.record import Outgoing
from recado.settings import Settings
from recado.telemetry.bounded import OTHER, Bounded
from recado.worker.reporting import audit
from recado.worker.reporting.readiness import CODES
from recado.worker.ways import outbound
from tests.programs import eventually, free_port
from tests.twin import GROUP, member, wait_committed


@pytest.fixture
def topic() -> str:
    """A name of its own: metrics are the process's."""
    return f"orders-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def settings(topic: str) -> Settings:
    return Settings(topic=topic, group=GROUP, worker_port=free_port(), drain_s=5.0, log_level="critical")


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


def test_time_to_done_is_counted_for_every_record_also_those_that_send_and_those_that_came_twice(topic, settings):
    kafka, worker = MemoryKafka({topic: 1, "out": 1}), Worker()
    failed: list[int] = []

    @worker.handler(topic, concurrency=4, retry=Backoff(first_s=0.01, attempts=3))
    def handle(record: Record) -> Record | None:
        if record.offset % 10 == 3 and record.offset not in failed:
            failed.append(record.offset)
            raise ConnectionError("not now")
        return Record(b"out", "out") if record.offset % 10 == 5 else None

    for number in range(100):
        kafka.send(topic, "x", key=b"k%d" % (number % 7))
    with member(worker, kafka, settings):
        wait_committed(kafka, 100, topic)
    assert value("recado_worker_done_seconds_count", topic=topic) == 100
    assert value("recado_worker_records_total", topic=topic, outcome="done") == 100


def test_a_record_whose_handler_sent_something_is_done_when_kafka_has_that(topic, settings):
    kafka, worker, rounds = MemoryKafka({topic: 1, "out": 1}), Worker(), []

    @worker.handler(topic)
    def handle(record: Record) -> Record:
        kafka.reachable = False
        rounds.append(0)
        return Record(b"out", "out")

    kafka.send(topic, "x")
    with member(worker, kafka, settings) as running:
        eventually(lambda: running.consumer)
        consume = running.consumer.consume

        def count(max_records, timeout_s):
            if rounds:
                rounds[0] += 1
            return consume(max_records, timeout_s)

        running.consumer.consume = count
        eventually(lambda: rounds and rounds[0] > 3)  # the loop has seen that the handler returned
        assert value("recado_worker_done_seconds_count", topic=topic) is None
        kafka.reachable = True
        wait_committed(kafka, 1, topic)
    assert value("recado_worker_done_seconds_count", topic=topic) == 1


def test_a_record_that_was_in_a_retry_topic_counts_for_its_own_topic_from_when_it_came_first(topic, settings):
    retry = f"retry.{GROUP}.{topic}"
    kafka, worker = MemoryKafka({topic: 1, retry: 1}), Worker()
    worker.handler(topic)(lambda record: None)
    history = History(GROUP, topic, 0, 0, wall_clock_ms() - 100_000, 1)
    kafka.append(Outgoing(retry, b"x", "", b"k", [header_of(history)], 0))
    with member(worker, kafka, settings):
        wait_committed(kafka, 1, retry)
    assert value("recado_worker_done_seconds_count", topic=topic) == 1
    assert value("recado_worker_done_seconds_sum", topic=topic) >= 100
    assert value("recado_worker_done_seconds_count", topic=retry) is None


def test_dead_letters_are_counted_by_what_failed_and_the_kinds_are_bounded(topic, settings, monkeypatch):
    monkeypatch.setattr(outbound, "DEAD_LETTER_KINDS", Bounded(1))
    kafka, worker = MemoryKafka({topic: 1}), Worker()

    @worker.handler(topic, retry=None, breaker=None)
    def handle(record: Record) -> None:
        if record.value == b"bad":
            raise Reject("no")
        raise ValueError("no")

    for text in ("bad", "bad", "worse"):
        kafka.send(topic, text)
    with member(worker, kafka, settings):
        wait_committed(kafka, 3, topic)
    kind = next(
        sample.labels["fingerprint"]
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name == "recado_worker_dead_letters_total" and sample.labels["topic"] == topic and sample.value == 2
    )
    assert "Reject" in kind
    assert kind.startswith("recado.outcomes.signals.Reject in test_worker_metrics.")
    assert value("recado_worker_dead_letters_total", topic=topic, fingerprint=OTHER) == 1
    assert value("recado_worker_done_seconds_count", topic=topic) is None


def test_lag_is_told_while_it_is_there_and_not_after_the_end(topic, settings, monkeypatch):
    monkeypatch.setattr(audit, "LOOK_EVERY_S", 0.05)
    kafka, worker, go = MemoryKafka({topic: 2}), Worker(), threading.Event()

    @worker.handler(topic, concurrency=2)
    def handle(record: Record) -> None:
        assert go.wait(20)

    for number in range(10):
        kafka.send(topic, "x", key=b"k%d" % number, partition=0)
    with member(worker, kafka, settings):
        eventually(lambda: value("recado_worker_lag_records", topic=topic, partition="0") == 10)
        assert value("recado_worker_lag_records", topic=topic, partition="1") == 0
        eventually(lambda: value("recado_worker_oldest_not_done_seconds", topic=topic, partition="0") > 0.5)
        assert value("recado_worker_not_ready", reason="partition-stopped") == 0
        with urllib.request.urlopen(f"http://127.0.0.1:{settings.worker_port}/metrics", timeout=5) as answer:
            assert f'recado_worker_lag_records{{partition="0",topic="{topic}"}} 10.0' in answer.read().decode()
        go.set()
        eventually(lambda: value("recado_worker_lag_records", topic=topic, partition="0") == 0)
        assert value("recado_worker_lag_seconds", topic=topic, partition="0") == 0
        assert value("recado_worker_seconds_to_done", topic=topic) == 0
    for name in ("recado_worker_lag_records", "recado_worker_oldest_not_done_seconds"):
        assert value(name, topic=topic, partition="0") is None
    assert value("recado_worker_not_ready", reason="draining") is None


def test_what_keeps_a_worker_from_being_ready_is_told_by_its_code(topic, settings):
    kafka, worker = MemoryKafka({topic: 1}), Worker()

    @worker.handler(topic)
    def handle(record: Record) -> None:
        raise HandlerError("it is wrong")

    kafka.send(topic, "x")
    with member(worker, kafka, settings):
        eventually(lambda: value("recado_worker_not_ready", reason="partition-stopped") == 1)
        assert value("recado_worker_not_ready", reason="draining") == 0


def test_every_code_that_a_reason_has_is_known():
    room = Path(recado.worker.__file__).parent / "reporting"
    sources = [(room / name).read_text() for name in ("readiness.py", "audit.py")]
    told = set(re.findall(r'"code": "([a-z-]+)"', sources[0])) | set(re.findall(r'_Trouble\("([a-z-]+)"', sources[1]))
    assert told == set(CODES)
