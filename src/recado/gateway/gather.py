"""Gathers records while others are under way, so that one connection does not wait and hundreds share batches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from recado.kafka.abstract import Producer
from recado.kafka.delivery import Delivery

__all__ = ["Gather"]

#: Rest between two looks at reports and gathered records under load, in seconds. A lone record never waits for it.
TICK_S = 0.001

#: With so many deliveries under way the loop serves the reports itself; with half as many it hands back.
BUSY = 8

#: So many deliveries go without waiting for more.
ENOUGH = 256


class Gather:
    """Nagle's rule for records: with nothing under way send at once, else send together with what comes next.

    A fixed ``linger.ms`` is wrong somewhere: 0 makes many small batches under load, 2 makes a lone sender wait for
    nobody. Belongs to one event loop.
    """

    def __init__(self, producer: Producer, loop: asyncio.AbstractEventLoop, *, on_served: Callable[[], None]) -> None:
        self._producer = producer
        self._loop = loop
        self._on_served = on_served
        #: Whether the loop is serving reports at this moment.
        self.serving = False
        self._waiting: list[Delivery] = []
        self._ticking = False
        self._busy = False
        self._under_way = 0

    def add(self, delivery: Delivery) -> None:
        """Send the delivery now or soon."""
        if not self._under_way:
            self._under_way = 1
            self._producer.send(delivery)
            return
        self._waiting.append(delivery)
        if len(self._waiting) >= ENOUGH:
            self._release()
        if not self._ticking:
            self._ticking = True
            self._loop.call_later(TICK_S, self._tick)

    def confirmed(self, count: int) -> None:
        """Some deliveries got their reports: what has gathered meanwhile goes."""
        self._under_way = max(0, self._under_way - count)
        if self._waiting and not self._busy:
            self._release()

    def _tick(self) -> None:
        if self._busy:
            self.serving = True
            self._producer.serve()
            self.serving = False
            self._on_served()
        self._release()
        self._switch()
        self._ticking = self._busy
        if self._busy:
            self._loop.call_later(TICK_S, self._tick)

    def _switch(self) -> None:
        if not self._busy and self._under_way >= BUSY:
            self._busy = True
            self._producer.take_over()
        elif self._busy and self._under_way < BUSY // 2:
            self._busy = False
            self._producer.hand_back()

    def _release(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._under_way += len(waiting)
        for delivery in waiting:
            self._producer.send(delivery)
