"""Which partitions of the delay topics rest: those whose next record has long to wait, and all when memory is full."""

from __future__ import annotations

from collections.abc import Mapping

from recado.kafka.abstract import Consumer
from recado.outcomes.delay_hold import Hold, Stay
from recado.outcomes.pauses import Pauses
from recado.record import TopicPartition

__all__ = ["DelayFlow"]

#: A partition whose last record moves on later than this rests, since all behind it wait still longer; in milliseconds.
#: Pausing throws away what was fetched ahead, so a rest must be worth it.
FAR_MS = 4000

#: It is read again so long before that record moves on, in milliseconds: time to fetch those behind it.
LEAD_MS = 2000

#: Reading goes on when so much of the budget is free again.
LOW = 0.7


class DelayFlow:
    """Keeps the line within its memory. Line thread only."""

    def __init__(self, *, consumer: Consumer, hold: Hold, stays: Mapping[TopicPartition, Stay]) -> None:
        self._pauses = Pauses(consumer)
        self._hold = hold
        self._stays = stays
        self._full = False

    def read_up_to(self, stay: Stay, wake_ms: int, now_ms: int) -> None:
        """Note when the last record that was read of a partition moves on."""
        if wake_ms > now_ms + FAR_MS:
            stay.rest_until_ms = wake_ms - LEAD_MS

    def adjust(self, now_ms: int) -> None:
        """Pause and resume as is needed now."""
        load = self._hold.load
        self._full = load >= 1 or (self._full and load > LOW)
        wanted = {where for where, stay in self._stays.items() if self._full or stay.rest_until_ms > now_ms}
        self._pauses.only(wanted)

    def forget(self, where: TopicPartition) -> None:
        """Let go of a partition that is no longer ours."""
        self._pauses.forget(where)

    def next_ms(self) -> int | None:
        """When the next partition is to be read again."""
        if self._full:
            return None  # whatever moves on makes room
        return min((self._stays[where].rest_until_ms for where in self._pauses), default=None)
