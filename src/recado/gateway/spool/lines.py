"""What waits of all topics, in memory, with its budget (no effects)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import NamedTuple

from recado.clock import wall_clock_ms
from recado.gateway.spool.line import Line, Mark
from recado.gateway.spool.row import TOPIC_BITS, Extent

__all__ = ["Depth", "Lines"]

#: A topic whose oldest row is older than this does not move: waiting for its turn would only cost the sender time.
STALL_MS = 1_000

#: So long after somebody asked for the spool, requests of that topic pass through it too, in seconds: behind a steady
#: stream of such records the topic's line is hardly ever empty.
ASKED_S = 1.0


class Depth(NamedTuple):
    """What the spool holds: rows waiting, their bytes, the oldest one's age in seconds, rows that were refused."""

    rows: int
    size_bytes: int
    oldest_s: float
    refused: int


class Lines:
    """The lines of the topics of which something waits. Thread-safe; who changes a line holds ``lock``."""

    def __init__(self, *, max_bytes: int) -> None:
        self.lock = threading.RLock()
        self.max_bytes = max_bytes
        self._of_topic: dict[str, Line] = {}
        self._of_number: dict[int, Line] = {}
        #: Bytes that the budget counts: on their way to the disk, waiting there, refused.
        self._bytes = 0.0
        #: Rows that Kafka refused for good, and their bytes: they wait for a person, and keep their room until then.
        self.refused = 0
        self._refused_bytes = 0.0

    def load(self, extents: Iterable[Extent], *, row_bytes: int) -> int:
        """Take in what is on the disk at the start; return how many rows wait."""
        rows = 0
        for extent in extents:
            line = self.line(extent.topic, extent.number, cursor=extent.lowest - 1)
            size_bytes = extent.size_bytes + row_bytes * extent.rows
            line.added(range(extent.lowest, extent.lowest + extent.rows), size_bytes, extent.oldest_ms)
            line.last = extent.highest
            self._bytes += size_bytes
            rows += extent.rows
        return rows

    def line(self, topic: str, number: int, *, cursor: int) -> Line:
        """The topic's line, made anew where it has none."""
        line = self._of_topic.get(topic)
        if line is None:
            line = self._of_topic[topic] = self._of_number[number] = Line(topic, number, cursor=cursor)
        return line

    def line_of(self, row: int) -> Line | None:
        """The line that has or had a row."""
        return self._of_number.get(row >> TOPIC_BITS)

    def lines(self) -> list[Line]:
        """The topics of which something waits."""
        with self.lock:
            return list(self._of_topic.values())

    def close_if_over(self, line: Line) -> None:
        """Forget a line of which nothing is left."""
        with self.lock:
            if line.is_over() and self._of_number.get(line.number) is line:
                del self._of_topic[line.topic], self._of_number[line.number]

    # --- the budget --------------------------------------------------------------------------------------------

    def reserve(self, size_bytes: float) -> bool:
        """Take room for records; False where there is none."""
        with self.lock:
            if self._bytes + size_bytes > self.max_bytes:
                return False
            self._bytes += size_bytes
            return True

    def give_back(self, size_bytes: float) -> None:
        """Give room back."""
        with self.lock:
            self._bytes = max(0.0, self._bytes - size_bytes)

    def held_bytes(self) -> float:
        """What the budget counts now."""
        return self._bytes

    def finish(self, line: Line, row: int) -> float | None:
        """A row waits no more; return about its bytes, None where that was known already."""
        with self.lock:
            size_bytes = line.finished(row)
            if size_bytes is not None:
                self.give_back(size_bytes)
            return size_bytes

    def refuse(self, line: Line, row: int) -> bool:
        """A row is set aside; False where it was done already."""
        with self.lock:
            size_bytes = self.finish(line, row)
            if size_bytes is None:
                return False
            self.set_refused(self.refused + 1, self._refused_bytes + size_bytes)
            return True

    def set_refused(self, rows: int, size_bytes: float) -> None:
        """So many are set aside now."""
        with self.lock:
            self._bytes = max(0.0, self._bytes + size_bytes - self._refused_bytes)
            self.refused, self._refused_bytes = rows, size_bytes

    # --- how far it is -----------------------------------------------------------------------------------------

    def has(self, topics: Iterable[str]) -> bool:
        """Tell whether records of one of these topics wait here: later ones must queue behind them."""
        lines = self._of_topic
        return bool(lines) and any((line := lines.get(topic)) is not None and line.rows for topic in topics)

    def is_leaving(self, topics: Iterable[str]) -> bool:
        """Tell whether the last rows of these topics are with Kafka already, so that the way will soon be free."""
        with self.lock:
            lines = [line for topic in topics if (line := self._of_topic.get(topic)) is not None]
            recently = time.monotonic() - ASKED_S
            return not any(line.unsent or line.held_why or line.asked_at > recently for line in lines)

    def is_stalled(self, topics: Iterable[str]) -> bool:
        """Tell whether a record of these topics would wait long for its turn."""
        lines = [line for topic in topics if (line := self._of_topic.get(topic)) is not None]
        return any(line.age_ms > STALL_MS or line.held_why for line in lines)

    def is_moving(self) -> bool:
        """Tell whether rows wait of which nothing is known that holds them up."""
        with self.lock:
            return any(line.rows and not line.held_why for line in self._of_topic.values())

    def depth(self) -> Depth:
        """What is in it now."""
        with self.lock:
            lines = list(self._of_topic.values())
            rows = sum(line.rows for line in lines)
            oldest = [moment for line in lines if (moment := line.oldest_ms()) is not None]
            age_s = max(0.0, (wall_clock_ms() - min(oldest)) / 1000) if oldest else 0.0
            return Depth(rows, round(sum(line.size_bytes for line in lines)), age_s, self.refused)

    def mark(self) -> list[Mark]:
        """Remember what is in it now; ``pending`` tells how much of that is left."""
        with self.lock:
            return [line.mark() for line in self._of_topic.values() if line.rows]

    def pending(self, marks: Iterable[Mark]) -> int:
        """How many of the rows of that moment are not in Kafka yet; those that it refused never will."""
        with self.lock:
            return sum(mark.left for mark in marks)
