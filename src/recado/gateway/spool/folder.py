"""The folder of spools: one file per gateway process, owned by a lock; what a dead process left is taken over."""

from __future__ import annotations

import fcntl
import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import structlog

from recado.errors import SpoolFailed
from recado.gateway.spool.damage import DAMAGED, finish_rescues, put_away, set_aside
from recado.gateway.spool.rescue import is_damage
from recado.gateway.spool.reserve import Reserve
from recado.gateway.spool.row import Row, Saved
from recado.gateway.spool.store import Damaged, Store
from recado.gateway.spool.wal import is_cut

__all__ = ["Folder", "Owned"]

log = structlog.get_logger(__name__)

#: More gateway processes than this do not share a folder.
MAX_SPOOLS = 256

#: ``spool-3.db`` is the third process's file; ``spool-3.damaged-….db`` was its, and what it held is not yet taken out.
_FILE = re.compile(rf"spool-(\d+)(?:\.{DAMAGED}-\d+)?\.db")


class Owned:
    """A spool file that this process owns until ``release``."""

    def __init__(self, store: Store, lock: int) -> None:
        self.store = store
        self._lock = lock

    def release(self) -> None:
        """Let the next process have it."""
        os.close(self._lock)


class Folder:
    """``directory`` holds the spools of every gateway process that was started on this data folder."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def take(self) -> Owned:
        """Own the first spool that nobody owns, with what it holds, and move the rows of other orphans into it.

        Raises SpoolFailed where the folder cannot be used.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            # A folder that a cut of the power takes away takes its files along.
            for folder in (self.directory, *list(self.directory.absolute().parents)[:2]):
                _sync(folder)
            for number in range(1, MAX_SPOOLS + 1):
                lock = self.lock(number)
                if lock is not None:
                    return self._owned(number, lock)
        except (OSError, sqlite3.Error) as error:
            raise SpoolFailed(f"The spool in {self.directory} cannot be used: {error}.") from error
        raise SpoolFailed(f"{MAX_SPOOLS} gateways share {self.directory}; give each its own RECADO_DATA_DIR.")

    def file(self, number: int) -> Path:
        """The spool of a number."""
        return self.directory / f"spool-{number}.db"

    def numbers(self) -> list[int]:
        """Of which numbers something is here."""
        found = (_FILE.fullmatch(path.name) for path in self.directory.glob("spool-*.db"))
        return sorted({int(match[1]) for match in found if match is not None})

    def set_aside(self) -> list[Path]:
        """Damaged files, oldest first: all that could be read of them went on."""
        return sorted(self.directory.glob("spool-*.aside-*.db"))

    def lock(self, number: int) -> int | None:
        """Own a number until this descriptor is closed; None while another process does."""
        descriptor = os.open(self.directory / f"spool-{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _owned(self, number: int, lock: int) -> Owned:
        store: Store | None = None
        try:
            Reserve(self.file(number)).spend()  # opening takes some room, too
            store = self._opened(number)
            self._adopt(store, own=number)
            store.reserve.fill()
        except BaseException:
            if store is not None:
                store.close()
            os.close(lock)
            raise
        return Owned(store, lock)

    def _opened(self, number: int) -> Store:
        """The store of a number that is locked, whole; what could be read of a damaged one is in it."""
        path = self.file(number)
        store = None
        try:
            if is_cut(Path(f"{path}-wal")):
                raise Damaged("its log is damaged in its middle")
            _require_no_log(path)
            store = Store(path)
            store.check()
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            # Closed before anything is moved: SQLite removes the log of a closed file by its name.
            if store is not None:
                store.close()
            if not is_damage(error):
                raise
            set_aside(path, error)
            store = Store(path)
        finish_rescues(path, store)
        return store

    def _adopt(self, store: Store, *, own: int) -> None:
        for number in self.numbers():
            lock = self.lock(number) if number != own else None
            if lock is None:
                continue  # its gateway lives
            try:
                self._take_over(store, number)
            except (OSError, sqlite3.Error, SpoolFailed) as error:
                # It stays for the next start; what this gateway takes in itself must not wait for it.
                log.error("spool of a dead gateway left", path=str(self.file(number)), error=str(error))
            finally:
                os.close(lock)

    def _take_over(self, store: Store, number: int) -> None:
        path = self.file(number)
        orphan = self._opened(number)
        lost: list[int] = []
        try:
            copied = store.append(_sound(orphan, lost))
        finally:
            orphan.close()
        if lost:
            aside = put_away(path)
            log.error("records damaged on disk", records=len(lost), kept=str(aside))
        # The log goes last: SQLite removes one whose file is gone, but would read a file without its log.
        for suffix in ("", "-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        orphan.reserve.spend()
        if copied:
            log.info("spool of a dead gateway taken over", records=copied, path=str(path))


def _require_no_log(path: Path) -> None:
    """Raise Damaged where an empty file, or none, has a log with something in it: SQLite would remove that."""
    if not _size(path) and _size(Path(f"{path}-wal")):
        raise Damaged("it is empty, but its log is not")


def _sound(store: Store, lost: list[int]) -> Iterator[Saved]:
    for row in store.rows():
        if isinstance(row, Row):
            yield row.record, row.kept_ms, row.state, row.reason
        else:
            lost.append(row.seq)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
