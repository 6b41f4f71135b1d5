"""Since when a partition's records have been there: remembered for some of them, so that it costs next to nothing."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from recado.kafka.abstract import Message
from recado.worker.partition.accepted import came_ms

__all__ = ["Stamps"]

#: Of a larger read, every so manieth record is remembered.
STRIDE = 64

#: Of how many records at most; beyond that every second is forgotten.
MOST = 4096


class Stamps:
    """Of one stay of a partition. Loop thread only."""

    __slots__ = ("_offsets", "_times")

    def __init__(self) -> None:
        self._offsets: list[int] = []
        self._times: list[int] = []

    def note(self, messages: Sequence[Message], now_ms: int) -> None:
        """Remember records that were delivered, in offset order."""
        if len(self._offsets) >= MOST:
            del self._offsets[1::2], self._times[1::2]
        for message in messages if len(messages) <= STRIDE else messages[::STRIDE]:
            if (came := came_ms(message, now_ms)) > 0:
                self._offsets.append(message.offset())
                self._times.append(came)

    def at(self, offset: int) -> int | None:
        """Since when the record at an offset has been there, in milliseconds since the epoch, or the nearest before it.

        None where nothing is known.
        """
        found = bisect_right(self._offsets, offset) - 1
        return self._times[found] if found >= 0 else None

    def forget_before(self, offset: int) -> None:
        """Nobody will ask for an earlier one any more."""
        found = bisect_right(self._offsets, offset) - 1
        if found > 0:
            del self._offsets[:found], self._times[:found]
