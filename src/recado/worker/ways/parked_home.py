"""One partition, and what is parked of it, by key (``parking.py``)."""

from __future__ import annotations

import math
from bisect import insort
from collections import deque

from recado.kafka.abstract import Message
from recado.outcomes.history import History, same_topic
from recado.worker.partition.epoch import Epoch
from recado.worker.ways.parked_line import Line

__all__ = ["Home"]

#: What no partition has as many of, and no partition meets as many others.
MOST_OFFSETS, MOST_FOREIGN = 1 << 63, 1 << 20


class Home:
    """One partition of a topic, and what is parked of it by key.

    A record is known here by its place in the order of all: its offset, or something lower where it is of an earlier
    topic of the name, or of another partition (their number has changed), whose order nobody knows.
    """

    __slots__ = (
        "back",
        "changes",
        "comes_back",
        "copies",
        "epoch",
        "foreign",
        "held",
        "is_known",
        "lines",
        "stuck_at",
        "unread",
    )

    def __init__(self, epoch: Epoch) -> None:
        self.epoch = epoch
        #: Whether all that is parked of it was read.
        self.is_known = False
        #: Came before that.
        self.held: list[Message] = []
        self.lines: dict[bytes, Line] = {}
        #: Places of what is parked and not read yet, of keys without a line, where there was no room to read on.
        self.unread: dict[bytes, list[int]] = {}
        #: How many further copies of a record are on their way, or not read yet.
        self.copies: dict[int, int] = {}
        #: The stays of its retry partitions.
        self.back: set[Epoch] = set()
        self.changes = -1
        #: Since when all that was read waits for what there is no room to read, if so.
        self.stuck_at = math.inf
        #: Whether what leaves it comes back to it; to another one where its topic has more partitions than before.
        self.comes_back = True
        #: Earlier topics of the name, and other partitions, in the order in which they were met.
        self.foreign: dict[tuple[str, int], int] = {}

    def place(self, history: History) -> int:
        """Where a record comes in the order of all; one that stood in this very partition is at its offset."""
        if history.partition == self.epoch.partition and same_topic(history.topic_id, self.epoch.topic_id):
            return history.offset
        met = self.foreign.setdefault((history.topic_id, history.partition), len(self.foreign))
        return history.offset - (MOST_FOREIGN - met) * MOST_OFFSETS

    def line(self, key: bytes) -> Line | None:
        """The line of a key; None where nothing is parked of it, as far as is known."""
        if key in self.unread:
            line = self.lines.setdefault(key, Line())
            for first in self.unread.pop(key):
                line.send(first)
        return self.lines.get(key)

    def foresee(self, key: bytes, first: int) -> None:
        """Note that a record, or a further copy of one, is parked and not read yet."""
        line = self.lines.get(key)
        unread = line.sent if line is not None else self.unread.setdefault(key, [])
        if first in (line if line is not None else unread):
            self.copies[first] = self.copies.get(first, 0) + 1
        else:
            insort(unread, first)

    def begin_again(self, epoch: Epoch) -> None:
        """Its partition began again."""
        self.epoch, self.is_known, self.held = epoch, False, []
        self.unread.clear()
        for key, line in list(self.lines.items()):
            line.sent.clear()  # nobody tells any more whether they got there
            if not line.places:
                del self.lines[key]

    def forget_done(self) -> None:
        """Let go of what is done by now; further copies of it are done with it."""
        changes = sum(epoch.tracker.changes for epoch in self.back)
        if any(epoch.fenced for epoch in self.back):
            self._forget_fenced()
        elif changes == self.changes:
            return
        self.changes = changes
        for key, line in list(self.lines.items()):
            while line.out and line.places[line.out[0]].is_done:
                place = line.places.pop(line.out.popleft())
                if place.copies:
                    place.epoch.tracker.done(place.copies)
            if not line.places and not line.sent:
                del self.lines[key]

    def _forget_fenced(self) -> None:
        """A retry partition began again: what was read of it before is void."""
        for line in self.lines.values():
            for first in [first for first, place in line.places.items() if place.epoch.fenced]:
                del line.places[first]
            line.waiting = [first for first in line.waiting if first in line.places]
            line.out = deque(first for first in line.out if first in line.places)
            line.sent.clear()  # it is read again, or was never there
        self.copies.clear()
        self.unread.clear()
        self.back = {epoch for epoch in self.back if not epoch.fenced}
        self.is_known = False
