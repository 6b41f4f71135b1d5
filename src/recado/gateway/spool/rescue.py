"""Reads what can still be read of a damaged spool file."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from recado.record import Outgoing

__all__ = ["Saved", "is_damage", "saved_rows"]

#: (record, accepted at in ms since the epoch, state, reason)
Saved = tuple[Outgoing, int, int, str]

#: A stretch that cannot be read is stepped over by jumps that double, up to this many row numbers.
MAX_STEP = 1 << 44

#: Rows read at a time.
READ_ROWS = 500

_decode = msgspec.msgpack.Decoder(Outgoing).decode


def is_damage(error: sqlite3.Error) -> bool:
    """Tell whether an error says that the file is not what was written."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def saved_rows(path: Path) -> Iterator[Saved]:
    """Every row whose checksum fits, in row order.

    Where a page cannot be read it tries again further on, each time twice as far, so that one bad page costs the rows
    of that page.
    """
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    try:
        after, step = 0, 1
        while step <= MAX_STEP:
            try:
                rows = db.execute(
                    "SELECT seq, crc, body, kept_ms, state, reason FROM records WHERE seq > ? ORDER BY seq LIMIT ?",
                    (after, READ_ROWS if step == 1 else 1),
                ).fetchall()
            except sqlite3.Error:
                step, after = step * 2, after + step
                continue
            if not rows:
                return
            step = 1
            for seq, crc, body, kept_ms, state, reason in rows:
                after = seq
                record = _checked(crc, body)
                if record is not None:
                    yield record, kept_ms, state, reason or ""
    finally:
        db.close()


def _checked(crc: int, body: bytes) -> Outgoing | None:
    try:
        return _decode(body) if zlib.crc32(body) == crc else None
    except (TypeError, msgspec.DecodeError):
        return None
