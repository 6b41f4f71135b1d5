"""Handlers that do what they should not: every record still ends, and the worker goes on."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable

import pytest

from recado import Backoff, Record, Worker
from recado.kafka.memory import MemoryKafka
from tests.twin import member, wait_committed

AT_ONCE = Backoff(first_s=0, attempts=3)


async def raise_in_a_task(error: BaseException) -> None:
    async def fail() -> None:
        raise error

    await asyncio.create_task(fail())


async def cancel_all_tasks() -> None:
    for task in asyncio.all_tasks():
        task.cancel()
    await asyncio.sleep(0)
    raise ValueError


async def cancel_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


def raising(error: BaseException) -> Callable[[], object]:
    def act() -> None:
        raise error

    return act


ROUGH_TASKS: dict[str, Callable[[], object]] = {
    "stop": lambda: asyncio.get_running_loop().stop(),
    "cancel all": cancel_all_tasks,
    "cancel itself": cancel_itself,
    "exit in a task": lambda: raise_in_a_task(SystemExit(1)),
    "interrupt in a task": lambda: raise_in_a_task(KeyboardInterrupt()),
    "exit": sys.exit,
    "interrupt": raising(KeyboardInterrupt()),
    "generator exit": raising(GeneratorExit()),
    "cancelled": raising(asyncio.CancelledError()),
}


@pytest.mark.parametrize("what", ROUGH_TASKS)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_rough_coroutine_fails_alone(what):
    kafka, worker, seen = MemoryKafka({"orders": 1}), Worker(), []

    @worker.handler("orders", concurrency=8, retry=AT_ONCE)
    async def handle(record: Record) -> None:
        seen.append((record.offset, record.attempt))
        if record.offset == 5 and record.attempt < 3:
            await asyncio.sleep(0.05)
            result = ROUGH_TASKS[what]()
            if asyncio.iscoroutine(result):
                await result
        elif record.offset < 5:
            await asyncio.sleep(0.3)

    for number in range(20):
        kafka.send("orders", "x", key=b"%d" % number)
    with member(worker, kafka) as running:
        wait_committed(kafka, 20)
        kafka.send("orders", "later")
        wait_committed(kafka, 21)
        assert running.end() == 0
    assert {offset for offset, _ in seen} == set(range(21))
    if what not in ("stop", "cancel all", "cancel itself"):  # these do not end the attempt, or others', too
        assert sorted(seen) == sorted([*((offset, 1) for offset in range(21)), (5, 2), (5, 3)])


def test_a_loop_that_something_in_it_left_is_served_again():
    kafka, worker, seen = MemoryKafka({"orders": 1}), Worker(), []

    @worker.handler("orders", concurrency=2)
    async def handle(record: Record) -> None:
        asyncio.get_running_loop().call_soon(sys.exit)
        await asyncio.sleep(0.01)
        seen.append(record.attempt)

    for _ in range(5):
        kafka.send("orders", "x")
    with member(worker, kafka) as running:
        wait_committed(kafka, 5)
        assert running.end() == 0
    assert seen == [1] * 5


def test_a_cancellation_that_nobody_has_seen_hits_no_other_record():
    kafka, worker, seen = MemoryKafka({"orders": 1}), Worker(), []

    @worker.handler("orders", retry=None)
    async def handle(record: Record) -> None:
        await asyncio.sleep(0)
        seen.append(record.offset)
        if record.offset == 0:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()

    for _ in range(5):
        kafka.send("orders", "x")
    with member(worker, kafka) as running:
        wait_committed(kafka, 5)
        assert running.end() == 0
    assert seen == [0, 1, 2, 3, 4]


def leave(how: str) -> None:
    if how == "_exit":
        os._exit(0)
    raise {"exit": SystemExit(0), "interrupt": KeyboardInterrupt(), "generator exit": GeneratorExit()}[how]


@pytest.mark.parametrize("how", ["exit", "interrupt", "generator exit", "_exit"])
@pytest.mark.parametrize("timeout_s", [None, 30])
def test_a_rough_function_fails_alone(how, timeout_s):
    if how == "_exit" and timeout_s is None:
        pytest.skip("it ends the worker itself, by the user's will")
    kafka, worker = MemoryKafka({"orders": 1}), Worker()

    @worker.handler("orders", concurrency=2, retry=AT_ONCE, timeout_s=timeout_s)
    def handle(record: Record) -> None:
        if record.offset == 2 and record.attempt < 3:
            leave(how)

    for number in range(10):
        kafka.send("orders", "x", key=b"%d" % number)
    with member(worker, kafka) as running:
        wait_committed(kafka, 10)
        assert running.end() == 0


@pytest.mark.parametrize("kind", ["def", "async def", "processes"])
@pytest.mark.parametrize("change", [list.clear, list.pop, lambda records: records.append(records[0])])
def test_a_batch_counts_by_what_was_given_whatever_its_handler_makes_of_the_list(kind, change):
    kafka, worker, seen = MemoryKafka({"orders": 1}), Worker(), []
    lock = threading.Lock()

    def handle(records: list[Record]) -> None:
        with lock:
            seen.extend(record.offset for record in records)
        change(records)

    async def handle_async(records: list[Record]) -> None:
        handle(records)

    limit = 30 if kind == "processes" else None
    worker.handler("orders", batch=(5, 0.01), timeout_s=limit)(handle_async if kind == "async def" else handle)
    for _ in range(10):
        kafka.send("orders", "x")
    with member(worker, kafka) as running:
        wait_committed(kafka, 10)
        assert running.end() == 0
    assert seen == ([] if kind == "processes" else list(range(10)))
