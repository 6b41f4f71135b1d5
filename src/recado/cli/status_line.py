"""One line on a terminal's stderr that is written over again and again: how far a long job is."""

from __future__ import annotations

import shutil
import sys
import time

__all__ = ["StatusLine"]

#: Rest between two changes of the line, in seconds: a person reads no faster.
REST_S = 0.2

_CLEAR = "\r\x1b[2K"


class StatusLine:
    """Shows progress where stderr is a terminal, and nothing elsewhere. ``with StatusLine(1) as line: …``.

    ``after_s`` keeps it quiet at first: a job that is soon over needs none. Call ``clear`` before printing
    anything else; leaving the ``with`` clears it, too.
    """

    def __init__(self, after_s: float = 0) -> None:
        self._visible = False
        self._next_at = time.monotonic() + after_s if sys.stderr.isatty() else float("inf")

    def __enter__(self) -> StatusLine:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def show(self, text: str) -> None:
        """Show ``text`` now, unless the last change was a moment ago."""
        if time.monotonic() < self._next_at:
            return
        self._next_at = time.monotonic() + REST_S
        self._visible = True
        self._write(_CLEAR + text[: shutil.get_terminal_size().columns - 1])

    def clear(self) -> None:
        """Take the line away, so that other output may come."""
        if self._visible:
            self._visible = False
            self._write(_CLEAR)

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
