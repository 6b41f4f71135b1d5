"""Many row numbers as few ranges (pure)."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["ranges"]


def ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """The numbers as (first, last), neighbours joined."""
    found: list[tuple[int, int]] = []
    first = last = None
    for number in sorted(numbers):
        if last is not None and number <= last + 1:
            last = number
            continue
        if first is not None and last is not None:
            found.append((first, last))
        first = last = number
    if first is not None and last is not None:
        found.append((first, last))
    return found
