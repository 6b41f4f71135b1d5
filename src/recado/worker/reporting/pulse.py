"""Whether the loop still runs, and what is said where it does not: by C code, which needs no interpreter."""

from __future__ import annotations

import faulthandler
import sys
import threading
import time
from typing import TextIO

__all__ = ["Pulse"]

#: The loop ticks a few times a second. When it has not for so long, in seconds, somebody holds the interpreter (a
#: handler in C code that does not let go of the lock) and the stacks of all threads are written to stderr.
SILENCE_S = 10.0

#: After so long the worker is not live any more, in seconds: whoever restarts programs may restart this one.
DEATH_S = 60.0

#: The watch is wound up so often, in seconds.
WIND_S = 1.0


class Pulse:
    """Ticked by the loop's thread. Any thread may ask ``why_dead``.

    Only one worker of a process has the watch that writes stacks; Python has no more than one.
    """

    _watched = threading.Lock()

    def __init__(self) -> None:
        self._ticked_at = time.monotonic()
        self._wind_at = 0.0
        self._is_watching = False

    def start(self) -> None:
        """Begin to watch, where stderr is something that C code can write to."""
        self._is_watching = _has_descriptor(sys.stderr) and Pulse._watched.acquire(blocking=False)
        self.tick()

    def tick(self) -> None:
        """The loop runs."""
        now = self._ticked_at = time.monotonic()
        if self._is_watching and now >= self._wind_at:
            self._wind_at = now + WIND_S
            faulthandler.dump_traceback_later(SILENCE_S, repeat=False, file=sys.stderr, exit=False)

    def stop(self) -> None:
        """Watch no more; a worker that has ended is not dead."""
        if self._is_watching:
            faulthandler.cancel_dump_traceback_later()
            self._is_watching = False
            Pulse._watched.release()
        self._ticked_at = float("inf")

    def why_dead(self) -> str:
        """Why the worker is not live any more, or ""."""
        silent_s = time.monotonic() - self._ticked_at
        return f"The loop has not run for {silent_s:.0f} s." if silent_s > DEATH_S else ""


def _has_descriptor(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.fileno() >= 0
    except (OSError, ValueError):  # a test's stand-in
        return False
