"""The folder of the file of answers: opens it for one process at a time, and sets a damaged one aside."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from recado.gateway.idempotency.store import Answers
from recado.gateway.spool.damage import put_away
from recado.gateway.spool.rescue import is_damage
from recado.local.owners import Owner

__all__ = ["Folder"]

log = structlog.get_logger(__name__)


class Folder:
    """``directory`` holds the answers of every gateway process on it. Every call may raise sqlite3.Error or OSError.

    Not thread-safe.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.path = directory / "answers.db"
        # Kept while the file is opened anew: what this process has in flight stays its own.
        self._owner: Owner | None = None

    def open(self, left: Answers | None = None, *, is_suspect: bool = False) -> Answers:
        """Open the file, or a new one in place of one that is damaged.

        ``left`` is the one that this process had open before; ``is_suspect``: read all of it to find damage.
        """
        owner = self._seen_owner()
        with self._locked():
            if left is not None:
                left.remove_log()
            try:
                return self._opened(owner, is_suspect=is_suspect)
            except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
                if not is_damage(error):
                    raise
                self._set_aside(error)
            return Answers(self.path, owner)

    def release(self, *, inherited: bool = False) -> None:
        """End; ``inherited``: this is a fork's copy, and the process goes on."""
        if self._owner is not None:
            self._owner.release(inherited=inherited)
            self._owner = None

    def _seen_owner(self) -> Owner:
        earlier = self._owner
        if earlier is None or not earlier.is_seen():
            self._owner = Owner(self._directory)
            if earlier is not None:
                earlier.release()
        assert self._owner is not None
        return self._owner

    def _opened(self, owner: Owner, *, is_suspect: bool) -> Answers:
        answers = Answers(self.path, owner)
        if is_suspect:
            try:
                answers.check()
            except BaseException:
                answers.close()
                raise
        return answers

    def _set_aside(self, error: Exception) -> None:
        aside = put_away(self.path)
        Path(f"{self.path}-shm").unlink(missing_ok=True)
        then = "a new file was begun; requests from before may be sent twice"
        log.error("idempotency keys damaged", path=str(self.path), error=str(error), set_aside=str(aside), then=then)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time: of two that find damage the second must not set the new file aside."""
        lock = os.open(self._directory / "answers.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            # Said, not left to closing: a fork may have a copy of the descriptor.
            fcntl.flock(lock, fcntl.LOCK_UN)
            os.close(lock)
