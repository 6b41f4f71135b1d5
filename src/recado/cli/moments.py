"""Times as a person reads them: ISO 8601 in UTC."""

from __future__ import annotations

from typing import Literal

from recado.clock import date_of

__all__ = ["exact_moment", "moment"]


def moment(at_ms: int | None) -> str:
    """Milliseconds since the epoch, to the second; empty where there is none."""
    return _shown(at_ms, "seconds")


def exact_moment(at_ms: int | None) -> str:
    """The same to the millisecond."""
    return _shown(at_ms, "milliseconds")


def _shown(at_ms: int | None, timespec: Literal["seconds", "milliseconds"]) -> str:
    if at_ms is None or at_ms <= 0:
        return ""
    at = date_of(at_ms)
    return f"{at_ms} ms" if at is None else at.isoformat(timespec=timespec).replace("+00:00", "Z")
