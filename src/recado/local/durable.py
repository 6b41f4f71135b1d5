"""SQLite as the stores use it: what is committed outlives a kill, all of a transaction or nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["BUSY_S", "make_durable", "outlive_kills", "transaction"]

#: Longest wait for another process that is at the file, in seconds.
BUSY_S = 5.0


def make_durable(db: sqlite3.Connection) -> None:
    """Sync every commit: what it holds survives a kill, and a cut of the power, too."""
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")


def outlive_kills(db: sqlite3.Connection) -> None:
    """Let the system write commits to the disk in its time: they survive a kill, but perhaps not a cut of the power."""
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=NORMAL")


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
