"""SQLite as both stores of the gateway use it: every commit synced to the disk, all of a transaction or nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["BUSY_S", "make_durable", "transaction"]

#: Longest wait for another process that is at the file, in seconds.
BUSY_S = 5.0


def make_durable(db: sqlite3.Connection) -> None:
    """Sync every commit: what it holds survives a kill, and a cut of the power, too."""
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All that is written inside becomes durable together at the end, or nothing of it."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
