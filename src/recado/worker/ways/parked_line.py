"""The line of what is parked of one key (``parking.py``): what is on its way, what waits, and what the lane has."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

from recado.worker.partition.epoch import Epoch
from recado.worker.partition.returned import Returned

__all__ = ["Line", "Place"]


class Place:
    """A parked record that was read from the retry topic."""

    __slots__ = ("copies", "epoch", "message")

    def __init__(self, epoch: Epoch, message: Returned) -> None:
        self.epoch = epoch
        self.message = message
        #: The offsets of further copies: they bring its history up to date, and are done when it is.
        self.copies: list[int] = []

    @property
    def is_done(self) -> bool:
        """Whether it was handled, or left in another way."""
        return self.epoch.tracker.is_done(self.message.offset())


class Line:
    """What is parked of one key. A record is known by its place in the order of all: where it stood first."""

    __slots__ = ("out", "places", "sent", "waiting")

    def __init__(self) -> None:
        #: On their way to the retry topic, ascending.
        self.sent: list[int] = []
        self.places: dict[int, Place] = {}
        #: Of the places those that wait for their time, ascending; and those that the key's lane has, in its order.
        self.waiting: list[int] = []
        self.out: deque[int] = deque()

    def __contains__(self, first: int) -> bool:
        return self.is_sent(first) or first in self.places

    def is_sent(self, first: int) -> bool:
        """Whether a record is on its way to the retry topic."""
        at = bisect_left(self.sent, first)
        return at < len(self.sent) and self.sent[at] == first

    def send(self, first: int) -> None:
        """Note that a record is on its way to the retry topic."""
        if not self.is_sent(first):
            insort(self.sent, first)

    def has_come(self, first: int) -> None:
        """Note that a record was read from the retry topic: as a rule the first of those that were on their way."""
        if self.is_sent(first):
            self.sent.remove(first)

    def is_missing_before(self, first: int) -> bool:
        """Whether an earlier one is still on its way: Kafka may have refused it at first, and taken this one."""
        return bool(self.sent) and self.sent[0] < first
