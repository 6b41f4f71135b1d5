"""The file of answers: which keys were used, with what content, and what became of their records."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from recado.gateway.durable import BUSY_S, make_durable, transaction
from recado.gateway.idempotency.keys import Key
from recado.gateway.idempotency.owners import Owner
from recado.kafka.delivery import ACCEPTED, Fate

__all__ = ["Answers", "Conflict", "InFlight"]

#: An answer is given again for so long (contract), in milliseconds.
KEEP_MS = 24 * 3600 * 1000

#: A key in flight longer than any request can be was left behind, whatever its process does now.
MAX_FLIGHT_MS = 310_000

_TABLE = """
CREATE TABLE IF NOT EXISTS answers(name TEXT PRIMARY KEY, digest BLOB NOT NULL, at_ms INTEGER NOT NULL,
    owner TEXT NOT NULL, fates BLOB) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS oldest ON answers(at_ms);
"""

#: (partition, offset, timestamp in ms), or [] for a record that was accepted.
_fates = msgspec.msgpack.Decoder(list[list[int]])


class Conflict(Exception):
    """The key was used with another content."""

    def __init__(self, key: Key) -> None:
        super().__init__(key.name)
        self.key = key


class InFlight(Conflict):
    """The key is being used at this moment."""


class Answers:
    """Every call but ``transaction`` belongs inside one, and may raise ``sqlite3.Error``. Not thread-safe."""

    def __init__(self, directory: Path) -> None:
        self._owner = Owner(directory)
        path = directory / "answers.db"
        self._db = sqlite3.connect(path, isolation_level=None, timeout=BUSY_S, check_same_thread=False)
        make_durable(self._db)
        self._db.executescript(_TABLE)

    def transaction(self) -> AbstractContextManager[None]:
        """All that is done inside becomes durable together at the end, or nothing of it."""
        return transaction(self._db)

    def reserve(self, keys: Sequence[Key], now_ms: int) -> dict[int, Fate]:
        """Take the keys for this process; return what is known of their records, by index.

        Raises Conflict or InFlight, and then none is taken.
        """
        known: dict[int, Fate] = {}
        taken: list[Key] = []
        for key in keys:
            row = self._db.execute(
                "SELECT digest, at_ms, owner, fates FROM answers WHERE name = ?", (key.name,)
            ).fetchone()
            if row is not None and row[1] + KEEP_MS > now_ms:
                digest, at_ms, owner, fates = row
                if digest != key.digest:
                    raise Conflict(key)
                if fates is not None:
                    found = [tuple(fate) if fate else ACCEPTED for fate in _fates.decode(fates)]
                    known.update(zip(key.indices, found, strict=True))  # type: ignore[arg-type]  # three integers
                    continue
                if at_ms + MAX_FLIGHT_MS > now_ms and self._owner.is_alive(owner):
                    raise InFlight(key)
            taken.append(key)
        self._db.executemany(
            "INSERT OR REPLACE INTO answers(name, digest, at_ms, owner) VALUES(?, ?, ?, ?)",
            [(key.name, key.digest, now_ms, self._owner.token) for key in taken],
        )
        return known

    def store(self, key: Key, fates: Sequence[Fate | None]) -> None:
        """Remember what became of a key's records."""
        encoded = msgspec.msgpack.encode([list(fate) if isinstance(fate, tuple) else [] for fate in fates])
        self._db.execute("UPDATE answers SET fates = ? WHERE name = ?", (encoded, key.name))

    def release(self, key: Key) -> None:
        """Nothing was accepted under the key: it may be used again."""
        self._db.execute("DELETE FROM answers WHERE name = ? AND fates IS NULL", (key.name,))

    def forget_old(self, now_ms: int) -> None:
        """Drop what nobody is promised any more."""
        self._db.execute("DELETE FROM answers WHERE at_ms < ?", (now_ms - KEEP_MS,))

    def close(self) -> None:
        """Close the file."""
        self._db.close()
        self._owner.release()

    def leave(self) -> None:
        """Let go of the lock in a fork's copy, and touch nothing else."""
        self._owner.release(inherited=True)
