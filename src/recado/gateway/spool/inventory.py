"""What lies in the spools of a folder, for a person: it may be looked at while gateways use them."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from recado.errors import SpoolFailed
from recado.gateway.spool.folder import Folder
from recado.gateway.spool.ranges import ranges
from recado.gateway.spool.row import REFUSED, ROW_BYTES, Row
from recado.gateway.spool.store import Store
from recado.gateway.spool.wal import is_cut

__all__ = ["File", "Found", "damaged_files", "discard", "files", "find", "refused_rows"]


class File(NamedTuple):
    """One spool file: rows and bytes that wait, the oldest one's time (0: none), rows that Kafka refused."""

    path: Path
    in_use: bool
    waiting: int
    size_bytes: int
    oldest_ms: int
    refused: int
    #: Why it cannot be read, or "".
    trouble: str


class Found(NamedTuple):
    """One record, and where it lies."""

    number: int
    path: Path
    in_use: bool
    row: Row


def files(folder: Folder) -> list[File]:
    """Every spool file that a gateway uses or will take over."""
    return [_file(folder, number) for number in folder.numbers() if folder.file(number).exists()]


def damaged_files(folder: Folder) -> list[Path]:
    """Files that were set aside because they were damaged."""
    return sorted([*folder.directory.glob("spool-*.damaged-*.db"), *folder.set_aside()])


def find(folder: Folder, id_: str) -> list[Found]:
    """Every record with an id: after a kill there may be two. Raises SpoolFailed."""
    return [found for found in _rows(folder, refused_only=False) if found.row.record.id == id_]


def refused_rows(folder: Folder) -> Iterator[Found]:
    """Every record that Kafka refused."""
    return _rows(folder, refused_only=True)


def discard(folder: Folder, found: Found) -> bool:
    """Remove a record from its file; False where it is not there any more.

    Raises SpoolFailed where it waits for Kafka and a gateway is at it.
    """
    lock = folder.lock(found.number)
    try:
        if lock is None and found.row.state != REFUSED:
            raise SpoolFailed(f"{found.row.record.id} waits for Kafka, and a running gateway forwards it.")
        if lock is not None and is_cut(Path(f"{found.path}-wal")):
            raise SpoolFailed(f"{found.path} is damaged; start a gateway, which saves what can be read of it.")
        store = Store(found.path)
        try:
            with store.transaction():
                there = [row for row in store.rows(number=found.row.seq) if isinstance(row, Row)]
                is_same = [(row.record.id, row.state) for row in there] == [(found.row.record.id, found.row.state)]
                if is_same:
                    store.strike(ranges([found.row.seq]))
            return is_same
        finally:
            store.close()
    except sqlite3.Error as error:
        raise SpoolFailed(f"{found.path}: {error}") from error
    finally:
        if lock is not None:
            os.close(lock)


def _in_use(folder: Folder, number: int) -> bool:
    lock = folder.lock(number)
    if lock is not None:
        os.close(lock)
    return lock is None


def _file(folder: Folder, number: int) -> File:
    path, in_use = folder.file(number), _in_use(folder, number)
    try:
        store = Store(path, read_only=True)
        try:
            extents, (refused, _) = store.extents(), store.refused()
        finally:
            store.close()
    except sqlite3.Error as error:
        return File(path, in_use, 0, 0, 0, 0, str(error))
    size_bytes = sum(extent.size_bytes + ROW_BYTES * extent.rows for extent in extents)
    oldest_ms = min((extent.oldest_ms for extent in extents), default=0)
    return File(path, in_use, sum(extent.rows for extent in extents), size_bytes, oldest_ms, refused, "")


def _rows(folder: Folder, *, refused_only: bool) -> Iterator[Found]:
    for number in folder.numbers():
        path = folder.file(number)
        if not path.exists():
            continue
        in_use = _in_use(folder, number)
        try:
            store = Store(path, read_only=True)
            try:
                for row in store.rows(refused_only=refused_only):
                    if isinstance(row, Row):
                        yield Found(number, path, in_use, row)
            finally:
                store.close()
        except sqlite3.Error as error:
            raise SpoolFailed(f"{path}: {error}. A gateway that starts saves what can be read of it.") from error
