"""The wall clock, in the unit that Kafka's timestamps have."""

from __future__ import annotations

import time

__all__ = ["wall_clock_ms"]


def wall_clock_ms() -> int:
    """Milliseconds since the epoch, by this machine."""
    return time.time_ns() // 1_000_000
