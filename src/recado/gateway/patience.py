"""Bodies that trickle: each has a time to arrive, and slow ones are ended with 408."""

from __future__ import annotations

import asyncio
from typing import Any

from recado.gateway.problem import Problem

__all__ = ["GRACE_S", "LEAST_BYTES_PER_S", "Patience", "too_slow"]

#: A body may take so long, in seconds, and longer by its bytes at the least rate: 32 MiB at that rate take 11 minutes.
GRACE_S = 10.0
LEAST_BYTES_PER_S = 50_000

#: How far apart slow bodies are looked for, in seconds. One look at all costs less than a timer for each.
LOOK_S = 0.5


class Patience:
    """The bodies that one event loop is reading."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._deadlines: dict[asyncio.Task[Any], float] = {}
        self._ended: set[asyncio.Task[Any]] = set()
        self._look()

    def begin(self) -> asyncio.Task[Any]:
        """The current task starts to read a body; ``end`` it in any case."""
        task = asyncio.current_task(self._loop)
        assert task is not None, "the server runs each request in a task"
        self._deadlines[task] = self._loop.time() + GRACE_S
        return task

    def came(self, task: asyncio.Task[Any], size_bytes: int) -> None:
        """So many bytes came, and more will."""
        self._deadlines[task] += size_bytes / LEAST_BYTES_PER_S

    def end(self, task: asyncio.Task[Any]) -> None:
        """The body is whole, or refused."""
        self._deadlines.pop(task, None)

    def was_slow(self, task: asyncio.Task[Any]) -> bool:
        """Tell, once, whether the task was cancelled here."""
        if task not in self._ended:
            return False
        self._ended.discard(task)
        task.uncancel()
        return True

    def _look(self) -> None:
        now = self._loop.time()
        for task in [task for task, deadline in self._deadlines.items() if deadline < now]:
            del self._deadlines[task]
            self._ended.add(task)
            task.cancel()
        self._loop.call_later(LOOK_S, self._look)


def too_slow() -> Problem:
    """A body that did not come in time."""
    detail = (
        f"The body came slower than {LEAST_BYTES_PER_S} bytes a second after {GRACE_S:.0f} s. Nothing was accepted."
    )
    return Problem(408, "body-too-slow", "Body too slow", detail)
