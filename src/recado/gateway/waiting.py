"""Requests that wait for Kafka's word on an event loop: woken by reports in batches, or by their deadline."""

from __future__ import annotations

import asyncio
from collections import deque

from recado.gateway.gather import Gather
from recado.gateway.waits import OVERDUE_S
from recado.kafka.abstract import Producer, Topics
from recado.kafka.delivery import Delivery

__all__ = ["Waiting"]

#: How far apart deadlines are looked at, in seconds. One look at all costs less than a timer for each.
LOOK_S = 0.05


class Waiting:
    """The requests of one event loop that wait. Only ``complete`` and ``awake`` may be called from other threads."""

    def __init__(self, producer: Producer, topics: Topics, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._topics = topics
        self._progress_at = loop.time()
        #: The futures that wait for Kafka's word, and those that wait for the disk, each with its deadline.
        self._deadlines: dict[asyncio.Future[None], float] = {}
        self._disk: dict[asyncio.Future[None], float] = {}
        self._ended = False
        self._completed: deque[tuple[asyncio.Future[None], int]] = deque()
        self.gather = Gather(producer, loop, on_served=self._resolve)
        self._look()

    def for_kafka(self, wait_s: float) -> asyncio.Future[None]:
        """A future that is done when its request is complete, ``wait_s`` seconds from now, or at ``end_waits``."""
        future = self._loop.create_future()
        self._deadlines[future] = self._loop.time() + (0.0 if self._ended else wait_s)
        return future

    def for_disk(self, wait_s: float) -> asyncio.Future[None]:
        """A future that is done when something is on the disk, or ``wait_s`` seconds from now."""
        future = self._loop.create_future()
        self._disk[future] = self._loop.time() + wait_s
        return future

    def end_waits(self) -> None:
        """Nobody waits for Kafka any more, from now on."""
        self._ended = True
        for future in list(self._deadlines):
            self._wake(future)

    def leave(self, future: asyncio.Future[None]) -> None:
        """Nobody waits for this future any more."""
        self._deadlines.pop(future, None)

    def complete(self, future: asyncio.Future[None], delivery: Delivery) -> None:
        """Wake a request, from the thread that serves the reports."""
        self._woken(future, len(delivery.records))

    def awake(self, future: asyncio.Future[None], delivery: Delivery | None = None) -> None:
        """Wake a request whose records did not pass through the gather, from any thread."""
        self._woken(future, 0)

    def _woken(self, future: asyncio.Future[None], records: int) -> None:
        self._completed.append((future, records))
        # One wake-up of the loop serves all that complete until it runs. While the loop itself serves the reports,
        # it looks here right after, so nothing needs to wake it.
        if len(self._completed) == 1 and not self.gather.serving:
            self._loop.call_soon_threadsafe(self._resolve)

    def _resolve(self) -> None:
        completed, count = self._completed, 0
        self._progress_at = self._loop.time()
        # The last one leaves after it was served: as long as one is in, nobody else wakes the loop.
        while completed:
            future, records = completed[0]
            self._wake(future)
            completed.popleft()
            count += records
        self.gather.confirmed(count)

    def _wake(self, future: asyncio.Future[None]) -> None:
        if self._deadlines.pop(future, None) is None:
            self._disk.pop(future, None)
        if not future.done():
            future.set_result(None)

    def _look(self) -> None:
        now = self._loop.time()
        for waiting in (self._deadlines, self._disk):
            for future in [future for future, deadline in waiting.items() if deadline <= now]:
                self._wake(future)
        if not self._deadlines:
            self._progress_at = now
        elif now - self._progress_at > OVERDUE_S:
            self._progress_at = now
            self._topics.suspect()
        self._loop.call_later(LOOK_S, self._look)
