"""A request to stop, and a second one to hurry."""

from __future__ import annotations

__all__ = ["StopRequest"]


class StopRequest:
    """Set by a signal handler, read by the loop: plain attributes, because a lock in a signal handler can hang."""

    def __init__(self) -> None:
        self.requested = False
        self.hurried = False
        #: Whether a signal asked: then the program is to end, not only the worker.
        self.by_signal = False

    def request(self) -> None:
        """Ask to stop; asked again, ask not to wait for handlers any more."""
        self.hurried = self.requested
        self.requested = True
