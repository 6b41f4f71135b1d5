"""Runs that wait for their next attempt, by when it is due."""

from __future__ import annotations

import heapq
import math

from recado.worker.handling.run import Run

__all__ = ["Delays"]


class Delays:
    """A heap of waiting runs. They wait here and not in a thread, so that others can be handled. Loop thread only."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Run]] = []
        self._pushed = 0

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, run: Run, due: float) -> None:
        """Let a run wait until ``due``."""
        self._pushed += 1  # equal times keep their order, and runs are never compared
        heapq.heappush(self._heap, (due, self._pushed, run))

    def pop_due(self, now: float) -> list[Run]:
        """Take out what is due."""
        due = []
        while self._heap and self._heap[0][0] <= now:
            due.append(heapq.heappop(self._heap)[2])
        return due

    def pop_closed(self) -> list[Run]:
        """Take out the runs whose partition is closed: they get no further attempt here."""
        closed = [entry[2] for entry in self._heap if entry[2].epoch.closed]
        if closed:
            self._heap = [entry for entry in self._heap if not entry[2].epoch.closed]
            heapq.heapify(self._heap)
        return closed

    def wait_s(self, now: float) -> float:
        """Seconds until the next is due; infinity when none waits."""
        return max(0.0, self._heap[0][0] - now) if self._heap else math.inf
