"""Looks into a write-ahead log by itself: SQLite drops, without a word, all that stands behind a damaged frame.

https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["PAGE_BYTES", "flatten", "is_cut"]

#: SQLite's page size, as every spool has it.
PAGE_BYTES = 4096

_HEADER = struct.Struct(">8I")
_FRAME = struct.Struct(">6I")
_MAGIC = (0x377F0682, 0x377F0683)


class _Frame(NamedTuple):
    page: int
    #: The database's size in pages where the frame ends a commit, else 0.
    commit: int
    content: bytes
    #: Whether SQLite would read it: its checksum fits, and those of all before it.
    is_valid: bool


def is_cut(wal: Path) -> bool:
    """Tell whether frames of the log stand behind the place where SQLite would stop: it was damaged in its middle.

    A torn end is what a cut of the power leaves; that is none. Blocks for about a second per 10 MB.
    """
    has_stopped = False
    for frame in _frames(wal):
        if has_stopped and frame.page:
            return True
        has_stopped = has_stopped or not frame.is_valid
    return False


def flatten(database: Path, wal: Path, into: Path) -> None:
    """Write the database as it is with every commit of its log, also those behind a damaged frame."""
    shutil.copyfile(database, into)
    last = pages = 0
    for number, frame in enumerate(_frames(wal), 1):
        last = number if frame.commit else last
        pages = max(pages, frame.commit if frame.is_valid else 0)
    # A damaged frame may name any page.
    pages = max(pages, last + database.stat().st_size // PAGE_BYTES)
    with into.open("r+b") as file:
        for number, frame in enumerate(_frames(wal), 1):
            if number > last:
                break
            if 0 < frame.page <= pages:
                file.seek((frame.page - 1) * PAGE_BYTES)
                file.write(frame.content)


def _frames(wal: Path) -> Iterator[_Frame]:
    """The frames of the log's last generation, in order; where one is not, but SQLite would read on, one of page 0."""
    if not wal.exists():
        return
    with wal.open("rb") as file:
        head = file.read(_HEADER.size).ljust(_HEADER.size, b"\0")
        magic, _, page_size, _, *salts, first, second = _HEADER.unpack(head)
        order = ">" if magic & 1 else "<"
        sums = _checksum(head[:24], (0, 0), order)
        is_valid = magic in _MAGIC and page_size == PAGE_BYTES and sums == (first, second)
        if not is_valid:
            yield _Frame(0, 0, b"", False)
            salts = []
        while len(frame := file.read(_FRAME.size + PAGE_BYTES)) == _FRAME.size + PAGE_BYTES:
            page, commit, *own, first, second = _FRAME.unpack_from(frame)
            salts = salts or own
            is_ours = own == salts
            if is_valid:
                sums = _checksum(frame[_FRAME.size :], _checksum(frame[:8], sums, order), order)
                is_valid = is_ours and sums == (first, second)
            yield _Frame(page if is_ours else 0, commit if is_ours else 0, frame[_FRAME.size :], is_valid)


def _checksum(content: bytes, sums: tuple[int, int], order: str) -> tuple[int, int]:
    first, second = sums
    words = iter(struct.unpack(f"{order}{len(content) // 4}I", content))
    for even, odd in zip(words, words, strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second
