"""Which offsets of one partition are done, and how far the group may commit: pure bookkeeping."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from recado.outcomes.offset_map import MAP_CHARS, DoneMap, encode

__all__ = ["OffsetTracker"]


class OffsetTracker:
    """Tracks one partition from its assignment to its revocation. One thread only.

    Only delivered offsets are tracked, so offsets that hold no record (transaction markers, compaction) are no
    reason to wait. The position is the lowest delivered offset that is not done; where all are done, the highest
    done one + 1 or the end of the partition as last seen, whichever is later. It never goes back.
    """

    __slots__ = (
        "_before",
        "_done",
        "_end",
        "_last",
        "_pending",
        "changes",
        "leader_epoch",
        "left_out",
        "map_chars",
        "map_top",
    )

    def __init__(self, before: DoneMap | None = None) -> None:
        #: Delivered and not yet passed, ascending; those in ``_done`` wait for a lower one.
        self._pending: deque[int] = deque()
        self._done: set[int] = set()
        self._last = -1
        self._end = -1
        self._before = before
        #: Of the newest record that was delivered.
        self.leader_epoch = before.leader_epoch if before else -1
        #: Grows with everything that is done.
        self.changes = 0
        #: Of the last map: its characters, and how many done ranges did not fit.
        self.map_chars = self.left_out = 0
        #: The highest offset that the last map tells, -1 where it tells none.
        self.map_top = -1

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

    @property
    def before(self) -> DoneMap | None:
        """What was done in earlier stays and is still to be delivered, if anything."""
        if self._before is not None and self._last >= self._before.top:
            self._before = None
        return self._before

    def forget_before(self) -> None:
        """What earlier stays have done is void: the log was cut since."""
        self._before = None

    def done(self, offsets: Sequence[int]) -> None:
        """Note that these delivered records are done, each once, in any order."""
        pending, done = self._pending, self._done
        self.changes += 1
        done.update(offsets)
        while pending and pending[0] in done:
            done.remove(pending.popleft())

    def with_done(self, offsets: Sequence[int]) -> OffsetTracker:
        """A copy that counts these as done, too: what might be committed together with them."""
        copy = OffsetTracker(self.before)
        copy._pending, copy._done = self._pending.copy(), self._done.copy()
        copy._last, copy._end, copy.leader_epoch = self._last, self._end, self.leader_epoch
        copy.done(offsets)
        return copy

    def pass_over(self, first: int, last: int, count: int) -> bool:
        """Note in one go that ``count`` records that were delivered one after the other, from first to last, are done.

        Only where they are the very next ones and nothing is done ahead; otherwise nothing happens: use ``done``.
        """
        pending = self._pending
        if self._done or count > len(pending) or pending[0] != first or pending[count - 1] != last:
            return False
        self.changes += 1
        if count == len(pending):
            pending.clear()
        else:
            for _ in range(count):
                pending.popleft()
        return True

    def is_done(self, offset: int) -> bool:
        """Whether a delivered record is done."""
        return offset in self._done or not self._pending or offset < self._pending[0]

    def reached_end(self, offset: int) -> None:
        """Note that the partition holds nothing between the last delivered record and ``offset`` (exclusive)."""
        self._end = max(self._end, offset)
        self.changes += 1

    @property
    def end_was_reached(self) -> bool:
        """Whether the partition was read to an end that it had in this stay."""
        return self._end >= 0

    def position(self) -> int | None:
        """The next offset to handle, which is the one to commit; None while nothing is known (any thread)."""
        try:
            return self._pending[0]
        except IndexError:  # not asked for before: another thread that only looks may come in between
            pass
        position = max(self._last + 1, self._end)
        return position if position > 0 or self._end == 0 else None

    def highest_done(self) -> int:
        """The highest offset that is done, or where the stay began - 1; -1 where nothing is known."""
        for offset in reversed(self._pending) if self._done else ():
            if offset in self._done:
                return offset
        return (self.position() or 0) - 1

    def done_ahead(self) -> list[tuple[int, int]]:
        """What is done beyond the position, as (first, last), ascending; offsets without a record join neighbours."""
        found: list[tuple[int, int]] = []
        done, left, first, last = self._done, len(self._done), -1, -1
        for offset in self._pending if left else ():
            if offset in done:
                first = offset if first < 0 else first
                last = offset
                left -= 1
            elif first >= 0:
                found.append((first, last))
                first = -1
                if not left:
                    break
        if first >= 0:
            found.append((first, last))
        if self.before is not None:
            found += self.before.above(self._last)
        return found

    def map_text(self, position: int) -> str:
        """The offset map to be committed with ``position``."""
        if not self._done and self.before is None:
            self.map_chars = self.left_out = 0
            self.map_top = -1
            return ""
        ranges = self.done_ahead()
        text, count = encode(position, ranges, self.leader_epoch, limit=MAP_CHARS)
        self.map_chars, self.left_out = len(text), len(ranges) - count
        self.map_top = ranges[count - 1][1] if count else -1
        return text
