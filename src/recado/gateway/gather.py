"""Gathers records while others are under way, so that one connection does not wait and hundreds share batches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from recado.kafka.abstract import Producer
from recado.kafka.delivery import Delivery

__all__ = ["Gather"]

#: Rest between two looks at reports and gathered records under load, in seconds. A lone record never waits for it.
TICK_S = 0.001

#: With so many records under way the loop serves the reports itself; with half as many it hands back.
BUSY = 8

#: So many records go without waiting for more.
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
        #: Records that wait here, and records that wait for Kafka's word.
        self._gathered = 0
        self._under_way = 0

    def add(self, delivery: Delivery) -> None:
        """Send the delivery now or soon."""
        if self._busy:
            # The producer gathers by itself now.
            self._under_way += len(delivery.records)
            self._producer.send(delivery)
            return
        self._gathered += len(delivery.records)
        self._waiting.append(delivery)
        if not self._under_way or self._gathered >= ENOUGH:
            self._release()
        elif not self._ticking:
            self._tick_later()

    def confirmed(self, records: int) -> None:
        """So many records got their reports: what has gathered meanwhile goes."""
        self._under_way -= records
        if self._waiting and not self._busy:
            self._release()

    def _tick(self) -> None:
        self._ticking = False
        if self._busy:
            self.serving = True
            self._producer.serve()
            self.serving = False
            self._on_served()
        self._release()
        if self._busy and self._under_way < BUSY // 2:
            self._busy = False
            self._producer.hand_back()
        if self._busy and not self._ticking:
            self._tick_later()

    def _tick_later(self) -> None:
        self._ticking = True
        self._loop.call_later(TICK_S, self._tick)

    def _release(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._under_way += self._gathered
        self._gathered = 0
        if self._under_way >= BUSY and not self._busy:
            self._busy = True
            self._producer.take_over()
            if not self._ticking:
                self._tick_later()
        for delivery in waiting:
            self._producer.send(delivery)
