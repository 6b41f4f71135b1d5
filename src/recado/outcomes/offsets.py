"""Which offsets of one partition are done, and how far the group may commit: pure bookkeeping."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

__all__ = ["OffsetTracker"]


class OffsetTracker:
    """Tracks one partition from its assignment to its revocation. One thread only.

    Only delivered offsets are tracked, so offsets that hold no record (transaction markers, compaction) are no
    reason to wait. The position is the lowest delivered offset that is not done; where all are done, the highest
    done one + 1 or the end of the partition as last seen, whichever is later. It never goes back.
    """

    __slots__ = ("_done", "_end", "_last", "_pending")

    def __init__(self) -> None:
        #: Delivered and not yet passed, ascending; those in ``_done`` wait for a lower one.
        self._pending: deque[int] = deque()
        self._done: set[int] = set()
        self._last = -1
        self._end = -1

    @property
    def span(self) -> int:
        """How many delivered records the position has not passed (what a crash would run again, at most)."""
        return len(self._pending)

    @property
    def pending(self) -> int:
        """How many delivered records are not done."""
        return len(self._pending) - len(self._done)

    @property
    def last(self) -> int:
        """The highest offset delivered, -1 before the first."""
        return self._last

    def deliver(self, offsets: Sequence[int]) -> None:
        """Note records that were handed over, ascending, all higher than every one before (see ``last``)."""
        self._pending.extend(offsets)
        self._last = offsets[-1]

    def done(self, offsets: Sequence[int]) -> None:
        """Note that these delivered records are done, each once, in any order."""
        pending, done = self._pending, self._done
        done.update(offsets)
        while pending and pending[0] in done:
            done.remove(pending.popleft())

    def pass_over(self, first: int, last: int, count: int) -> bool:
        """Note in one go that ``count`` records that were delivered one after the other, from first to last, are done.

        Only where they are the very next ones and nothing is done ahead; otherwise nothing happens: use ``done``.
        """
        pending = self._pending
        if self._done or count > len(pending) or pending[0] != first or pending[count - 1] != last:
            return False
        if count == len(pending):
            pending.clear()
        else:
            for _ in range(count):
                pending.popleft()
        return True

    def reached_end(self, offset: int) -> None:
        """Note that the partition holds nothing between the last delivered record and ``offset`` (exclusive)."""
        self._end = max(self._end, offset)

    def position(self) -> int | None:
        """The next offset to handle, which is the one to commit; None while nothing is known."""
        if self._pending:
            return self._pending[0]
        position = max(self._last + 1, self._end)
        return position if position > 0 or self._end == 0 else None

    def done_ahead(self) -> list[int]:
        """Done offsets beyond the position, ascending: what an offset map would remember."""
        return sorted(self._done)
