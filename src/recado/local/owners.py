"""Which process took something: a lock file per process tells whether it still lives, whatever its number is."""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path

__all__ = ["Owner"]


class Owner:
    """One process among those that share a folder.

    A process number would not do instead: in a container it is the same after every start.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self.token = secrets.token_hex(8)
        self._lock = os.open(self._path(self.token), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        except BaseException:
            self.release()
            raise

    def is_alive(self, token: str) -> bool:
        """Tell whether the process of this token runs."""
        if token == self.token:
            return True
        try:
            lock = os.open(self._path(token), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        self._path(token).unlink(missing_ok=True)
        return False

    def is_seen(self) -> bool:
        """Tell whether others find the lock file of this process."""
        return self._path(self.token).exists()

    def release(self, *, inherited: bool = False) -> None:
        """End; ``inherited``: this is a fork's copy, and the process goes on."""
        if not inherited:
            self._path(self.token).unlink(missing_ok=True)
        os.close(self._lock)

    def _path(self, token: str) -> Path:
        return self._directory / f"{token}.alive"
