"""The first page of a spool file: without it SQLite finds nothing; but every spool's is alike."""

from __future__ import annotations

import sqlite3
import struct
from pathlib import Path

from recado.gateway.spool.store import Store
from recado.gateway.spool.wal import PAGE_BYTES

__all__ = ["mend"]

#: Of the header only what differs from file to file: change counter, size in pages, free pages.
_COUNTS = struct.Struct(">4I")


def mend(flat: Path) -> None:
    """Make a copy readable whose head is damaged, or which is shorter than its head says. It needs no log then."""
    fresh = flat.with_suffix(".head")
    try:
        Store(fresh).close()
        head = bytearray(fresh.read_bytes()[:PAGE_BYTES])
    finally:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{fresh}{suffix}").unlink(missing_ok=True)
    # No log, and the true size; a list of free pages is nothing that reading needs.
    head[18:20] = b"\x01\x01"
    pages = max(1, -(-flat.stat().st_size // PAGE_BYTES))
    head[24:40] = _COUNTS.pack(1, pages, 0, 0)
    head[92:96] = struct.pack(">I", 1)
    with flat.open("r+b") as file:
        file.write(head[:100])
        file.truncate(pages * PAGE_BYTES)
    if not _finds_rows(flat):
        with flat.open("r+b") as file:
            file.write(head)


def _finds_rows(flat: Path) -> bool:
    db = sqlite3.connect(f"{flat.absolute().as_uri()}?immutable=1", uri=True)
    try:
        db.execute("SELECT seq, crc, body, kept_ms, state, reason FROM records LIMIT 0")
    except (sqlite3.Error, UnicodeDecodeError):
        return False
    finally:
        db.close()
    return True
