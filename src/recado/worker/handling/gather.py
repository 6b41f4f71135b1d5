"""Gathering: records of a partition that a handler takes many at a time."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable

from recado.kafka.abstract import Message
from recado.record import TopicPartition
from recado.worker.handling.run import Run
from recado.worker.partition.epoch import Epoch

__all__ = ["Gathering"]


class _Basket:
    """What was gathered of one partition's stay."""

    __slots__ = ("epoch", "messages", "since")

    def __init__(self, epoch: Epoch) -> None:
        self.epoch = epoch
        self.messages: list[Message] = []
        self.since = 0.0


class Gathering:
    """Makes batches per partition (the contract is ``lanes.Dispatcher``).

    A batch is ready when it has ``size`` records, or ``wait_s`` after its first came. With an order, a partition
    has one batch under way at a time, together with what comes back to it: their keys are the same.
    """

    def __init__(
        self, *, size: int, wait_s: float, ordered: bool, start: Callable[[Run], None], clock: Callable[[], float]
    ) -> None:
        self._size, self._wait_s, self._ordered = size, wait_s, ordered
        self._start, self._clock = start, clock
        self._lock = threading.Lock()
        self._baskets: dict[TopicPartition, _Basket] = {}
        #: Batches under way, by the partition where their records stood first; of an earlier stay, too.
        self._busy: Counter[TopicPartition] = Counter()

    def offer(self, epoch: Epoch, messages: list[Message]) -> None:
        """Add records to their partition's basket."""
        with self._lock:
            basket = self._baskets.setdefault(epoch.where, _Basket(epoch))
            if basket.epoch is not epoch:
                basket.epoch, basket.messages = epoch, []
            if not basket.messages:
                basket.since = self._clock()
            basket.messages.extend(messages)
            self._release(basket, self._clock())

    def finish(self, run: Run) -> None:
        """A batch ended: the next of its partition may start, by turns with what comes back to it."""
        home, now = run.epoch.home, self._clock()
        with self._lock:
            self._busy[home] -= 1
            mine = [basket for basket in self._baskets.values() if basket.epoch.home == home]
            for basket in sorted(mine, key=lambda basket: basket.epoch.where == run.epoch.where):
                self._release(basket, now)

    def turn(self, run: Run) -> None:
        """Never called with a batch half done: one call handles it."""

    def split(self, run: Run) -> None:
        """Nothing to split: one call handles it."""

    def set_aside(self, run: Run) -> None:
        """Nothing to split: a batch waits as a whole."""

    def unfollow(self, run: Run) -> list[tuple[Epoch, list[Message]]]:
        """Nothing follows a batch."""
        return []

    def pace(self, record_s: float) -> None:
        """Nothing to adapt: the handler's declaration says how many it takes."""

    def start_due(self, now: float, *, whatever_is_there: bool = False) -> float:
        """Start the batches whose wait is over; return how many seconds until the next one is."""
        with self._lock:
            for basket in self._baskets.values():
                self._release(basket, math.inf if whatever_is_there else now)
            waiting = [b.since for b in self._baskets.values() if b.messages and not self._must_wait(b)]
        return max(0.0, min(waiting) + self._wait_s - now) if waiting else math.inf

    def _must_wait(self, basket: _Basket) -> bool:
        return self._ordered and self._busy[basket.epoch.home] > 0

    def _release(self, basket: _Basket, now: float) -> None:
        if basket.epoch.closed:
            basket.messages = []
        while basket.messages and not self._must_wait(basket):
            if len(basket.messages) < self._size and now - basket.since < self._wait_s:
                return
            batch, basket.messages = basket.messages[: self._size], basket.messages[self._size :]
            basket.since = self._clock()
            self._busy[basket.epoch.home] += 1
            self._start(Run(basket.epoch, batch, [], in_offset_order=True))
