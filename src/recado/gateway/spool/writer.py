"""The one thread that writes the spool file: whatever waits goes into one commit."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Protocol

import msgspec
import structlog

from recado.errors import RecadoError, SpoolFailed, SpoolFull
from recado.gateway.spool.keeping import Keeping
from recado.gateway.spool.ranges import ranges
from recado.gateway.spool.row import encoded
from recado.gateway.spool.store import Store
from recado.record import Outgoing

__all__ = ["Listener", "Writer"]

log = structlog.get_logger(__name__)

#: Strike-outs alone wait so long for company, in seconds: losing one costs a duplicate at a kill, never a record.
STRIKE_S = 0.02

#: Most records in one commit, so that none of them waits long.
COMMIT_RECORDS = 5_000

#: Rest after a commit that failed, in seconds.
RETRY_S = 0.25

#: So often it looks whether a person has dealt with what was refused, in seconds.
LOOK_S = 1.0


class Listener(Protocol):
    """What the writer tells, each on its own thread, after the commit."""

    def on_kept(self, keeping: Keeping, kept_ms: int) -> None: ...
    def on_struck(self, rows: list[int]) -> None: ...
    def on_failed(self, keeping: Keeping, error: RecadoError) -> None: ...
    def on_trouble(self, error: sqlite3.Error | None) -> None: ...
    def on_changed(self) -> None: ...

    refused: int


class Writer:
    """Takes records to keep and rows to strike out, from any thread."""

    def __init__(self, store: Store, listener: Listener, *, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._listener = listener
        self._now_ms = now_ms
        self._queue: SimpleQueue[Keeping | None] = SimpleQueue()
        self._struck: deque[int] = deque()
        #: Somebody has woken the writer for strike-outs, and it has not taken them yet.
        self._is_called = False
        #: Why the last commit failed: whether the disk can be written again must be tried.
        self._error: sqlite3.Error | None = None
        self._changes = store.changes()
        self._refused: deque[tuple[int, str]] = deque()
        self._next: dict[int, int] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recado-spool", daemon=True)
        self._thread.start()

    def keep(self, keeping: Keeping) -> None:
        """Write the records down; the keeping is told."""
        self._queue.put(keeping)

    def strike(self, rows: Sequence[int]) -> None:
        """These rows are in Kafka."""
        self._struck.extend(rows)
        if not self._is_called:  # once for many; two threads that meet here wake it twice, never not at all
            self._is_called = True
            self._queue.put(None)

    def refuse(self, row: int, why: str) -> None:
        """Kafka refused the row for good: set it aside."""
        self._refused.append((row, why))
        self._queue.put(None)

    def close(self) -> None:
        """Write what waits, then stop."""
        self._closing.set()
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            keepings = self._gather()
            closing = self._closing.is_set()
            if self._commit(keepings):
                if closing and self._queue.empty() and not self._struck and not self._refused:
                    return
            elif closing:
                return
            elif not keepings:
                time.sleep(RETRY_S)

    def _gather(self) -> list[Keeping]:
        """What goes into the next commit; waits until there is something."""
        first = self._next_or_none()
        if first is None and not self._closing.is_set():
            try:
                first = self._queue.get(timeout=STRIKE_S)
            except Empty:
                return []
        keepings, records = [], 0
        while True:
            if first is not None and first.claim():
                keepings.append(first)
                records += len(first.indices)
            if records >= COMMIT_RECORDS:
                return keepings
            try:
                first = self._queue.get_nowait()
            except Empty:
                return keepings

    def _next_or_none(self) -> Keeping | None:
        while True:
            try:
                return self._queue.get(timeout=LOOK_S if self._listener.refused else None)
            except Empty:
                self._look()

    def _look(self) -> None:
        """Notice what a person has done to the file."""
        try:
            changes = self._store.changes()
            if changes != self._changes:
                self._listener.on_changed()
                self._changes = changes
        except sqlite3.Error as error:  # the next commit will say so
            log.info("spool not looked at", path=str(self._store.path), error=str(error))

    def _commit(self, keepings: list[Keeping]) -> bool:
        # After a failure first what makes room: the reserve is not for what comes in.
        if self._error is not None and keepings and not self._commit([]):
            self._fail(keepings, self._error)
            return False
        self._is_called = False
        struck = [self._struck.popleft() for _ in range(len(self._struck))]
        refused = [self._refused.popleft() for _ in range(len(self._refused))]
        kept_ms = self._now_ms()
        numbers = dict(self._next)
        try:
            with self._store.transaction():
                self._store.strike(ranges(struck))
                self._store.refuse(refused)
                for keeping in keepings:
                    self._write(keeping, kept_ms)
                if self._error is not None:
                    self._store.touch()
        except sqlite3.Error as error:
            self._next = numbers
            self._error = error
            if _is_full(error):
                self._store.reserve.spend()
            self._struck.extendleft(reversed(struck))
            self._refused.extendleft(reversed(refused))
            self._fail(keepings, error)
            self._queue.put(None)
            return False
        if self._error is not None:
            self._recovered()
        self._listener.on_trouble(None)
        if struck or refused:
            self._listener.on_struck(struck + [row for row, _ in refused])
        for keeping in keepings:
            self._listener.on_kept(keeping, kept_ms)
        return True

    def _recovered(self) -> None:
        self._error = None
        try:
            self._store.tidy()
        except (OSError, sqlite3.Error) as error:  # the next commit will say so, if it matters
            log.info("spool not tidied", path=str(self._store.path), error=str(error))

    def _write(self, keeping: Keeping, kept_ms: int) -> None:
        records = keeping.delivery.records
        rows = []
        for index in keeping.indices:
            record = records[index]
            rows.append((self._number(record.topic), encoded(stamped(record, kept_ms))))
        self._store.add(rows, kept_ms)
        keeping.rows = [row for row, _ in rows]

    def _number(self, topic: str) -> int:
        number = self._store.topic_number(topic)
        row = self._next.get(number)
        if row is None:
            row = self._store.highest(number) + 1
        self._next[number] = row + 1
        return row

    def _fail(self, keepings: list[Keeping], error: sqlite3.Error) -> None:
        self._listener.on_trouble(error)
        if _is_full(error):
            failure: RecadoError = SpoolFull("The disk of the spool is full, so nothing was accepted.")
        else:
            failure = SpoolFailed(f"The spool cannot be written ({error}), so nothing was accepted.")
        for keeping in keepings:
            self._listener.on_failed(keeping, failure)


def _is_full(error: sqlite3.Error) -> bool:
    # What the sqlite3 module raises by itself has no code.
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL


def stamped(record: Outgoing, now_ms: int) -> Outgoing:
    """The record with the time at which it was accepted, unless its sender said another."""
    if record.timestamp_ms:
        return record
    return msgspec.structs.replace(record, timestamp_ms=now_ms)
