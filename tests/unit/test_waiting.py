"""Requests that wait on the loop: woken by a report from another thread, or by their deadline, never forgotten."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from recado.gateway.gather import BUSY
from recado.gateway.waiting import LOOK_S, Waiting
from recado.kafka.delivery import Delivery
from recado.record import Outgoing
from tests.fronts import FakeKafka

#: Nothing here takes longer, on the slowest machine.
DEADLINE_S = 10.0

#: A request that nobody wakes would end then: later than every test.
FOREVER_S = 1000.0


class Producer:
    """Does what the test says when the loop serves."""

    def __init__(self) -> None:
        self.on_serve: Callable[[], None] = lambda: None

    def send(self, delivery: Delivery) -> None: ...
    def take_over(self) -> None: ...
    def hand_back(self) -> None: ...

    def serve(self) -> None:
        self.on_serve()


def delivery(records: int = 1) -> Delivery:
    return Delivery([Outgoing("t", b"", "")] * records, lambda delivery: None)


def on_loop(scenario: Callable[[Waiting, Producer], Awaitable[None]]) -> None:
    async def run() -> None:
        problems: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))
        producer = Producer()
        waiting = Waiting(producer, FakeKafka(), asyncio.get_running_loop())
        await asyncio.wait_for(scenario(waiting, producer), DEADLINE_S)
        assert problems == []

    asyncio.run(run())


def in_thread(call: Callable[..., None], *arguments: Any) -> None:
    """Do it on another thread, and be back when it is done."""
    thread = threading.Thread(target=call, args=arguments)
    thread.start()
    thread.join(DEADLINE_S)
    assert not thread.is_alive()


class Stepped(deque[Any]):
    """A deque that stops at the places where two threads can meet."""

    def __init__(self) -> None:
        super().__init__()
        self.before_leaving: Callable[[], None] = lambda: None
        self.after_leaving: Callable[[], None] = lambda: None
        self.after_joining: Callable[[], None] = lambda: None

    def popleft(self) -> Any:
        hook, self.before_leaving = self.before_leaving, lambda: None
        hook()
        item = super().popleft()
        hook, self.after_leaving = self.after_leaving, lambda: None
        hook()
        return item

    def append(self, item: Any) -> None:
        super().append(item)
        hook, self.after_joining = self.after_joining, lambda: None
        hook()


def test_a_report_from_another_thread_wakes_the_request():
    async def scenario(waiting: Waiting, producer: Producer) -> None:
        future = waiting.for_kafka(FOREVER_S)
        in_thread(waiting.complete, future, delivery())
        await future

    on_loop(scenario)


@pytest.mark.parametrize("place", ["before_leaving", "after_leaving"])
def test_a_report_while_the_last_one_is_served_is_not_lost(place):
    async def scenario(waiting: Waiting, producer: Producer) -> None:
        stepped = waiting._completed = Stepped()
        first, second = waiting.for_kafka(FOREVER_S), waiting.for_kafka(FOREVER_S)
        setattr(stepped, place, lambda: in_thread(waiting.complete, second, delivery()))
        in_thread(waiting.complete, first, delivery())
        await asyncio.gather(first, second)

    on_loop(scenario)


def test_a_report_that_stops_between_noting_and_waking_is_not_lost():
    async def scenario(waiting: Waiting, producer: Producer) -> None:
        stepped = waiting._completed = Stepped()
        first, second = waiting.for_kafka(FOREVER_S), waiting.for_kafka(FOREVER_S)
        noted, resolved = threading.Event(), threading.Event()
        # The thread has noted the first request and is then held while the loop serves all that is there.
        stepped.after_joining = lambda: (noted.set(), resolved.wait(DEADLINE_S))
        thread = threading.Thread(target=waiting.complete, args=(first, delivery()))
        thread.start()
        noted.wait(DEADLINE_S)
        waiting._resolve()
        resolved.set()
        thread.join(DEADLINE_S)
        in_thread(waiting.complete, second, delivery())
        await asyncio.gather(first, second)

    on_loop(scenario)


def test_a_report_on_the_producers_thread_while_the_loop_serves_is_not_lost():
    async def scenario(waiting: Waiting, producer: Producer) -> None:
        future = waiting.for_kafka(FOREVER_S)
        producer.on_serve = lambda: in_thread(waiting.complete, future, delivery(BUSY))
        waiting.gather.add(delivery(BUSY))
        await future

    on_loop(scenario)


def test_a_report_that_saw_the_loop_serve_and_comes_after_it_is_not_lost():
    async def scenario(waiting: Waiting, producer: Producer) -> None:
        future = waiting.for_kafka(FOREVER_S)
        noted, go_on = threading.Event(), threading.Event()
        stepped = waiting._completed = Stepped()
        stepped.after_joining = lambda: (noted.set(), go_on.wait(DEADLINE_S))
        thread = threading.Thread(target=waiting.complete, args=(future, delivery(BUSY)))

        def serve() -> None:
            producer.on_serve = lambda: None
            thread.start()
            noted.wait(DEADLINE_S)

        producer.on_serve = serve
        waiting.gather.add(delivery(BUSY))
        await future
        go_on.set()
        thread.join(DEADLINE_S)
        another = waiting.for_kafka(FOREVER_S)
        in_thread(waiting.complete, another, delivery())
        await another

    on_loop(scenario)


def test_thousands_of_reports_from_two_sides_wake_every_request():
    async def scenario(waiting: Waiting, producer: Producer) -> None:
        reporting = threading.Lock()
        due: deque[tuple[Any, Delivery]] = deque()
        ended = threading.Event()

        def report() -> None:
            with reporting:
                while due:
                    waiting.complete(*due.popleft())

        def keep_reporting() -> None:
            while not ended.is_set():
                report()

        producer.on_serve = report
        thread = threading.Thread(target=keep_reporting)
        thread.start()
        try:
            for _ in range(300):
                futures = []
                for _ in range(20):
                    future, sent = waiting.for_kafka(FOREVER_S), delivery()
                    futures.append(future)
                    waiting.gather.add(sent)
                    due.append((future, sent))
                await asyncio.gather(*futures)
        finally:
            ended.set()
            thread.join(DEADLINE_S)

    on_loop(scenario)


@pytest.mark.parametrize("wait_s", [0.0, 0.1])
def test_a_deadline_ends_the_wait_and_not_before(wait_s):
    async def scenario(waiting: Waiting, producer: Producer) -> None:
        began = time.monotonic()
        await waiting.for_kafka(wait_s)
        assert wait_s <= time.monotonic() - began + 0.002
        assert time.monotonic() - began < wait_s + LOOK_S + 0.5

    on_loop(scenario)


def test_a_report_after_the_deadline_or_after_the_client_left_hurts_nobody():
    async def scenario(waiting: Waiting, producer: Producer) -> None:
        late, left, patient = waiting.for_kafka(0), waiting.for_kafka(FOREVER_S), waiting.for_kafka(FOREVER_S)
        await late
        left.cancel()
        for future in (late, left, patient):
            in_thread(waiting.complete, future, delivery())
        await patient
        assert waiting._deadlines == {}

    on_loop(scenario)


def test_a_future_that_was_left_is_forgotten():
    async def scenario(waiting: Waiting, producer: Producer) -> None:
        futures = [waiting.for_kafka(0.0) for _ in range(3)]
        waiting.leave(futures[1])
        await futures[0]
        await futures[2]
        assert not futures[1].done()

    on_loop(scenario)


def test_when_waits_end_those_for_kafka_do_and_those_for_the_disk_go_on():
    async def scenario(waiting: Waiting, producer: Producer) -> None:
        kafka, disk = waiting.for_kafka(FOREVER_S), waiting.for_disk(FOREVER_S)
        waiting.end_waits()
        await kafka
        await waiting.for_kafka(FOREVER_S)
        assert not disk.done()
        waiting.awake(disk)
        await disk

    on_loop(scenario)
