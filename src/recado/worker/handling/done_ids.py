"""The ids that a group has done: an embedded store, a file per group that its processes on this machine share."""

from __future__ import annotations

import hashlib
import re
import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from recado.local.durable import BUSY_S, outlive_kills, transaction
from recado.local.owners import Owner

__all__ = ["Claim", "DoneIds", "Verdict"]

#: A process that lives and has not renewed its claims for so long is stopped or hangs, in seconds: others go on.
LEASE_S = 30.0

#: Rows that one look for old ones deletes at most, and the rest between two looks, in seconds.
PURGE_ROWS = 10_000
PURGE_EVERY_S = 10.0

_TABLES = """
CREATE TABLE IF NOT EXISTS ids(topic TEXT, id TEXT, owner TEXT, place TEXT NOT NULL, at REAL NOT NULL,
    PRIMARY KEY(topic, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS oldest ON ids(at) WHERE owner IS NULL;
CREATE TABLE IF NOT EXISTS owners(owner TEXT PRIMARY KEY, renewed REAL NOT NULL) WITHOUT ROWID;
"""

#: ``owner`` NULL: it is done.
_CLAIM = """
INSERT INTO ids(topic, id, owner, place, at) VALUES(?, ?, ?, ?, ?)
ON CONFLICT(topic, id) DO UPDATE SET owner = excluded.owner, place = excluded.place, at = excluded.at
"""


class Verdict(Enum):
    """What became of a claim."""

    #: The record is the caller's to handle.
    MINE = "mine"
    #: A record with this id was done within the window.
    DONE = "done"
    #: Another one with this id is being handled: ask again.
    BUSY = "busy"


class Claim(NamedTuple):
    """A record's id within its topic, and where the record stands."""

    topic: str
    id: str
    place: str


class DoneIds:
    """Claims ids before their records are handled, and remembers those that are done. Thread-safe.

    Every method may raise ``sqlite3.Error`` (the disk is full, the file cannot be written). A claim ends with ``done``
    or ``release``, with the process that made it, or when that has not called ``renew`` for ``LEASE_S``.
    """

    def __init__(self, folder: Path, group: str) -> None:
        self._owner = Owner(folder / "owners")
        name = re.sub(r"[^a-zA-Z0-9._-]", "_", group)
        tail = "" if name == group else "-" + hashlib.blake2b(group.encode(), digest_size=4).hexdigest()
        self.path = folder / f"{name}{tail}.sqlite"
        self._db = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        self._lock = threading.Lock()
        outlive_kills(self._db)
        self._db.executescript(_TABLES)
        self._purge_at = 0.0
        self._closed = False
        self.renew()

    def claim(self, claims: Sequence[Claim], window_s: float) -> list[Verdict]:
        """Claim several ids at once; a verdict for each, in their order."""
        now = time.time()
        with self._lock, transaction(self._db):
            return [self._claim(claim, now, now - window_s) for claim in claims]

    def done(self, claims: Iterable[Claim]) -> None:
        """Remember that the records of these ids are done."""
        now = time.time()
        with self._lock, transaction(self._db):
            self._db.executemany(_CLAIM, [(claim.topic, claim.id, None, claim.place, now) for claim in claims])

    def release(self, claims: Iterable[Claim]) -> None:
        """Give up claims whose records are not done: whoever gets them next may handle them."""
        mine = self._owner.token
        with self._lock, transaction(self._db):
            self._db.executemany(
                "DELETE FROM ids WHERE topic = ? AND id = ? AND owner = ?",
                [(claim.topic, claim.id, mine) for claim in claims],
            )

    def renew(self) -> None:
        """Keep this process's claims for another ``LEASE_S``."""
        with self._lock, transaction(self._db):
            self._db.execute("INSERT OR REPLACE INTO owners VALUES(?, ?)", (self._owner.token, time.time()))

    def purge(self, window_s: float) -> None:
        """Forget some of what was done before the window, and owners that are no more; now and then."""
        if time.monotonic() < self._purge_at:
            return
        self._purge_at = time.monotonic() + PURGE_EVERY_S
        old = time.time() - window_s
        with self._lock, transaction(self._db):
            self._db.execute(
                "DELETE FROM ids WHERE (topic, id) IN"
                " (SELECT topic, id FROM ids WHERE owner IS NULL AND at < ? ORDER BY at LIMIT ?)",
                (old, PURGE_ROWS),
            )
            self._db.execute("DELETE FROM owners WHERE renewed < ?", (time.time() - 100 * LEASE_S,))

    def close(self) -> None:
        """End; what is still claimed is free at once. Idempotent."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._db.close()
                self._owner.release()

    def _claim(self, claim: Claim, now: float, since: float) -> Verdict:
        row = self._db.execute(
            "SELECT owner, place, at FROM ids WHERE topic = ? AND id = ?", (claim.topic, claim.id)
        ).fetchone()
        if row is not None:
            owner, place, at = row
            if owner is None and at >= since:
                return Verdict.DONE
            if owner == self._owner.token and place == claim.place:
                return Verdict.MINE
            if owner is not None and self._holds(owner, now):
                return Verdict.BUSY
        self._db.execute(_CLAIM, (claim.topic, claim.id, self._owner.token, claim.place, now))
        return Verdict.MINE

    def _holds(self, owner: str, now: float) -> bool:
        if owner == self._owner.token:
            return True
        row = self._db.execute("SELECT renewed FROM owners WHERE owner = ?", (owner,)).fetchone()
        return row is not None and now - row[0] < LEASE_S and self._owner.is_alive(owner)
