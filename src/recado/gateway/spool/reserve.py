"""Room on the disk that is kept free for getting rid of rows: a full spool must be able to empty."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["Reserve"]

#: Enough for strike-outs, and for carrying SQLite's log (4 MB before it is carried) into the file.
SIZE_BYTES = 8 * 1024 * 1024


class Reserve:
    """A file that only takes room, beside a spool file."""

    def __init__(self, spool: Path) -> None:
        self._path = spool.with_suffix(".reserve")

    def fill(self) -> None:
        """Take the room, where the disk has three times as much."""
        folder = os.statvfs(self._path.parent)
        if self._path.exists() or folder.f_bavail * folder.f_frsize < 3 * SIZE_BYTES:
            return
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, SIZE_BYTES)
            finally:
                os.close(descriptor)
        except OSError:  # it goes without, as far as it goes
            self.spend()

    def spend(self) -> None:
        """Give the room to whoever needs it now."""
        self._path.unlink(missing_ok=True)
