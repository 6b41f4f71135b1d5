"""A runner: one handler at work, and what threads and tasks do alike."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from recado.errors import Undecodable
from recado.kafka.abstract import Message
from recado.record import Sent
from recado.worker.handling.gather import Gathering
from recado.worker.handling.handlers import Handler
from recado.worker.handling.lanes import Dispatcher, Lanes
from recado.worker.handling.outputs import returned
from recado.worker.handling.outtray import Outtray
from recado.worker.handling.run import Run
from recado.worker.partition.epoch import Epoch

__all__ = ["Runner", "decoded", "dispatcher", "end", "leave"]


class Runner(Protocol):
    """One handler at work: its lanes, and the threads or tasks that take runs from them."""

    handler: Handler
    lanes: Dispatcher

    def start(self) -> None: ...

    @property
    def put(self) -> Callable[[Run], None]:
        """Queues a run (any thread)."""

    def waiting(self) -> int:
        """How many runs wait for a thread, about."""

    def executing(self) -> list[Run]:
        """The runs that threads are at now."""

    def stacks(self) -> list[tuple[Run, Callable[[], list[str]]]]:
        """The runs that threads are at now, and how to learn where each is (any thread)."""

    def stop(self) -> None:
        """Take nothing more; what executes goes on (threads cannot be killed)."""


def dispatcher(handler: Handler, runner: Runner) -> Dispatcher:
    """The lanes that a handler's declaration asks for."""
    if handler.batch is not None:
        size, wait_s = handler.batch
        ordered = handler.order != "none"
        return Gathering(size=size, wait_s=wait_s, ordered=ordered, start=runner.put, clock=time.monotonic)
    return Lanes(order=handler.order, concurrency=handler.concurrency, start=runner.put)


def leave(run: Run, runner: Runner, returned: deque[Run]) -> None:
    """A thread is through with a run: it failed, was asked to stop in between, or is at its end."""
    if run.error is None:
        if run.halt and run.at < len(run.messages) and not run.epoch.closed:
            runner.lanes.turn(run)
        else:
            runner.lanes.finish(run)
    returned.append(run)


def end(tray: Outtray, epoch: Epoch, messages: list[Message], attempt: int, sent: list[Sent], result: Any) -> None:
    """A call has returned: hand over what it sends. Where it sends nothing its ids are done now.

    Raises HandlerError for what can be sent nowhere.
    """
    if not tray.put(epoch, messages, attempt, sent, returned(result)) and epoch.guard is not None:
        epoch.guard.done(epoch, [message.offset() for message in messages])


def decoded(handler: Handler, run: Run) -> tuple[list[Any], Undecodable | None]:
    """A batch's arguments up to its end or its first undecodable record."""
    arguments: list[Any] = []
    for message in run.messages[run.at :]:
        try:
            arguments.append(handler.payload(message, run.epoch, run.attempt))
        except Undecodable as error:
            return arguments, error
    return arguments, None
