"""How much memory all requests under way may take together: beyond it 429, before memory grows."""

from __future__ import annotations

import threading
from typing import Self

from recado.errors import Backpressure

__all__ = ["RECORD_BYTES", "Budget", "Holding"]

#: What one record takes beyond its own bytes while its request is under way: record, headers, fate, report.
RECORD_BYTES = 600


class Budget:
    """Bytes held by requests, from the first byte of a body to the answer. Thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        #: Bytes held now.
        self.held_bytes = 0

    def check(self, size_bytes: int) -> None:
        """Raise Backpressure if so much more would be too much."""
        if self.held_bytes + size_bytes > self._max_bytes:
            held = f"Requests under way hold {self.held_bytes} of RECADO_MAX_IN_FLIGHT_BYTES={self._max_bytes} bytes"
            raise Backpressure(
                f"{held}, and this one would add {size_bytes}. Nothing was accepted; send it again soon."
            )

    def hold(self, size_bytes: int) -> None:
        """Take so much more, or raise Backpressure and take nothing."""
        with self._lock:
            self.check(size_bytes)
            self.held_bytes += size_bytes

    def release(self, size_bytes: int) -> None:
        """Give it back."""
        with self._lock:
            self.held_bytes -= size_bytes

    def holding(self) -> Holding:
        """One request's part, nothing yet."""
        return Holding(self)


class Holding:
    """What one request holds. Use it as a context, which gives all back. Not thread-safe."""

    __slots__ = ("_budget", "_size_bytes")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._size_bytes = 0

    def grow(self, size_bytes: int) -> None:
        """Hold so much from now on, or raise Backpressure."""
        self._budget.hold(size_bytes - self._size_bytes)
        self._size_bytes = size_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._budget.release(self._size_bytes)
