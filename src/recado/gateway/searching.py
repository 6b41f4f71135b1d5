"""Searches that requests ask for: a few at once, and none for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from recado.gateway.problem import Problem

__all__ = ["AT_ONCE", "Turns", "in_time"]

#: Searches that may go on at once: each has connections and memory of its own.
AT_ONCE = 4

#: How long a search waits for its turn, in seconds.
TURN_S = 2.0


class Turns:
    """Lets a few search at once. Thread-safe."""

    def __init__(self) -> None:
        self._free = threading.BoundedSemaphore(AT_ONCE)

    @contextmanager
    def one(self) -> Iterator[None]:
        """Hold one while you search. Blocks for ``TURN_S`` at most. Raises Problem (429) where none is free."""
        if not self._free.acquire(timeout=TURN_S):
            raise Problem(429, "backpressure", "Too much in flight", "Other searches are under way; ask again soon.")
        try:
            yield
        finally:
            self._free.release()


def in_time(seconds: float, what: str, remedy: str) -> Callable[[int, int], None]:
    """What a search of ``what`` tells its progress to; it raises Problem (504) with a remedy after so many seconds."""
    deadline = time.monotonic() + seconds

    def progress(read: int, total: int) -> None:
        if time.monotonic() > deadline:
            detail = f"{read:,} of {total:,} {what} were read in {seconds:.0f} s: {remedy}."
            raise Problem(504, "search-too-long", "The search took too long", detail)

    return progress
