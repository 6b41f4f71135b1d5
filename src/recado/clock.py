"""The wall clock, in the unit that Kafka's timestamps have, and a deadline that may come nearer."""

from __future__ import annotations

import time

__all__ = ["Deadline", "wall_clock_ms"]


def wall_clock_ms() -> int:
    """Milliseconds since the epoch, by this machine."""
    return time.time_ns() // 1_000_000


class Deadline:
    """A moment by which something shall end. Any thread may ask, and bring it nearer."""

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    def left_s(self) -> float:
        """Seconds until then; 0 when it is over."""
        return max(0.0, self._at - time.monotonic())

    def shorten(self, seconds: float) -> None:
        """Let it be no later than so many seconds from now."""
        self._at = min(self._at, time.monotonic() + seconds)
