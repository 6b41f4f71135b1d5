"""Sends what the spool holds to Kafka, each topic in its order, and tells the spool what became of each row."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from recado.clock import wall_clock_ms
from recado.errors import DeliveryFailed, DeliveryUnknown, NotAllowed, RecadoError, RecordTooLarge, UnknownTopic
from recado.gateway.spool.line import Line
from recado.gateway.spool.row import Row, Unreadable
from recado.gateway.spool.store import Store
from recado.kafka.abstract import Producer
from recado.kafka.delivery import Delivery, Position
from recado.outcomes.delay import renew
from recado.record import Outgoing

__all__ = ["FINAL", "Forwarder", "Listener"]

log = structlog.get_logger(__name__)

#: Rows of one topic that may wait for their reports at once: enough to fill batches, little to send again.
WINDOW_ROWS = 20_000

#: Bytes of records that may wait for their reports, all topics together: the forwarder's share of the memory.
WINDOW_BYTES = 32 * 1024 * 1024

#: Rows read from the disk at a time.
READ_ROWS = 1_000

#: Rest between two looks at whether there is something to do, in seconds; new rows wake it at once.
LOOK_S = 0.05

#: A topic that is gone or forbidden is tried again so often, in seconds; so is a file that cannot be read.
HOLD_S = 5.0

#: After any other failure a topic rests so long, in seconds: whatever fails at once must not be tried in a circle.
REST_S = 0.25

#: What Kafka says for good: it looked at the record and will never take it. All else may be over tomorrow.
FINAL = (RecordTooLarge, DeliveryFailed)

#: Good reports of a backlog that the spool is told of at once: one lock for many. Smaller batches are told row by row.
TELL_ROWS = 200

#: What a small record takes here and in librdkafka's queue beyond its own bytes, as measured.
RECORD_BYTES = 1_200

#: Bytes of records read from the disk at a time, about.
READ_BYTES = 4 * 1024 * 1024


class Listener(Protocol):
    """What the forwarder asks of the spool, and tells it. The lines themselves are guarded by ``lock``."""

    lock: threading.RLock

    def lines(self) -> list[Line]: ...
    def close_if_over(self, line: Line) -> None: ...
    def is_awaited(self) -> bool: ...
    def on_delivered(self, line: Line, rows: Sequence[tuple[int, Position]]) -> None: ...
    def on_error(self, line: Line, row: int, error: RecadoError) -> None: ...
    def on_unreadable(self, line: Line, row: int) -> None: ...


class _Sent(Delivery):
    """A batch of rows on its way; the spool is told of each."""

    __slots__ = ("_done", "_forwarder", "_left", "line", "rows", "weights")

    def __init__(self, forwarder: Forwarder, line: Line, rows: Sequence[Row], weights: Sequence[int]) -> None:
        now_ms = wall_clock_ms()
        # A delayed record goes to where it belongs by now.
        super().__init__([renew(row.record, now_ms) for row in rows], _nothing)
        self._forwarder = forwarder
        self.line = line
        self.rows = [row.seq for row in rows]
        self.weights = weights
        self._left = len(rows)
        self._done: list[tuple[int, Position]] = []

    def settle(self, index: int, fate: Position | RecadoError) -> None:
        """Tell the spool of one row, or of many good ones at once while nobody waits for them."""
        self._left -= 1
        if isinstance(fate, tuple):
            self._done.append((index, fate))
            is_few = self._left and len(self._done) < TELL_ROWS < len(self.rows)
            if is_few and not self._forwarder.is_awaited():
                return
        if self._done:
            done, self._done = self._done, []
            rows = [(self.rows[each], position) for each, position in done]
            self._forwarder.delivered(self.line, rows, sum(self.weights[each] for each, _ in done))
        if not isinstance(fate, tuple):
            self._forwarder.failed(self.line, self.rows[index], self.weights[index], fate)


class Forwarder:
    """One thread that reads the spool, and a producer that is made when there is something to send."""

    def __init__(
        self, store: Store, spool: Listener, *, producer: Callable[[], Producer], is_reachable: Callable[[], bool]
    ) -> None:
        self._store = store
        self._spool = spool
        self._make = producer
        self._is_reachable = is_reachable
        self._producer: Producer | None = None
        #: The producer said that it does not know: it never should, so another one takes its place.
        self._is_doubtful = False
        self._bytes = 0
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="recado-forwarder", daemon=True)

    def start(self) -> None:
        """Forward what is there."""
        self._wake.set()
        self._thread.start()

    def wake(self) -> None:
        """There are new rows."""
        self._wake.set()

    def is_awaited(self) -> bool:
        """Tell whether requests wait for reports of rows."""
        return self._spool.is_awaited()

    def delivered(self, line: Line, rows: Sequence[tuple[int, Position]], size_bytes: int) -> None:
        """Good reports, on the producer's thread."""
        self._spool.on_delivered(line, rows)
        with self._spool.lock:
            self._bytes -= size_bytes
            line.held_why = ""
        self._go_on(line)

    def failed(self, line: Line, row: int, size_bytes: int, error: RecadoError) -> None:
        """A bad report, on the producer's thread."""
        self._spool.on_error(line, row, error)
        with self._spool.lock:
            self._bytes -= size_bytes
            if not isinstance(error, FINAL):
                self._hold(line, error)
        self._go_on(line)

    def _go_on(self, line: Line) -> None:
        if not line.in_flight or self._bytes < WINDOW_BYTES // 2:
            self._wake.set()

    def stop(self) -> None:
        """Send nothing more."""
        self._closing = True
        self._wake.set()
        self._thread.join()

    def sending(self) -> int:
        """How many records its producer waits for."""
        return self._producer.outstanding() if self._producer is not None else 0

    def close(self, timeout_s: float) -> None:
        """Stop, and wait for the reports of what was sent."""
        self.stop()
        if self._producer is not None:
            self._producer.close(timeout_s)
        self._store.close()

    def _hold(self, line: Line, why: RecadoError) -> None:
        if isinstance(why, DeliveryUnknown):
            self._is_doubtful = True
        if isinstance(why, UnknownTopic | NotAllowed):
            line.held_until, line.held_why = time.monotonic() + HOLD_S, str(why)
        else:
            line.held_until = max(line.held_until, time.monotonic() + REST_S)

    def _run(self) -> None:
        while not self._closing:
            lines = self._spool.lines()
            # With nothing to do it sleeps until woken; a line that is held, or waits for a report, is looked at again.
            self._wake.wait(LOOK_S if lines else None)
            self._wake.clear()
            now_ms = wall_clock_ms()
            for line in self._spool.lines():
                self._advance(line)
                with self._spool.lock:
                    line.look(now_ms)

    def _advance(self, line: Line) -> None:
        while not self._closing:
            with self._spool.lock:
                # While Kafka is away nothing is read: it would only wait in memory.
                held = line.held_until > time.monotonic() or not self._is_reachable()
                full = len(line.in_flight) >= WINDOW_ROWS or self._bytes >= WINDOW_BYTES
                if held or full or not line.unsent or not line.go_back():
                    return
                after = line.reading()
            try:
                goes_on = self._forward(line, after)
            finally:
                with self._spool.lock:
                    line.has_read()
                self._spool.close_if_over(line)
            if not goes_on:
                return

    def _forward(self, line: Line, after: int) -> bool:
        """Read on and send; True if more may follow."""
        producer = self._ready()
        if producer is None:
            return False
        try:
            rows = self._store.read(line.number, after, READ_ROWS, READ_BYTES)
        except sqlite3.Error as error:
            log.error("spool cannot be read", path=str(self._store.path), topic=line.topic, error=str(error))
            with self._spool.lock:
                line.held_until, line.held_why = time.monotonic() + HOLD_S, f"the spool cannot be read: {error}"
            return False
        return self._send(producer, line, rows)

    def _ready(self) -> Producer | None:
        """The producer; None while one must be made anew and that does not work, or the old one still has records."""
        if self._is_doubtful and self._producer is not None:
            if self._bytes > 0:
                return None
            log.warning("forwarding anew", why="a producer that never gives up did not know a record's fate")
            self._producer.close(0)
            self._producer = None
        self._is_doubtful = False
        if self._producer is None:
            try:
                self._producer = self._make()
            except RecadoError as error:
                log.error("spool cannot be forwarded", path=str(self._store.path), error=str(error))
                time.sleep(REST_S)
        return self._producer

    def _send(self, producer: Producer, line: Line, rows: Sequence[Row | Unreadable]) -> bool:
        """Give rows to Kafka up to the first that is under way already; True if more may follow."""
        sending: list[Row] = []
        unreadable: list[int] = []
        with self._spool.lock:
            up_to = line.cursor
            for row in rows:
                if not line.may_send(row.seq):
                    break
                up_to = row.seq
                if row.seq in line.settled:
                    continue
                if isinstance(row, Row):
                    sending.append(row)
                else:
                    unreadable.append(row.seq)
            line.sent([*(row.seq for row in sending), *unreadable], up_to=up_to)
            weights = [weight(row.record) for row in sending]
            self._bytes += sum(weights)
        for seq in unreadable:
            self._spool.on_unreadable(line, seq)
        if sending:
            producer.send(_Sent(self, line, sending, weights))
        return bool(rows) and up_to == rows[-1].seq


def weight(record: Outgoing) -> int:
    """About what a record takes in memory, in bytes."""
    headers = sum([len(name) + len(value or b"") + 100 for name, value in record.headers])
    return RECORD_BYTES + len(record.value or b"") + len(record.key or b"") + headers


def _nothing(delivery: Delivery) -> None: ...
