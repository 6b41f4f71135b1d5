"""Sends what the spool holds to Kafka, each topic in its order, and tells the spool what became of each row."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from recado.errors import DeliveryUnknown, NotAllowed, RecadoError, UnknownTopic
from recado.gateway.spool.line import Line
from recado.gateway.spool.store import Row, Store, Unreadable
from recado.kafka.abstract import Producer
from recado.kafka.delivery import Delivery, Position
from recado.outcomes.delay import renew
from recado.record import Outgoing

__all__ = ["Forwarder", "Lines"]

log = structlog.get_logger(__name__)

#: Rows of one topic that may wait for their reports at once: enough to fill batches, little to send again.
WINDOW_ROWS = 20_000

#: Bytes of records that may wait for their reports, all topics together: the forwarder's share of the memory.
WINDOW_BYTES = 32 * 1024 * 1024

#: Rows read from the disk at a time.
READ_ROWS = 1_000

#: Rest between two looks at whether there is something to do, in seconds; new rows wake it at once.
LOOK_S = 0.05

#: A topic that is gone or forbidden is tried again so often, in seconds.
HOLD_S = 5.0


class Lines(Protocol):
    """What the forwarder asks of the spool, and tells it. The lines themselves are guarded by ``lock``."""

    lock: threading.RLock

    def lines(self) -> list[Line]: ...
    def on_fate(self, line: Line, row: int, fate: Position | RecadoError) -> None: ...
    def on_unreadable(self, line: Line, row: int) -> None: ...


class _Sent(Delivery):
    """A batch of rows on its way; the spool is told of each."""

    __slots__ = ("_forwarder", "line", "rows")

    def __init__(self, forwarder: Forwarder, line: Line, rows: Sequence[Row]) -> None:
        now_ms = time.time_ns() // 1_000_000
        # A delayed record goes to where it belongs by now.
        super().__init__([renew(row.record, now_ms) for row in rows], _nothing)
        self._forwarder = forwarder
        self.line = line
        self.rows = [row.seq for row in rows]

    def settle(self, index: int, fate: Position | RecadoError) -> None:
        """Tell the spool of one row."""
        self._forwarder.settled(self.line, self.rows[index], self.records[index], fate)


class Forwarder:
    """One thread that reads the spool, and a producer that is made when there is something to send."""

    def __init__(self, store: Store, spool: Lines, *, producer: Callable[[], Producer]) -> None:
        self._store = store
        self._spool = spool
        self._make = producer
        self._producer: Producer | None = None
        self._bytes = 0
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="recado-forwarder", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There are new rows."""
        self._wake.set()

    def settled(self, line: Line, row: int, record: Outgoing, fate: Position | RecadoError) -> None:
        """One report, on the producer's thread."""
        with self._spool.lock:
            self._bytes -= weight(record)
            if isinstance(fate, UnknownTopic | NotAllowed | DeliveryUnknown):
                line.failed(row)
                if not isinstance(fate, DeliveryUnknown):
                    line.held_until, line.held_why = time.monotonic() + HOLD_S, str(fate)
        self._spool.on_fate(line, row, fate)
        if not line.in_flight or self._bytes < WINDOW_BYTES // 2:
            self._wake.set()

    def stop(self) -> None:
        """Send nothing more."""
        self._closing = True
        self._wake.set()
        self._thread.join()

    def close(self, timeout_s: float) -> None:
        """Stop, and wait for the reports of what was sent."""
        self.stop()
        if self._producer is not None:
            self._producer.close(timeout_s)

    def _run(self) -> None:
        while not self._closing:
            lines = self._spool.lines()
            # With nothing to do it sleeps until woken; a line that is held, or waits for a report, is looked at again.
            self._wake.wait(LOOK_S if lines else None)
            self._wake.clear()
            now_ms = time.time_ns() // 1_000_000
            for line in self._spool.lines():
                self._advance(line)
                with self._spool.lock:
                    line.look(now_ms)

    def _advance(self, line: Line) -> None:
        while not self._closing:
            with self._spool.lock:
                held = line.held_until > time.monotonic()
                full = len(line.in_flight) >= WINDOW_ROWS or self._bytes >= WINDOW_BYTES
                if held or full or not line.unsent or not line.go_back():
                    return
                cursor = line.cursor
            try:
                rows = self._store.read(line.number, cursor, READ_ROWS)
            except sqlite3.Error as error:
                log.error("spool cannot be read", path=str(self._store.path), error=str(error))
                time.sleep(HOLD_S)
                return
            if not self._send(line, rows):
                return

    def _send(self, line: Line, rows: Sequence[Row | Unreadable]) -> bool:
        """Give rows to Kafka up to the first that is under way already; True if more may follow."""
        sending: list[Row] = []
        up_to = line.cursor
        with self._spool.lock:
            for row in rows:
                if not line.may_send(row.seq):
                    break
                up_to = row.seq
                if row.seq in line.settled:
                    continue
                if isinstance(row, Row):
                    sending.append(row)
            line.sent([row.seq for row in sending], up_to=up_to)
            self._bytes += sum(weight(row.record) for row in sending)
        for row in rows:
            if isinstance(row, Unreadable) and row.seq <= up_to:
                self._spool.on_unreadable(line, row.seq)
        if sending:
            if self._producer is None:
                self._producer = self._make()
            self._producer.send(_Sent(self, line, sending))
        return bool(rows) and up_to == rows[-1].seq


def weight(record: Outgoing) -> int:
    """About what a record takes in memory, in bytes."""
    return 200 + len(record.value or b"") + len(record.key or b"")


def _nothing(delivery: Delivery) -> None: ...
