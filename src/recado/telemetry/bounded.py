"""Label values that come from outside, such as errors: the first so many by their name, the rest together."""

from __future__ import annotations

__all__ = ["OTHER", "Bounded"]

#: What every further value is called.
OTHER = "other"

#: Longest value, in characters.
MAX_CHARS = 120


class Bounded:
    """Keeps a label from growing without an end: each value is a time series for as long as the process runs.

    Thread-safe enough: two threads at once may let one or two more in.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def label(self, value: str) -> str:
        """The value, shortened, or ``other`` when there are too many already."""
        value = value[:MAX_CHARS]
        if value in self._known:
            return value
        if len(self._known) >= self._limit:
            return OTHER
        self._known.add(value)
        return value
