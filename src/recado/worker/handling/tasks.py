"""Runs an ``async def`` handler in tasks of one event loop."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import structlog

from recado.errors import HandlerTimeout
from recado.outcomes.decide import describe
from recado.record import OUTBOX, Sent
from recado.worker.handling.handlers import Handler
from recado.worker.handling.outtray import Outtray
from recado.worker.handling.pause import Pause
from recado.worker.handling.run import Run
from recado.worker.handling.runner import decoded, dispatcher, end, leave

__all__ = ["TaskRunner"]

log = structlog.get_logger(__name__)

#: Rest of a task between two looks whether Kafka has caught up with what handlers send, in seconds.
WAIT_S = 0.01


class TaskRunner:
    """Runs an ``async def`` handler in ``concurrency`` tasks of one event loop, in a thread of its own."""

    def __init__(self, handler: Handler, returned: deque[Run], tray: Outtray, pause: Pause | None) -> None:
        self.handler = handler
        self._returned = returned
        self._tray = tray
        self._queue: deque[Run] = deque()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._slots: list[Run | None] = [None] * handler.concurrency
        self._tasks: list[asyncio.Task[None]] = []
        self._loop = asyncio.new_event_loop()
        self._waking = self._stopped = False
        self.put = self._enqueue if pause is None else pause.before(self._enqueue, self._take_back)
        self.lanes = dispatcher(handler, self)

    def start(self) -> None:
        """Start the thread; when this returns, every task waits for its first run."""
        ready = threading.Event()
        name = f"recado-{self.handler.name}"
        threading.Thread(target=self._serve, args=(ready,), name=name, daemon=True).start()
        ready.wait()

    def _enqueue(self, run: Run) -> None:
        """Queue a run; the event loop is woken once for many."""
        self._queue.append(run)
        if not self._waking:
            self._waking = True
            self._loop.call_soon_threadsafe(self._wake)

    def _take_back(self) -> list[Run]:
        found: list[Run] = []
        with suppress(IndexError):
            while True:
                found.append(self._queue.popleft())
        return found

    def waiting(self) -> int:
        """How many runs wait for a task."""
        return len(self._queue)

    def executing(self) -> list[Run]:
        """The runs that tasks are at now."""
        return [run for run in self._slots if run is not None]

    def stacks(self) -> list[tuple[Run, Callable[[], list[str]]]]:
        """The runs that tasks are at now, and how to learn where each is."""
        slots = zip(list(self._slots), self._tasks, strict=False)
        return [(run, partial(_stack_of, task)) for run, task in slots if run is not None]

    def stop(self) -> None:
        """Let every task end when it comes to the end of the queue; then the event loop ends."""
        self._stopped = True
        self._loop.call_soon_threadsafe(self._wake)

    def _serve(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._tasks = [self._loop.create_task(self._serve_slot(slot)) for slot in range(len(self._slots))]
        ended = asyncio.gather(*self._tasks)
        # A task that is cancelled before its first step never serves: a handler may cancel all that there are.
        self._loop.call_soon(ready.set)
        while not ended.done():
            try:
                self._loop.run_until_complete(ended)
            except BaseException as error:  # a handler stopped the loop, or what it has started raised SystemExit
                log.warning("event loop was left, it is served again", handler=self.handler.name, error=describe(error))
        self._loop.close()

    def _wake(self) -> None:
        # Before the look at the queue: what is put from now on wakes again.
        self._waking = False
        for _ in range(len(self._idle) if self._stopped else min(len(self._queue), len(self._idle))):
            idle = self._idle.popleft()
            if not idle.done():
                idle.set_result(None)

    async def _next(self, task: asyncio.Task[None]) -> Run | None:
        while True:
            with suppress(IndexError):  # not asked for before: what waits may be taken back in between
                return self._queue.popleft()
            if self._stopped:
                return None
            idle = self._loop.create_future()
            self._idle.append(idle)
            try:
                await idle
            except asyncio.CancelledError:  # a handler has cancelled all tasks
                if idle in self._idle:
                    self._idle.remove(idle)
                await _take_cancellations(task)

    async def _serve_slot(self, slot: int) -> None:
        handle, task = self._handle_many if self.handler.batch else self._handle_each, self._tasks[slot]
        sent: list[Sent] = []
        OUTBOX.set(sent)  # a task has a context of its own
        while (run := await self._next(task)) is not None:
            self._slots[slot] = run  # before the look at ``closed``, as in ThreadRunner
            if not run.epoch.closed:
                began, before = time.perf_counter(), run.at
                await handle(run, sent, task)
                run.spent_s, run.handled = time.perf_counter() - began, run.at - before
            leave(run, self, self._returned)
            self._slots[slot] = run = None

    async def _call_in_time(self, argument: Any) -> Any:
        """Call the handler and cancel it when its time is over; whatever it makes of that, it has failed."""
        seconds, result = self.handler.timeout_s, None
        try:
            async with asyncio.timeout(seconds) as limit:
                result = await self.handler.call(argument)
        except TimeoutError:
            if not limit.expired():
                raise  # the handler's own
        if limit.expired():
            raise HandlerTimeout(f"it ran longer than timeout_s={seconds:g} and was cancelled")
        return result

    async def _handle_each(self, run: Run, sent: list[Sent], task: asyncio.Task[None]) -> None:
        call = self.handler.call if self.handler.timeout_s is None else self._call_in_time
        payload, epoch, messages = self.handler.payload, run.epoch, run.messages
        attempt = run.attempt
        try:
            for at in range(run.at, len(messages)):
                run.at = at
                if run.halt:
                    break
                result = await call(payload(messages[at], epoch, attempt))
                if task.cancelling():
                    await _take_cancellations(task)
                if result is not None or sent or epoch.guard is not None:
                    end(self._tray, epoch, [messages[at]], attempt, sent, result)
                    await self._wait_for_kafka(run)
                attempt = 1
            else:
                run.at = len(messages)
        except BaseException as error:  # a cancellation too: the record is not done
            await _fail(run, error, sent, task)
        run.attempt = attempt

    async def _handle_many(self, run: Run, sent: list[Sent], task: asyncio.Task[None]) -> None:
        try:
            arguments, undecodable = decoded(self.handler, run)
            if arguments:
                messages = run.messages[run.at : run.at + len(arguments)]
                call = self.handler.call if self.handler.timeout_s is None else self._call_in_time
                result = await call(arguments)
                await _take_cancellations(task)
                end(self._tray, run.epoch, messages, run.attempt, sent, result)
                run.at += len(messages)  # whatever the handler has made of its list
            run.error = undecodable
        except BaseException as error:  # a cancellation too: none of the batch is done
            await _fail(run, error, sent, task)
        await self._wait_for_kafka(run)

    async def _wait_for_kafka(self, run: Run) -> None:
        while self._tray.must_wait(run):
            with suppress(asyncio.CancelledError):  # it was for the handler, which has returned
                await asyncio.sleep(WAIT_S)


async def _fail(run: Run, error: BaseException, sent: list[Sent], task: asyncio.Task[None]) -> None:
    if isinstance(error, GeneratorExit) and sys.is_finalizing():
        raise error  # the interpreter ends and takes this coroutine away
    await _take_cancellations(task)
    run.error = error
    sent.clear()


async def _take_cancellations(task: asyncio.Task[None]) -> None:
    """Let a cancellation of a slot's task, which was for a handler that has returned, hit no other record."""
    if not task.cancelling():
        return
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(0)
    while task.uncancel():
        pass


def _stack_of(task: asyncio.Task[None]) -> list[str]:
    """Where a task is, from the handler on: what it awaits, and what that awaits."""
    found: list[str] = []
    awaited: Any = task.get_coro()
    while (frame := getattr(awaited, "cr_frame", None)) is not None:
        if frame.f_code.co_filename != __file__:
            found.append(f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_qualname}")
        awaited = awaited.cr_await
    return found
