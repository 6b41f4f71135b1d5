"""The wall clock, in the unit that Kafka's timestamps have, its date, and a deadline that may come nearer."""

from __future__ import annotations

import time
from datetime import UTC, datetime

__all__ = ["Deadline", "date_of", "wall_clock_ms"]


def wall_clock_ms() -> int:
    """Milliseconds since the epoch, by this machine."""
    return time.time_ns() // 1_000_000


def date_of(at_ms: int) -> datetime | None:
    """The date and time of milliseconds since the epoch, in UTC; None beyond the calendar (the year 9999)."""
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None


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
