"""Reads what can still be read of a damaged spool file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from recado.gateway.spool.head import mend
from recado.gateway.spool.row import Saved, decoded
from recado.gateway.spool.store import Damaged
from recado.gateway.spool.wal import flatten

__all__ = ["is_damage", "saved_rows"]

#: What reading a damaged file raises; SQLite's message may be made of the damage.
_ERRORS = (sqlite3.Error, UnicodeDecodeError)

#: No row's number is as high.
END = 1 << 62

_QUERY = "SELECT seq, crc, body, kept_ms, state, reason FROM records WHERE seq >= ? ORDER BY seq"


def is_damage(error: Exception) -> bool:
    """Tell whether an error says that the file is not what was written."""
    code = getattr(error, "sqlite_errorcode", 0)
    return isinstance(error, Damaged | UnicodeDecodeError) or code & 0xFF in (
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
    )


def saved_rows(path: Path) -> Iterator[Saved]:
    """Every row whose checksum fits, in row order; what cannot be read is stepped over.

    One bad page costs the rows of that page. Reads a copy, which is removed: the file stays as it is.
    """
    flat = path.with_suffix(".flat")
    try:
        flatten(path, Path(f"{path}-wal"), flat)
        mend(flat)
        db = sqlite3.connect(f"{flat.absolute().as_uri()}?immutable=1", uri=True, isolation_level=None)
        db.text_factory = _text
        try:
            yield from _rows(db)
        finally:
            db.close()
    finally:
        flat.unlink(missing_ok=True)


def _rows(db: sqlite3.Connection) -> Iterator[Saved]:
    start: int | None = 0
    query = _QUERY
    while start is not None:
        before = start
        try:
            for seq, crc, body, kept_ms, state, reason in db.execute(query, (start,)):
                if seq < start:
                    raise Damaged("row numbers go back")
                start = seq + 1
                record = decoded(crc, body)
                if record is not None:
                    yield record, _whole(kept_ms), int(state == 1), reason if isinstance(reason, str) else ""
        except _ERRORS:
            # The row before a bad page is lost with the error, so that one is asked for alone.
            query = _QUERY + " LIMIT 1"
            if before == start:
                start = _beyond(db, start)
            continue
        if query == _QUERY or before == start:
            return
        query = _QUERY


def _beyond(db: sqlite3.Connection, bad: int) -> int | None:
    """The first row number after ``bad`` from which rows can be read again; None where there is none.

    Jumps that double find a good place, halving finds the first: a hundred looks at most.
    """
    step = 1
    while not _is_readable(db, bad + step):
        bad += step
        step *= 2
        if bad + step > END:
            return None
    good = bad + step
    while good - bad > 1:
        middle = (good + bad) // 2
        if _is_readable(db, middle):
            good = middle
        else:
            bad = middle
    return good


def _is_readable(db: sqlite3.Connection, start: int) -> bool:
    try:
        found = db.execute(f"{_QUERY} LIMIT 1", (start,)).fetchone()
    except _ERRORS:
        return False
    return found is None or found[0] >= start


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0
