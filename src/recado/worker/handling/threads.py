"""Runs a ``def`` handler in threads."""

from __future__ import annotations

import queue
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from recado.record import OUTBOX, Sent
from recado.worker.handling.handlers import Handler
from recado.worker.handling.outtray import Outtray
from recado.worker.handling.pause import Pause
from recado.worker.handling.run import Run
from recado.worker.handling.runner import decoded, dispatcher, end, leave

__all__ = ["ThreadRunner"]

#: Rest of a thread between two looks whether Kafka has caught up with what handlers send, in seconds.
WAIT_S = 0.01


class ThreadRunner:
    """Runs a ``def`` handler in ``concurrency`` threads."""

    def __init__(self, handler: Handler, returned: deque[Run], tray: Outtray, pause: Pause | None) -> None:
        self.handler = handler
        self._returned = returned
        self._tray = tray
        self._queue: queue.SimpleQueue[Run | None] = queue.SimpleQueue()
        self._slots: list[Run | None] = [None] * handler.concurrency
        self._threads: list[threading.Thread] = []
        self.put = self._queue.put if pause is None else pause.before(self._queue.put, self._take_back)
        self.waiting = self._queue.qsize
        self.lanes = dispatcher(handler, self)

    def start(self) -> None:
        """Start the threads; daemons, because one that hangs must not keep the process from ending."""
        for slot in range(len(self._slots)):
            name = f"recado-{self.handler.name}-{slot}"
            thread = threading.Thread(target=self._serve, args=(slot,), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def executing(self) -> list[Run]:
        """The runs that threads are at now."""
        return [run for run in self._slots if run is not None]

    def stacks(self) -> list[tuple[Run, Callable[[], list[str]]]]:
        """The runs that threads are at now, and how to learn where each is."""
        slots = zip(list(self._slots), self._threads, strict=False)
        return [(run, partial(_stack_of, thread)) for run, thread in slots if run is not None]

    def _take_back(self) -> list[Run]:
        found: list[Run] = []
        with suppress(queue.Empty):
            while (run := self._queue.get_nowait()) is not None:
                found.append(run)
            self._queue.put(None)  # it was for a thread: they are to end
        return found

    def stop(self) -> None:
        """Let every thread end when it comes to the end of the queue."""
        for _ in self._slots:
            self._queue.put(None)

    def _serve(self, slot: int) -> None:
        handle = self._handle_many if self.handler.batch else self._handle_each
        call, close = self._caller()
        sent: list[Sent] = []
        OUTBOX.set(sent)
        while (run := self._queue.get()) is not None:
            # In this order: who closes an epoch looks for executing runs afterwards, so one of us sees the other.
            self._slots[slot] = run
            if not run.epoch.closed:
                began, before = time.perf_counter(), run.at
                handle(run, call, sent)
                run.spent_s, run.handled = time.perf_counter() - began, run.at - before
            leave(run, self, self._returned)
            self._slots[slot] = run = None
        close()

    def _caller(self) -> tuple[Callable[[Any], Any], Callable[[], None]]:
        """How a thread calls the handler, and what it does at its end."""
        return self.handler.call, lambda: None

    def _handle_each(self, run: Run, call: Callable[[Any], Any], sent: list[Sent]) -> None:
        payload, epoch, messages = self.handler.payload, run.epoch, run.messages
        attempt = run.attempt
        try:
            for at in range(run.at, len(messages)):
                run.at = at
                if run.halt:
                    break
                result = call(payload(messages[at], epoch, attempt))
                if result is not None or sent or epoch.guard is not None:
                    end(self._tray, epoch, [messages[at]], attempt, sent, result)
                    self._wait_for_kafka(run)
                attempt = 1
            else:
                run.at = len(messages)
        except BaseException as error:  # whatever it is, the record is not done
            run.error = error
            sent.clear()
        run.attempt = attempt

    def _handle_many(self, run: Run, call: Callable[[Any], Any], sent: list[Sent]) -> None:
        try:
            arguments, undecodable = decoded(self.handler, run)
            if arguments:
                messages = run.messages[run.at : run.at + len(arguments)]
                result = call(arguments)
                end(self._tray, run.epoch, messages, run.attempt, sent, result)
                run.at += len(messages)  # whatever the handler has made of its list
            run.error = undecodable
        except BaseException as error:  # whatever it is, none of the batch is done
            run.error = error
            sent.clear()
        self._wait_for_kafka(run)

    def _wait_for_kafka(self, run: Run) -> None:
        while self._tray.must_wait(run):
            time.sleep(WAIT_S)


def _stack_of(thread: threading.Thread) -> list[str]:
    """Where a thread is, from the handler on."""
    frame = sys._current_frames().get(thread.ident or 0)
    if frame is None:
        return []
    lines = traceback.extract_stack(frame)
    ours = max((at for at, line in enumerate(lines) if line.filename == __file__), default=-1)
    return [f"{line.filename}:{line.lineno} {line.name}" for line in lines[ours + 1 :]]
