"""Values that users give for numbers: what they are, and how a wrong one is shown (pure)."""

from __future__ import annotations

import math
from typing import TypeGuard

__all__ = ["is_number", "is_whole", "shown"]


def is_whole(value: object) -> TypeGuard[int]:
    """Whether this is a whole number; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """Whether this is a finite number that a float can hold."""
    if is_whole(value):
        return abs(value) < 10**300
    return isinstance(value, float) and math.isfinite(value)


def shown(value: object) -> str:
    """A wrong value in an error: some cannot be shown (an int of 5,000 digits), or are too long."""
    try:
        text = repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 60 else f"{text[:57]}…"
