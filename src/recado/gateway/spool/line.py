"""What waits of one topic, in memory: how far the forwarder is, and what is under way (no effects)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from weakref import WeakSet

__all__ = ["Line", "Mark"]

#: Times of arrival are remembered so far apart, in milliseconds: enough to tell ages.
MARK_MS = 250

#: At most so many of them; a line that stands for long remembers them ever further apart, so its memory stays.
MARKS = 256


class Mark:
    """The rows of a line at one moment, for a flush: ``left`` of them are still to do."""

    __slots__ = ("__weakref__", "last", "left")

    def __init__(self, last: int, left: int) -> None:
        self.last = last
        self.left = left


class Line:
    """The rows of one topic, oldest first. Row numbers only grow. Not thread-safe: the spool's lock guards it."""

    def __init__(self, topic: str, number: int, *, cursor: int) -> None:
        self.topic = topic
        self.number = number
        #: Rows up to this number were looked at by the forwarder.
        self.cursor = cursor
        #: Rows that are neither in Kafka nor set aside, and how many of them the forwarder has not sent.
        self.rows = 0
        self.unsent = 0
        #: Sent by the forwarder, no report yet.
        self.in_flight: set[int] = set()
        #: The highest row number that is known here, and what all rows take on disk, in bytes.
        self.last = cursor
        self.size_bytes = 0.0
        #: How long the oldest row has been waiting when somebody last looked, in milliseconds.
        self.age_ms = 0
        #: Sent by the producer of the requests before they were written down; no report yet.
        self.under_way: set[int] = set()
        #: Done, but the strike-out is not on disk yet: not to be sent again.
        self.settled: set[int] = set()
        #: Nothing is sent before this moment (monotonic seconds), because of ``held_why``.
        self.held_until = 0.0
        self.held_why = ""
        #: When somebody last asked for the spool (monotonic seconds), not the outage.
        self.asked_at = float("-inf")
        self._failed: set[int] = set()
        self._flushes: WeakSet[Mark] = WeakSet()
        self._marks: deque[tuple[int, int]] = deque()
        self._mark_ms = MARK_MS
        self._is_being_read = False
        self._struck: list[int] = []

    def added(self, rows: range, size_bytes: float, kept_ms: int, *, under_way: bool = False) -> None:
        """These rows are on disk."""
        self.rows += len(rows)
        self.unsent += len(rows)
        self.size_bytes += size_bytes
        self.last = rows[-1]
        if under_way:
            self.under_way.update(rows)
        if not self._marks or kept_ms >= self._marks[-1][1] + self._mark_ms:
            self._marks.append((rows[0], kept_ms))
            if len(self._marks) >= MARKS:
                self._marks = deque(list(self._marks)[::2])
                self._mark_ms *= 2

    def may_send(self, row: int) -> bool:
        """Tell whether the forwarder may pass a row that it read.

        What is under way elsewhere stops it there, and what was committed but is not known here yet: whether that is
        under way, and who waits for it, comes with ``added``. Where a row has failed since, all after it waits.
        """
        return row <= self.last and row not in self.under_way and not self._failed

    def reading(self) -> int:
        """The forwarder reads on after the row that is returned: what is struck out meanwhile may be in its hands."""
        self._is_being_read = True
        return self.cursor

    def has_read(self) -> None:
        """What the forwarder read is sent, or dropped."""
        self._is_being_read = False
        self.settled.difference_update(self._struck)
        self._struck.clear()

    def struck(self, row: int) -> None:
        """A settled row is gone from the disk."""
        if self._is_being_read:
            self._struck.append(row)
        else:
            self.settled.discard(row)

    def is_over(self) -> bool:
        """Tell whether nothing is left that anybody must remember."""
        return not (self.rows or self.settled or self._is_being_read)

    def sent(self, rows: Iterable[int], *, up_to: int) -> None:
        """The forwarder gave these rows to Kafka, and looked at all ``up_to``."""
        before = len(self.in_flight)
        self.in_flight.update(rows)
        self.unsent -= len(self.in_flight) - before
        self.cursor = max(self.cursor, up_to)

    def finished(self, row: int) -> float | None:
        """A row is in Kafka, or set aside: give back about its bytes; None where that was known already."""
        if row in self.in_flight:
            self.in_flight.discard(row)
        elif row in self.under_way:
            self.under_way.discard(row)
            self.unsent -= 1
        else:
            return None
        size_bytes = self.size_bytes / self.rows
        self.size_bytes -= size_bytes
        self.rows -= 1
        self.settled.add(row)
        if self._flushes:
            for mark in self._flushes:
                if row <= mark.last:
                    mark.left -= 1
        if not self.rows:
            self.cursor = self.last
            self._marks.clear()
            self._mark_ms = MARK_MS
            self.held_why = ""
        return size_bytes

    def failed(self, row: int) -> None:
        """A row must be sent again: once nothing is in flight, the forwarder goes back to the first such row."""
        if row in self.under_way:
            self.under_way.discard(row)  # the forwarder has not come to it yet
        elif row in self.in_flight:
            self.in_flight.discard(row)
            self.unsent += 1
            self._failed.add(row)

    def go_back(self) -> bool:
        """Return to the first failed row if nothing is in flight; False while the forwarder must wait for that."""
        if not self._failed:
            return True
        if self.in_flight:
            return False
        self.cursor = min(self._failed) - 1
        self._failed.clear()
        return True

    def mark(self) -> Mark:
        """Watch the rows that are here now, as long as somebody holds the mark."""
        mark = Mark(self.last, self.rows)
        self._flushes.add(mark)
        return mark

    def look(self, now_ms: int) -> None:
        """Note the oldest row's age."""
        oldest_ms = self.oldest_ms()
        self.age_ms = 0 if oldest_ms is None else now_ms - oldest_ms

    def lowest(self) -> int:
        """The lowest row number that may still be to do."""
        ahead = self.cursor + 1
        return min(min(rows, default=ahead) for rows in (self.in_flight, self.under_way, self._failed, (ahead,)))

    def oldest_ms(self) -> int | None:
        """About when the oldest row was accepted, in milliseconds since the epoch."""
        if not self.rows:
            return None
        lowest = self.lowest()
        while len(self._marks) > 1 and self._marks[1][0] <= lowest:
            self._marks.popleft()
        if len(self._marks) < MARKS // 8:
            self._mark_ms = MARK_MS
        return self._marks[0][1] if self._marks else None
