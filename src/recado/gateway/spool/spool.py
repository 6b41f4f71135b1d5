"""The spool of one gateway process: takes records in, forwards them in order, tells how far it is."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import structlog

from recado.errors import DeliveryUnknown, NotAllowed, RecadoError, SpoolFull, UnknownTopic
from recado.gateway.spool.forwarder import Forwarder
from recado.gateway.spool.keeping import Keeping
from recado.gateway.spool.line import Line
from recado.gateway.spool.store import ROW_BYTES, TOPIC_BITS, Store
from recado.gateway.spool.writer import Writer
from recado.kafka.abstract import Producer
from recado.kafka.delivery import Delivery, Position, Summary
from recado.record import Outgoing
from recado.telemetry import metrics

__all__ = ["Depth", "Mark", "Spool"]

log = structlog.get_logger(__name__)

#: A topic whose oldest row is older than this does not move: waiting for its turn would only cost the sender time.
STALL_MS = 1_000

#: So long after somebody asked for the spool, requests of that topic pass through it too, in seconds: behind a steady
#: stream of such records the topic's line is hardly ever empty.
ASKED_S = 1.0


class Depth(NamedTuple):
    """What the spool holds: rows waiting, their bytes, the oldest one's age in seconds, rows that were refused."""

    rows: int
    size_bytes: int
    oldest_s: float
    refused: int


class Mark(NamedTuple):
    """One moment of a line, for a flush: its last row, and how many it had finished and had left to do."""

    line: Line
    last: int
    done: int
    rows: int


