"""The file of answers: which keys were used, with what content, and what became of their records."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from recado.gateway.idempotency.kept import LAYOUT, Kept, decoded, encoded
from recado.gateway.idempotency.keys import Key
from recado.gateway.spool.store import Damaged
from recado.local.durable import BUSY_S, make_durable, transaction
from recado.local.owners import Owner

__all__ = ["Answers", "Conflict", "Gone", "InFlight"]

#: An answer is given again for so long (contract), in milliseconds.
KEEP_MS = 24 * 3600 * 1000

#: A key in flight longer than any request can be was left behind, whatever its process does now.
MAX_FLIGHT_MS = 310_000

_TABLE = """
CREATE TABLE IF NOT EXISTS answers(name TEXT PRIMARY KEY, digest BLOB NOT NULL, at_ms INTEGER NOT NULL,
    owner TEXT NOT NULL, fates BLOB) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS oldest ON answers(at_ms);
"""

#: Rows that were there before this column did not tell delayed records from others.
_LAYOUT_COLUMN = "ALTER TABLE answers ADD COLUMN layout INTEGER NOT NULL DEFAULT 1"

#: Its row may be gone with an earlier file.
_STORE = """
INSERT INTO answers(name, digest, at_ms, owner, fates, layout) VALUES(?, ?, ?, ?, ?, ?)
ON CONFLICT(name) DO UPDATE SET fates = excluded.fates, layout = excluded.layout WHERE digest = excluded.digest
"""


class Conflict(Exception):
    """The key was used with another content."""

    def __init__(self, key: Key) -> None:
        super().__init__(key.name)
        self.key = key


class InFlight(Conflict):
    """The key is being used at this moment."""


class Gone(sqlite3.OperationalError):
    """Somebody removed or replaced the file: what is written to it now is kept nowhere."""


class Answers:
    """Every call but ``transaction`` belongs inside one, and may raise ``sqlite3.Error``. Not thread-safe."""

    def __init__(self, path: Path, owner: Owner) -> None:
        self.path = path
        self._owner = owner
        self._db = sqlite3.connect(path, isolation_level=None, timeout=BUSY_S, check_same_thread=False)
        try:
            self._open()
        except BaseException:
            self._db.close()
            raise

    def _open(self) -> None:
        make_durable(self._db)
        self._db.executescript(_TABLE)
        if "layout" not in [column[1] for column in self._db.execute("PRAGMA table_info(answers)")]:
            self._db.execute(_LAYOUT_COLUMN)
        self._log = Path(f"{self.path}-wal")
        self._inodes = [(path, _inode(path)) for path in (self.path, self._log)]

    def check(self) -> None:
        """Raise Damaged, or what SQLite says, where the file is not whole. Reads all of it."""
        (found,) = self._db.execute("PRAGMA integrity_check(1)").fetchone()
        if found != "ok":
            raise Damaged(f"{self.path}: {found}")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is done inside becomes durable together at the end, or nothing of it. Raises Gone."""
        with transaction(self._db):
            yield
            for path, inode in self._inodes:
                if _inode(path) != inode:
                    raise Gone(f"{path} was removed or replaced")

    def reserve(self, keys: Sequence[Key], now_ms: int) -> dict[int, Kept]:
        """Take the keys for this process; return what is known of their records, by index.

        Raises Conflict or InFlight, and then none is taken.
        """
        known: dict[int, Kept] = {}
        taken: list[Key] = []
        for key in keys:
            kept = self.find(key, now_ms)
            if kept is None:
                taken.append(key)
            else:
                known.update(zip(key.indices, kept, strict=True))
        self._db.executemany(
            "INSERT OR REPLACE INTO answers(name, digest, at_ms, owner, layout) VALUES(?, ?, ?, ?, ?)",
            [(key.name, key.digest, now_ms, self._owner.token, LAYOUT) for key in taken],
        )
        return known

    def find(self, key: Key, now_ms: int) -> list[Kept] | None:
        """What became of a key's records; None where it may be used. Outside a transaction, too.

        Raises Conflict or InFlight.
        """
        query = "SELECT digest, at_ms, owner, fates, layout FROM answers WHERE name = ?"
        row = self._db.execute(query, (key.name,)).fetchone()
        if row is None or row[1] + KEEP_MS <= now_ms:
            return None
        digest, at_ms, owner, fates, layout = row
        if not _is_same(key.digest, digest, layout):
            raise Conflict(key)
        if fates is not None:
            return decoded(fates, layout, len(key.indices))
        if at_ms + MAX_FLIGHT_MS > now_ms and self._owner.is_alive(owner):
            raise InFlight(key)
        return None

    def store(self, key: Key, kept: Sequence[Kept], now_ms: int) -> None:
        """Remember what became of a key's records."""
        self._db.execute(_STORE, (key.name, key.digest, now_ms, self._owner.token, encoded(kept), LAYOUT))

    def release(self, key: Key) -> None:
        """Nothing was accepted under the key: it may be used again."""
        query = "DELETE FROM answers WHERE name = ? AND owner = ? AND fates IS NULL"
        self._db.execute(query, (key.name, self._owner.token))

    def forget_old(self, now_ms: int) -> None:
        """Drop what nobody is promised any more."""
        self._db.execute("DELETE FROM answers WHERE at_ms < ?", (now_ms - KEEP_MS,))

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def remove_log(self) -> None:
        """After ``close``: a log whose file was replaced would be read into the new one."""
        (path, inode), (log, log_inode) = self._inodes
        if _inode(path) != inode and _inode(log) == log_inode:
            log.unlink(missing_ok=True)
            Path(f"{path}-shm").unlink(missing_ok=True)


def _is_same(digest: bytes, earlier: bytes, layout: int) -> bool:
    """Compare two digests; one of layout 1 lacks what stands behind the content, the delay."""
    return digest == earlier or (layout < LAYOUT and digest.startswith(earlier))


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
