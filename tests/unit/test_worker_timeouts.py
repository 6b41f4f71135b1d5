"""Handlers with a time limit: cancelled where they are tasks, killed where they are not, and counted as failed."""

from __future__ import annotations

import asyncio
import os
import time
from functools import partial

import pytest
from prometheus_client import REGISTRY

from recado import Backoff, Record, Worker
from recado.errors import HandlerError, HandlerFailed, HandlerTimeout, NoProcess
from recado.kafka.memory import MemoryKafka
from recado.worker.handling.crew import called
from recado.worker.handling.zygote import Lane, Zygote
from tests.programs import eventually, is_there, kill_zygote_of
from tests.twin import committed, member, wait_committed

QUICK = Backoff(first_s=0.01, attempts=4)


def failed(error: str) -> float:
    labels = {"topic": "orders", "error": error}
    return REGISTRY.get_sample_value("recado_worker_failed_attempts_total", labels) or 0.0


def test_a_coroutine_that_overruns_is_cancelled_and_tried_again_while_others_go_on():
    kafka, worker, seen, before = MemoryKafka({"orders": 1}), Worker(), [], failed("HandlerTimeout")

    @worker.handler("orders", concurrency=4, timeout_s=0.2, retry=QUICK)
    async def handle(record: Record) -> None:
        seen.append((record.offset, record.attempt))
        if record.offset == 0 and record.attempt < 3:
            await asyncio.sleep(60)

    for number in range(20):
        kafka.send("orders", "x", key=b"%d" % number)
    with member(worker, kafka):
        wait_committed(kafka, 20)
    assert [attempt for offset, attempt in seen if offset == 0] == [1, 2, 3]
    assert len(seen) == 22
    assert failed("HandlerTimeout") == before + 2


def test_a_coroutine_that_does_not_mind_being_cancelled_has_failed_all_the_same():
    kafka, worker, seen = MemoryKafka({"orders": 1}), Worker(), []

    @worker.handler("orders", timeout_s=0.1, retry=QUICK)
    async def handle(record: Record) -> None:
        seen.append(record.attempt)
        if record.attempt == 1:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                return

    kafka.send("orders", "x")
    with member(worker, kafka):
        wait_committed(kafka, 1)
    assert seen == [1, 2]


def test_a_timeout_of_the_handlers_own_stays_its_own():
    kafka, worker, before = MemoryKafka({"orders": 1}), Worker(), failed("TimeoutError")

    @worker.handler("orders", timeout_s=60, retry=QUICK)
    async def handle(record: Record) -> None:
        if record.attempt == 1:
            raise TimeoutError("the database")

    kafka.send("orders", "x")
    with member(worker, kafka):
        wait_committed(kafka, 1)
    assert failed("TimeoutError") == before + 1


def test_a_function_that_overruns_is_killed_and_tried_again_while_others_go_on(tmp_path):
    kafka, worker, before = MemoryKafka({"orders": 1}), Worker(), failed("HandlerTimeout")
    journal = tmp_path / "journal"

    @worker.handler("orders", concurrency=3, timeout_s=1, retry=QUICK)
    def handle(record: Record) -> None:
        with journal.open("a") as file:
            file.write(f"{os.getpid()} {record.offset} {record.attempt}\n")
        if record.offset == 0 and record.attempt < 3:
            while True:
                pass  # not even a signal handler of Python's would get through with the lock in C code

    for number in range(20):
        kafka.send("orders", "x", key=b"%d" % number)
    with member(worker, kafka):
        wait_committed(kafka, 20)
    rows = [tuple(map(int, line.split())) for line in journal.read_text().splitlines()]
    slow = [(pid, attempt) for pid, offset, attempt in rows if offset == 0]
    assert [attempt for _, attempt in slow] == [1, 2, 3]
    assert os.getpid() not in {pid for pid, _, _ in rows}
    assert failed("HandlerTimeout") == before + 2
    for pid, _ in slow[:2]:
        eventually(lambda pid=pid: not is_there(pid))


def test_a_worker_whose_processes_cannot_be_forked_any_more_ends_and_blames_no_record(tmp_path, capsys):
    kafka, worker, before = MemoryKafka({"orders": 1}), Worker(), failed("HandlerFailed")
    journal = tmp_path / "journal"

    @worker.handler("orders", timeout_s=5, retry=None)
    def handle(record: Record) -> None:
        with journal.open("a") as file:
            file.write(f"{os.getpid()} {record.offset}\n")

    kafka.send("orders", "x", key=b"0")
    with member(worker, kafka) as running:
        wait_committed(kafka, 1)
        pid, _ = journal.read_text().split()
        kill_zygote_of(int(pid))
        for number in range(1, 9):
            kafka.send("orders", "x", key=b"%d" % number)
        assert running.join() == 3
    assert committed(kafka) == 1
    assert journal.read_text().splitlines() == [f"{pid} 0"]
    assert failed("HandlerFailed") == before
    assert not [topic for topic in kafka.partition_counts() if topic.startswith("dlq.")]
    assert "No process for a call can be had" in capsys.readouterr().err


def test_a_process_whose_zygote_is_gone_as_well_has_not_failed(lane):
    lane.call("nothing")
    kill_zygote_of(lane._pid)
    for _ in range(2):
        with pytest.raises(NoProcess, match="Start the program again"):
            lane.call("sleep")


class Odd(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def act(what: str) -> None:
    if what == "value":
        raise ValueError("no such customer")
    if what == "odd":
        raise Odd(1, 2)
    if what == "exit":
        os._exit(3)
    if what == "system exit":
        raise SystemExit(3)
    if what == "sleep":
        time.sleep(60)


async def awaitable(argument: object) -> None: ...


@pytest.fixture
def lane():
    zygote = Zygote(partial(called, act))
    lane = Lane(zygote, 2.0)
    yield lane
    lane.close()
    zygote.close()


@pytest.mark.parametrize(
    ("what", "kind", "text"),
    [
        ("value", ValueError, "no such customer"),
        ("odd", HandlerFailed, "Odd: 1 and 2"),
        ("exit", HandlerFailed, "its process ended in the middle of it"),
        ("system exit", SystemExit, "3"),
        ("sleep", HandlerTimeout, "ran longer than timeout_s=2"),
    ],
)
def test_what_is_raised_there_is_raised_here_and_the_next_call_works(lane, what, kind, text):
    lane.call("nothing")
    with pytest.raises(kind, match=text) as caught:
        lane.call(what)
    if what in ("value", "odd"):
        assert "in act" in caught.value.__notes__[0], "the place where it was raised"
    lane.call("nothing")


def test_an_awaitable_that_nobody_awaits_is_no_success():
    zygote = Zygote(partial(called, lambda argument: awaitable(argument)))
    lane = Lane(zygote, 5.0)
    with pytest.raises(HandlerError, match="nobody would await"):
        lane.call("x")
    lane.close()
    zygote.close()


def test_the_processes_end_with_their_connections(lane):
    lane.call("nothing")
    pid = lane._pid
    lane.close()
    eventually(lambda: not is_there(pid))


@pytest.mark.parametrize("wrong", [0, -1, "1", True, float("inf"), float("nan"), 10**400, 8 * 86_400])
def test_a_limit_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(HandlerError, match="timeout_s"):
        Worker().handler("orders", timeout_s=wrong)(lambda record: None)
