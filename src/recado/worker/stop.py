"""A request to stop, and a second one to hurry."""

from __future__ import annotations

import time

__all__ = ["StopRequest"]


class StopRequest:
    """Set by a signal handler, read by the loop: plain attributes, because a lock in a signal handler can hang."""

    def __init__(self) -> None:
        self.requested = False
        self.hurried = False
        #: When it was asked first, in monotonic seconds.
        self.requested_at = 0.0
        #: Whether a signal asked: then the program is to end, not only the worker.
        self.by_signal = False

    def request(self) -> None:
        """Ask to stop; asked again, ask not to wait for handlers any more."""
        if self.requested:
            self.hurried = True
            return
        self.requested_at = time.monotonic()
        self.requested = True

    def is_over(self, drain_s: float) -> bool:
        """Whether who was asked to stop, and may take so long, waits for no handler any more."""
        return self.hurried or (self.requested and time.monotonic() >= self.requested_at + drain_s)
