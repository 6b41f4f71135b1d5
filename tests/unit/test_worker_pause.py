"""A handler whose failures are systemic pauses, instead of pouring a healthy topic into the dead letters."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time

import msgspec
import pytest
from prometheus_client import REGISTRY

from recado import Backoff, Breaker, Record, Reject, Worker, offset_table
from recado.errors import HandlerError
from recado.kafka.memory import MemoryKafka
from recado.outcomes.breaker import Failures
from recado.record import HEADER_ID, Outgoing, TopicPartition
from tests.programs import eventually
from tests.twin import GROUP, SETTINGS, committed, member, wait_committed

SOON = Breaker(first_s=0.05, cap_s=0.2)
HASTY = Backoff(first_s=0.01, jitter=0, attempts=3)


def paused(test: str) -> float:
    return REGISTRY.get_sample_value("recado_worker_paused_handlers", {"handler": f"{test}.<locals>.handle"}) or 0.0


def pauses(handler: object) -> float:
    return REGISTRY.get_sample_value("recado_worker_paused_handlers", {"handler": handler.__qualname__}) or 0.0


def dead(kafka: MemoryKafka) -> list:
    return kafka.logs.get(TopicPartition(f"dlq.{GROUP}.orders", 0), [])


def test_failures_are_systemic_when_most_keys_fail_alike_and_little_succeeds():
    failures = Failures(Breaker(failures=4, keys=2, share=0.8, within_s=10))
    assert not any(failures.failed(0, "a", "OSError") for _ in range(10)), "one key only"
    assert failures.failed(0, "b", "OSError")
    failures.succeeded(1, 11)
    assert not failures.failed(1, "c", "OSError"), "half succeeds"
    assert failures.failed(12, "d", "OSError") is False, "the others were long ago"
    mixed = Failures(Breaker(failures=4, keys=2, share=0.8, within_s=10))
    assert not any(mixed.failed(0, key, kind) for key, kind in zip("abcd", ("A", "B", "A", "B"), strict=True))


@pytest.mark.parametrize("how", ["def", "async", "batch"])
def test_during_an_outage_nothing_dies_and_afterwards_everything_is_done(how):
    kafka, worker, works = MemoryKafka({"orders": 1}), Worker(), threading.Event()
    done, calls = [], []

    def handle(record: Record):
        calls.append(record.offset)
        if not works.is_set():
            raise ConnectionError("the database is away")
        done.append((record.offset, record.attempt))

    options = {"retry": HASTY, "breaker": SOON}
    if how == "async":

        @worker.handler("orders", concurrency=4, **options)
        async def handle_async(record: Record):
            handle(record)

    elif how == "batch":

        @worker.handler("orders", batch=(2, 0.01), order="none", concurrency=4, **options)
        def handle_many(records: list[Record]):
            for record in records:
                handle(record)

    else:
        worker.handler("orders", concurrency=4, **options)(handle)
    for number in range(60):
        kafka.send("orders", "x", key=b"%d" % (number % 30))
    with member(worker, kafka):
        eventually(lambda: len(calls) > 30)
        time.sleep(1.5)
        seen = len(calls)
        time.sleep(1)
        assert len(calls) - seen < 30, "it probes, and does not hammer"
        assert dead(kafka) == []
        assert committed(kafka) in (None, 0)
        works.set()
        wait_committed(kafka, 60)
    assert {offset for offset, _ in done} == set(range(60))
    assert dead(kafka) == []


def test_it_says_so_and_is_not_ready(capsys):
    kafka, worker, works = MemoryKafka({"orders": 1}), Worker(), threading.Event()

    @worker.handler("orders", concurrency=4, retry=HASTY, breaker=SOON)
    def handle(record: Record):
        if not works.is_set():
            raise ConnectionError("the database is away")

    for number in range(40):
        kafka.send("orders", "x", key=b"%d" % number)
    with member(worker, kafka, msgspec.structs.replace(SETTINGS, log_level="warning")):
        eventually(lambda: paused("test_it_says_so_and_is_not_ready") == 1)
        works.set()
        wait_committed(kafka, 40)
        assert paused("test_it_says_so_and_is_not_ready") == 0
    said = capsys.readouterr().err
    assert '"event": "handler pauses"' in said
    assert "the database is away" in said
    assert '"event": "handler goes on"' in said


class Untold(Exception):
    def __str__(self) -> str:
        return self.detail  # which nobody has set


class Garbled(Exception):
    def __str__(self) -> str:
        return "\udc80" * 2_000


@pytest.mark.parametrize(("error", "told"), [(Untold, "Untold: (its text cannot be made"), (Garbled, "Garbled: ???")])
def test_whatever_the_exception_says_of_itself_it_pauses_and_is_told(error, told, capsys):
    kafka, worker = MemoryKafka({"orders": 1}), Worker()

    @worker.handler("orders", concurrency=4, retry=HASTY, breaker=SOON)
    def handle(record: Record):
        raise error

    for number in range(40):
        kafka.send("orders", "x", key=b"%d" % number)
    with member(worker, kafka, msgspec.structs.replace(SETTINGS, log_format="json")) as running:
        eventually(lambda: told in capsys.readouterr().err)
        assert running.end() == 0


def test_records_that_turn_out_to_be_done_already_end_it(tmp_path):
    kafka, worker, works = MemoryKafka({"orders": 1}), Worker(), threading.Event()
    database = sqlite3.connect(tmp_path / "effects", check_same_thread=False)
    offset_table(database)

    @worker.handler("orders", retry=HASTY, breaker=Breaker(first_s=0.05, cap_s=60))
    def handle(record: Record):
        if works.is_set():
            record.offset_in(database)
        raise ConnectionError("the database is away")

    for number in range(60):
        name = b"%d" % number
        record = Record(b"x", "orders", 0, number, key=name, headers=((HEADER_ID, name),), group=GROUP)
        record.offset_in(database)  # by a worker that was killed before its commit
        kafka.append(Outgoing("orders", b"x", str(number), record.key, list(record.headers)))
    with member(worker, kafka):
        eventually(lambda: pauses(handle))
        works.set()
        wait_committed(kafka, 60)
        assert pauses(handle) == 0


def test_records_that_are_wrong_themselves_do_not_pause_their_handler():
    kafka, worker, done = MemoryKafka({"orders": 1}), Worker(), []

    @worker.handler("orders", concurrency=4, retry=HASTY, breaker=SOON)
    def handle(record: Record):
        if record.offset % 2:
            raise ValueError("wrong")
        if record.offset % 10 == 0:
            raise Reject("no")
        done.append(record.offset)

    for number in range(200):
        kafka.send("orders", "x", key=b"%d" % number)
    with member(worker, kafka):
        wait_committed(kafka, 200)
    assert len(dead(kafka)) == 120
    assert len(done) == 80


def test_a_stop_during_a_pause_leaves_the_records_where_they_are():
    kafka, worker, calls = MemoryKafka({"orders": 1}), Worker(), []

    @worker.handler("orders", concurrency=4, retry=HASTY, breaker=SOON)
    def handle(record: Record):
        calls.append(record.offset)
        raise ConnectionError

    for number in range(60):
        kafka.send("orders", "x", key=b"%d" % number)
    with member(worker, kafka) as running:
        eventually(lambda: len(calls) > 40)
        assert running.end() == 0
    assert committed(kafka) in (None, 0)
    assert dead(kafka) == []


def test_a_newcomer_that_can_be_handled_does_not_wait_for_those_that_cannot():
    kafka, worker, done = MemoryKafka({"orders": 1}), Worker(), []

    @worker.handler("orders", concurrency=2, retry=HASTY, breaker=SOON)
    def handle(record: Record):
        if record.value == b"wrong":
            raise ValueError("wrong")
        done.append(record.offset)

    for number in range(20):
        kafka.send("orders", "wrong", key=b"%d" % number)
    with member(worker, kafka):
        time.sleep(0.5)
        for number in range(100, 105):
            kafka.send("orders", "good", key=b"%d" % number)
        eventually(lambda: sorted(done) == [20, 21, 22, 23, 24])


@pytest.mark.parametrize("wrong", [{"failures": 0}, {"keys": 1.5}, {"share": 2}, {"within_s": 0}, {"cap_s": 0.5}])
def test_a_breaker_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(HandlerError):
        Breaker(**wrong)
    with pytest.raises(HandlerError, match="breaker"):
        Worker().handler("orders", breaker=True)(lambda record: None)  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["def", "async"])
def test_a_pause_holds_what_waits_for_a_thread_too_and_a_stop_in_it_buries_nothing(how):
    kafka, worker = MemoryKafka({"orders": 1}), Worker()
    first, later, probes = threading.Event(), threading.Event(), threading.Event()
    calls: list[int] = []

    def gate(record: Record) -> threading.Event:
        calls.append(record.offset)
        if later.is_set():
            return probes
        return first if len(calls) <= 4 else later

    async def fail(record: Record) -> None:
        go = gate(record)
        while not go.is_set():
            await asyncio.sleep(0.01)
        raise ConnectionError("the database is away")

    def fail_at_once(record: Record) -> None:
        assert gate(record).wait(20)
        raise ConnectionError("the database is away")

    options = {"concurrency": 4, "retry": Backoff(attempts=1), "breaker": Breaker(failures=2, keys=2, first_s=1)}
    handler = fail if how == "async" else fail_at_once
    worker.handler("orders", **options)(handler)
    for number in range(60):
        kafka.send("orders", "x", key=b"%d" % number)
    with member(worker, kafka) as running:
        eventually(lambda: len(calls) == 4)
        first.set()
        eventually(lambda: pauses(handler))
        time.sleep(0.5)  # one that a thread had taken already begins all the same
        assert len(calls) <= 8, "those that were at work, and those that took their places before it paused"
        begun = len(calls)
        later.set()
        eventually(lambda: len(calls) == begun + 1)  # a probe, which the stop finds at work
        time.sleep(0.3)
        assert len(calls) == begun + 1
        died = len(dead(kafka))
        worker.stop()
        probes.set()
        assert running.join() == 0
    assert len(dead(kafka)) == died
    assert died <= 1, "only what died before it was known to be systemic"
