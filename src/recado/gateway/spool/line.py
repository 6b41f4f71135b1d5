"""What waits of one topic, in memory: how far the forwarder is, and what is under way (no effects)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

__all__ = ["Line"]

#: Times of arrival are remembered so far apart, in milliseconds: enough to tell ages, little memory at any backlog.
MARK_MS = 250


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
        #: Sent by the forwarder, no report yet; in row order.
        self.in_flight: set[int] = set()
        #: The highest row number, and what all rows take on disk, in bytes.
        self.last = cursor
        self.size_bytes = 0.0
        #: How long the oldest row has been waiting when somebody last looked, in milliseconds.
        self.age_ms = 0
        #: Sent by the producer of the requests before they were written down; no report yet.
        self.under_way: set[int] = set()
        #: Done, but the strike-out is not on disk yet: not to be sent again.
        self.settled: set[int] = set()
        #: Rows of all time that are done; with ``rows`` it tells how far a flush is.
        self.done = 0
        #: Nothing is sent before this moment (monotonic seconds), because of ``held_why``.
        self.held_until = 0.0
        self.held_why = ""
        #: When somebody last asked for the spool (monotonic seconds), not the outage.
        self.asked_at = float("-inf")
        self._failed: list[int] = []
        self._marks: deque[tuple[int, int]] = deque()

    def added(self, rows: range, size_bytes: float, kept_ms: int, *, under_way: bool = False) -> None:
        """These rows are on disk."""
        self.rows += len(rows)
        self.unsent += len(rows)
        self.size_bytes += size_bytes
        self.last = rows[-1]
        if under_way:
            self.under_way.update(rows)
        if not self._marks or kept_ms >= self._marks[-1][1] + MARK_MS:
            self._marks.append((rows[0], kept_ms))

    def may_send(self, row: int) -> bool:
        """Tell whether the forwarder may send a row that it read; what is under way elsewhere stops it there."""
        return row not in self.under_way

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
        elif row > self.cursor and row not in self.settled:
            self.unsent -= 1
        else:
            return None
        size_bytes = self.size_bytes / self.rows
        self.size_bytes -= size_bytes
        self.rows -= 1
        self.done += 1
        self.settled.add(row)
        return size_bytes

    def failed(self, row: int) -> None:
        """A row must be sent again: once nothing is in flight, the forwarder goes back to the first such row."""
        if row in self.under_way:
            self.under_way.discard(row)  # the forwarder has not come to it yet
        elif row in self.in_flight:
            self.in_flight.discard(row)
            self.unsent += 1
            self._failed.append(row)

    def go_back(self) -> bool:
        """Return to the first failed row if nothing is in flight; False while the forwarder must wait for that."""
        if not self._failed:
            return True
        if self.in_flight:
            return False
        self.cursor = min(self._failed) - 1
        self._failed.clear()
        return True

    def is_open(self, last: int) -> bool:
        """Tell whether a row up to this number is still to do."""
        return self.rows > 0 and self.lowest() <= last

    def look(self, now_ms: int) -> None:
        """Note the oldest row's age."""
        oldest_ms = self.oldest_ms()
        self.age_ms = 0 if oldest_ms is None else now_ms - oldest_ms

    def lowest(self) -> int:
        """The lowest row number that may still be to do."""
        return min(min(self.in_flight, default=self.cursor + 1), min(self.under_way, default=self.cursor + 1))

    def oldest_ms(self) -> int | None:
        """About when the oldest row was accepted, in milliseconds since the epoch."""
        if not self.rows:
            return None
        lowest = self.lowest()
        while len(self._marks) > 1 and self._marks[1][0] <= lowest:
            self._marks.popleft()
        return self._marks[0][1] if self._marks else None
