"""What a handler raises on purpose: signals, not failures, so they are logged without a traceback."""

from __future__ import annotations

from recado.done_rows import AlreadyDone
from recado.outcomes.backoff import MAX_DELAY_S, is_delay
from recado.outcomes.values import shown

__all__ = ["AlreadyDone", "Reject", "Retry"]


class Retry(Exception):
    """Try this record again after ``delay_s`` seconds (without: as the Backoff says). It counts as an attempt."""

    #: Also of a subclass whose constructor does not call this one.
    delay_s: float | None = None

    def __init__(self, reason: str = "", *, delay_s: float | None = None) -> None:
        if delay_s is not None and not is_delay(delay_s):
            raise ValueError(f"Retry(delay_s={shown(delay_s)}): it must be from 0 to {MAX_DELAY_S:,} seconds.")
        super().__init__(reason or "the handler asked for another attempt")
        self.delay_s = delay_s


class Reject(Exception):
    """The record can never succeed: no further attempt."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason or "the handler rejected the record")