class Spool:
    """Thread-safe. Nothing here blocks but ``close``."""

    def __init__(self, store: Store, *, max_bytes: int, producer: Callable[[], Producer]) -> None:
        self.path = store.path
        self.lock = threading.RLock()
        self._store = store
        self._max_bytes = max_bytes
        #: Records forwarded since this gateway started.
        self.forwarded = 0
        self._lines: dict[str, Line] = {}
        self._topic_of: dict[int, Line] = {}
        self._waiting: dict[int, tuple[Delivery, int]] = {}
        self._late: dict[Delivery, list[tuple[int, int]]] = {}
        self._bytes = 0.0
        self._refused = 0
        #: Why the spool cannot be written at this moment, or "".
        self.trouble = ""
        self._load()
        metrics.SPOOL_RECORDS.set_function(lambda: self.depth().rows)
        metrics.SPOOL_BYTES.set_function(lambda: self.depth().size_bytes)
        metrics.SPOOL_OLDEST.set_function(lambda: self.depth().oldest_s)
        metrics.SPOOL_REFUSED.set_function(lambda: self._refused)
        self._writer = Writer(store, self, now_ms=_now_ms)
        self._forwarder = Forwarder(Store(store.path, read_only=True), self, producer=producer)
        self._forwarder.wake()

    def _load(self) -> None:
        for extent in self._store.extents():
            line = self._line(extent.topic, extent.number, cursor=extent.lowest - 1)
            size_bytes = extent.size_bytes + ROW_BYTES * extent.rows
            line.added(range(extent.lowest, extent.lowest + extent.rows), size_bytes, extent.oldest_ms)
            line.last = extent.highest
            self._bytes += size_bytes
        self._refused = self._store.refused()
        if self._lines or self._refused:
            rows = sum(line.rows for line in self._lines.values())
            log.info("spool found", records=rows, refused=self._refused, path=str(self.path))

    # --- what requests ask -------------------------------------------------------------------------------------

    def has(self, topics: Iterable[str]) -> bool:
        """Tell whether records of one of these topics wait here: later ones must queue behind them."""
        lines = self._lines
        return bool(lines) and any(topic in lines and lines[topic].rows for topic in topics)

    def is_leaving(self, topics: Iterable[str]) -> bool:
        """Tell whether the last rows of these topics are with Kafka already, so that the way will soon be free."""
        with self.lock:
            lines = [self._lines[topic] for topic in topics if topic in self._lines]
            recently = time.monotonic() - ASKED_S
            return not any(line.unsent or line.held_why or line.asked_at > recently for line in lines)

    def is_stalled(self, topics: Iterable[str]) -> bool:
        """Tell whether a record of these topics would wait long for its turn."""
        lines = [line for topic in topics if (line := self._lines.get(topic)) is not None]
        return any(line.age_ms > STALL_MS for line in lines)

    def keep(
        self,
        delivery: Delivery,
        indices: Sequence[int],
        *,
        under_way: bool,
        asked: bool = False,
        on_end: Callable[[], None],
    ) -> Keeping:
        """Write down these records of a delivery; ``on_end`` tells when they are safe, or why they are not.

        ``under_way``: Kafka has been given them already. ``asked``: the sender wants no more than that. Otherwise the
        delivery's fates are filled in when Kafka has confirmed, until ``forget``.
        """
        records = delivery.records
        size_bytes = sum(_size(records[index]) for index in indices)
        keeping = Keeping(delivery, indices, under_way=under_way, asked=asked, size_bytes=size_bytes, on_end=on_end)
        with self.lock:
            held = self._bytes
            self._bytes += size_bytes
        if held + size_bytes > self._max_bytes:
            full = f"The spool holds {held:.0f} of RECADO_SPOOL_MAX_BYTES={self._max_bytes} bytes"
            self.on_failed(keeping, SpoolFull(f"{full}, so nothing was accepted. It empties once Kafka answers."))
        else:
            self._writer.keep(keeping)
        return keeping

    def withdraw(self, keeping: Keeping) -> bool:
        """Give up waiting for the disk; True if nothing was or will be written."""
        if not keeping.claim():
            return keeping.error is not None
        with self.lock:
            self._bytes -= keeping.size_bytes
        return True

    def forget(self, keeping: Keeping) -> None:
        """The request is answered now: nobody waits for these fates any more."""
        with self.lock:
            for row in keeping.rows:
                self._waiting.pop(row, None)

    def completed(self, delivery: Delivery) -> None:
        """All reports of a delivery that was given to Kafka have come; some of its records may stand here."""
        late = self._late.pop(delivery, None) if self._late else None
        if late is not None:
            self._resolve(delivery, late)

    # --- how far it is -----------------------------------------------------------------------------------------

    def depth(self) -> Depth:
        """What is in it now."""
        with self.lock:
            lines = list(self._lines.values())
            rows = sum(line.rows for line in lines)
            oldest = [moment for line in lines if (moment := line.oldest_ms()) is not None]
            age_s = max(0.0, (_now_ms() - min(oldest)) / 1000) if oldest else 0.0
            return Depth(rows, round(sum(line.size_bytes for line in lines)), age_s, self._refused)

    def mark(self) -> list[Mark]:
        """Remember what is in it now; ``pending`` tells how much of that is left."""
        with self.lock:
            return [Mark(line, line.last, line.done, line.rows) for line in self._lines.values()]

    def pending(self, marks: Iterable[Mark]) -> int:
        """How many of the rows of that moment are not in Kafka yet; those that it refused never will."""
        with self.lock:
            left = [max(1, mark.rows - (mark.line.done - mark.done)) for mark in marks if mark.line.is_open(mark.last)]
        return sum(left)

    @property
    def refused(self) -> int:
        """How many rows Kafka refused for good; they wait for a person."""
        return self._refused

    def holds(self, delivery: Delivery) -> bool:
        """Tell whether records of a delivery that is under way were written down."""
        return delivery in self._late

    def why_not(self) -> str:
        """Why nothing can be kept at this moment, or ""."""
        if self.trouble:
            return f"The spool cannot be written: {self.trouble}."
        if self._bytes >= self._max_bytes:
            return f"The spool is full: {self._bytes:.0f} of RECADO_SPOOL_MAX_BYTES={self._max_bytes} bytes."
        return ""

    def stop(self) -> None:
        """Send nothing more."""
        self._forwarder.stop()

    def close(self, timeout_s: float) -> int:
        """Stop forwarding, write down what was confirmed; return how many rows remain."""
        self._forwarder.close(timeout_s)
        self._writer.close()
        left = self.depth()
        try:
            self._store.shrink()
        except sqlite3.Error as error:  # a full disk, or somebody looks into it: it stays as it is
            log.info("spool not shrunk", path=str(self.path), error=str(error))
        self._store.close()
        return left.rows + left.refused

    # --- what the writer tells ---------------------------------------------------------------------------------

    def on_kept(self, keeping: Keeping, kept_ms: int) -> None:
        """These records are on the disk."""
        records = keeping.delivery.records
        pairs = list(zip(keeping.indices, keeping.rows, strict=True))
        size_bytes = keeping.size_bytes / len(pairs)
        with self.lock:
            for index, row in pairs:
                line = self._line(records[index].topic, row >> TOPIC_BITS, cursor=row - 1)
                line.added(range(row, row + 1), size_bytes, kept_ms, under_way=keeping.under_way)
                if keeping.asked:
                    line.asked_at = time.monotonic()
                elif not keeping.under_way:
                    self._waiting[row] = (keeping.delivery, index)
        metrics.SPOOL_KEPT.add((), len(pairs))
        if keeping.under_way:
            self._late[keeping.delivery] = pairs
            # The last report may have come before that line, or comes after it: either sees the other.
            if not keeping.delivery.outstanding:
                self.completed(keeping.delivery)
        keeping.is_kept = True
        keeping.on_end()
        self._forwarder.wake()

    def on_failed(self, keeping: Keeping, error: RecadoError) -> None:
        """Nothing was written of these."""
        with self.lock:
            self._bytes -= keeping.size_bytes
        keeping.fail(error)

    def on_struck(self, rows: list[int]) -> None:
        """These rows are gone from the disk."""
        with self.lock:
            for row in rows:
                line = self._topic_of.get(row >> TOPIC_BITS)
                if line is not None:
                    line.settled.discard(row)
                    if not line.rows and not line.settled:
                        self._close_line(line)

    def on_trouble(self, error: sqlite3.Error | None) -> None:
        """A commit failed, or (None) worked."""
        trouble = "" if error is None else str(error)
        if trouble and trouble != self.trouble:
            log.error("spool cannot be written", path=str(self.path), error=trouble)
        self.trouble = trouble

    # --- what the forwarder tells ------------------------------------------------------------------------------

    def lines(self) -> list[Line]:
        """The topics of which something waits."""
        with self.lock:
            return list(self._lines.values())

    def on_fate(self, line: Line, row: int, fate: Position | RecadoError) -> None:
        """A report for a row that the forwarder sent."""
        if isinstance(fate, UnknownTopic | NotAllowed | DeliveryUnknown):
            return  # it stays, and is sent again
        with self.lock:
            waiter = self._waiting.pop(row, None)
            # Under the lock, so that a request that is answered at this moment sees it or is told "accepted".
            if waiter is not None:
                waiter[0].settle(waiter[1], fate)
        if isinstance(fate, tuple):
            self.forwarded += 1
            metrics.SPOOL_FORWARDED.add((line.topic,))
        elif waiter is None:
            self._refuse(line, row, str(fate))
            return
        self._strike(line, row)

    def on_unreadable(self, line: Line, row: int) -> None:
        """A row whose checksum does not fit its bytes."""
        self._refuse(line, row, "damaged on disk: the checksum does not fit")

    # --- inside ------------------------------------------------------------------------------------------------

    def _resolve(self, delivery: Delivery, late: list[tuple[int, int]]) -> None:
        """All reports for records that were written down meanwhile: strike out, set aside, or send again."""
        for index, row in late:
            line = self._topic_of[row >> TOPIC_BITS]
            error = _error(delivery, index)
            if error is None:
                self._strike(line, row)
            elif isinstance(error, DeliveryUnknown | UnknownTopic | NotAllowed):
                with self.lock:
                    line.failed(row)
            else:
                self._refuse(line, row, str(error))
        self._forwarder.wake()

    def _strike(self, line: Line, row: int) -> None:
        if self._finish(line, row):
            self._writer.strike(row)

    def _refuse(self, line: Line, row: int, why: str) -> None:
        if self._finish(line, row):
            self._refused += 1
            log.error("record refused after it was accepted", topic=line.topic, row=row, error=why, kept="spool")
            self._writer.refuse(row, why)

    def _finish(self, line: Line, row: int) -> bool:
        with self.lock:
            size_bytes = line.finished(row)
            self._bytes -= size_bytes or 0.0
        return size_bytes is not None

    def _line(self, topic: str, number: int, *, cursor: int) -> Line:
        line = self._lines.get(topic)
        if line is None:
            line = self._lines[topic] = self._topic_of[number] = Line(topic, number, cursor=cursor)
        return line

    def _close_line(self, line: Line) -> None:
        self._lines.pop(line.topic, None)
        self._topic_of.pop(line.number, None)


def _error(delivery: Delivery, index: int) -> RecadoError | None:
    """None where Kafka has the record."""
    if isinstance(delivery, Summary):
        return delivery.failures.get(index)
    fate = delivery.fates[index]
    return fate if isinstance(fate, RecadoError) else None


def _size(record: Outgoing) -> int:
    return ROW_BYTES + len(record.topic) + len(record.value or b"") + len(record.key or b"") + 60


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
