"""The folder of spools: one file per gateway process, owned by a lock; what a dead process left is taken over."""

from __future__ import annotations

import fcntl
import itertools
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import structlog

from recado.errors import SpoolFailed
from recado.gateway.spool.rescue import Saved, is_damage, saved_rows
from recado.gateway.spool.store import WAITING, Row, Store, encoded

__all__ = ["Folder", "Owned", "spool_files"]

log = structlog.get_logger(__name__)

#: More gateway processes than this do not share a folder.
MAX_SPOOLS = 256

#: Rows that are copied in one commit when an orphan is taken over.
COPY_ROWS = 5_000


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
        self._directory = directory

    def take(self) -> Owned:
        """Own the first spool that nobody owns, with what it holds, and move the rows of other orphans into it.

        Raises SpoolFailed where the folder cannot be used.
        """
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            for number in range(1, MAX_SPOOLS + 1):
                lock = self._lock(number)
                if lock is not None:
                    store = self._opened(self._file(number))
                    self._adopt(store, after=number)
                    return Owned(store, lock)
        except (OSError, sqlite3.Error) as error:
            raise SpoolFailed(f"The spool in {self._directory} cannot be used: {error}.") from error
        raise SpoolFailed(f"{MAX_SPOOLS} gateways share {self._directory}; give each its own RECADO_DATA_DIR.")

    def _file(self, number: int) -> Path:
        return self._directory / f"spool-{number}.db"

    def _lock(self, number: int) -> int | None:
        descriptor = os.open(self._directory / f"spool-{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def _opened(self, path: Path) -> Store:
        try:
            store = Store(path)
            store.extents()  # reads every page
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            return self._rescued(path, error)
        return store

    def _rescued(self, path: Path, error: sqlite3.Error) -> Store:
        """Set a damaged file aside and start anew with what could be read of it."""
        aside = path.with_name(f"{path.stem}.damaged-{time.time_ns() // 1_000_000}.db")
        for suffix in ("", "-wal"):
            old = Path(f"{path}{suffix}")
            if old.exists():
                old.rename(f"{aside}{suffix}")
        Path(f"{path}-shm").unlink(missing_ok=True)
        store = Store(path)
        try:
            copied = _copy(saved_rows(aside), store)
        except sqlite3.Error:
            copied = 0  # not even its tables can be found
        log.error("spool damaged", path=str(path), error=str(error), records_saved=copied, set_aside=str(aside))
        return store

    def _adopt(self, store: Store, *, after: int) -> None:
        for path in sorted(self._directory.glob("spool-*.db")):
            number = path.stem.removeprefix("spool-")
            if not number.isdigit() or int(number) <= after:
                continue
            lock = self._lock(int(number))
            if lock is None:
                continue  # its gateway lives
            orphan = self._opened(path)
            copied = _copy(_sound(orphan), store)
            orphan.close()
            for suffix in ("", "-wal", "-shm"):
                Path(f"{path}{suffix}").unlink(missing_ok=True)
            os.close(lock)
            if copied:
                log.info("spool of a dead gateway taken over", records=copied, path=str(path))


def _sound(store: Store) -> Iterator[Saved]:
    for row in store.rows():
        if isinstance(row, Row):
            yield row.record, row.kept_ms, row.state, row.reason
        else:
            log.error("record damaged on disk", path=str(store.path), row=row.seq)


def _copy(rows: Iterator[Saved], store: Store) -> int:
    """Append rows, a few thousand in each commit; return how many."""
    copied = 0
    while batch := list(itertools.islice(rows, COPY_ROWS)):
        with store.transaction():
            for record, kept_ms, state, reason in batch:
                number = store.topic_number(record.topic)
                row = store.highest(number) + 1
                store.add([(row, encoded(record))], kept_ms)
                if state != WAITING:
                    store.refuse([(row, reason)])
        copied += len(batch)
    return copied


def spool_files(directory: Path) -> list[Path]:
    """Every spool file in a folder, set-aside ones too."""
    return sorted(directory.glob("spool-*.db"))
