"""The spool of one gateway process: takes records in, forwards them in order, tells how far it is."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence

import structlog

from recado.clock import wall_clock_ms
from recado.errors import RecadoError, SpoolFull
from recado.gateway.spool.forwarder import FINAL, Forwarder
from recado.gateway.spool.keeping import Keeping
from recado.gateway.spool.line import Line, Mark
from recado.gateway.spool.lines import Depth, Lines
from recado.gateway.spool.row import ROW_BYTES, TOPIC_BITS
from recado.gateway.spool.store import Store
from recado.gateway.spool.writer import Writer
from recado.kafka.abstract import Producer
from recado.kafka.delivery import Delivery, Position, Summary
from recado.record import Outgoing
from recado.telemetry import metrics

__all__ = ["Depth", "Mark", "Spool"]

log = structlog.get_logger(__name__)


class Spool(Lines):
    """Thread-safe. Nothing here blocks but ``close``."""

    def __init__(
        self,
        store: Store,
        *,
        max_bytes: int,
        producer: Callable[[], Producer],
        is_reachable: Callable[[], bool] = lambda: True,
    ) -> None:
        super().__init__(max_bytes=max_bytes)
        self.path = store.path
        self._store = store
        #: Records forwarded since this gateway started.
        self.forwarded = 0
        #: Who waits for a row's fate, and rows of deliveries that Kafka has been given, until their last report.
        self._waiting: dict[int, tuple[Delivery, int]] = {}
        self._late: dict[Delivery, list[tuple[int, int]]] = {}
        #: Why the spool cannot be written at this moment, or "".
        self.trouble = ""
        rows = self.load(store.extents(), row_bytes=ROW_BYTES)
        self.on_changed()
        if rows or self.refused:
            log.info("spool found", records=rows, refused=self.refused, path=str(self.path))
        metrics.SPOOL_RECORDS.tell(lambda: self.depth().rows)
        metrics.SPOOL_BYTES.tell(lambda: self.depth().size_bytes)
        metrics.SPOOL_OLDEST.tell(lambda: self.depth().oldest_s)
        metrics.SPOOL_REFUSED.tell(lambda: self.refused)
        self._forwarder = Forwarder(
            Store(store.path, read_only=True), self, producer=producer, is_reachable=is_reachable
        )
        self._writer = Writer(store, self, now_ms=wall_clock_ms)
        self._forwarder.start()

    # --- what requests ask -------------------------------------------------------------------------------------

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
        if self.reserve(size_bytes):
            self._writer.keep(keeping)
        else:
            keeping.claim()
            full = f"The spool holds {self.held_bytes():.0f} of RECADO_SPOOL_MAX_BYTES={self.max_bytes} bytes"
            keeping.fail(SpoolFull(f"{full}, so nothing was accepted. It empties once Kafka answers."))
        return keeping

    def withdraw(self, keeping: Keeping) -> bool:
        """Give up waiting for the disk; True if nothing was or will be written."""
        if not keeping.claim():
            return keeping.error is not None
        self.give_back(keeping.size_bytes)
        return True

    def forget(self, keeping: Keeping) -> None:
        """The request is answered now: nobody waits for these fates any more."""
        with self.lock:
            keeping.is_forgotten = True
            for row in keeping.rows:
                self._waiting.pop(row, None)

    def completed(self, delivery: Delivery) -> None:
        """All reports of a delivery that was given to Kafka have come; some of its records may stand here."""
        late = self._late.pop(delivery, None) if self._late else None
        if late is not None:
            self._resolve(delivery, late)

    def holds(self, delivery: Delivery) -> bool:
        """Tell whether records of a delivery that is under way were written down."""
        return delivery in self._late

    def why_not(self) -> str:
        """Why nothing can be kept at this moment, or ""."""
        if self.trouble:
            return f"The spool cannot be written: {self.trouble}."
        if self.held_bytes() >= self.max_bytes:
            return f"The spool is full: {self.held_bytes():.0f} of RECADO_SPOOL_MAX_BYTES={self.max_bytes} bytes."
        return ""

    def stop(self) -> None:
        """Send nothing more."""
        self._forwarder.stop()

    def sending(self) -> int:
        """How many rows Kafka has been given whose reports are still to come."""
        return self._forwarder.sending()

    def close(self, timeout_s: float) -> Depth:
        """Stop forwarding, write down what was confirmed; return what remains."""
        self._forwarder.close(timeout_s)
        self._writer.close()
        left = self.depth()
        try:
            self._store.shrink()
        except sqlite3.Error as error:  # a full disk, or somebody looks into it: it stays as it is
            log.info("spool not shrunk", path=str(self.path), error=str(error))
        self._store.close()
        return left

    # --- what the writer tells ---------------------------------------------------------------------------------

    def on_kept(self, keeping: Keeping, kept_ms: int) -> None:
        """These records are on the disk."""
        records = keeping.delivery.records
        pairs = list(zip(keeping.indices, keeping.rows, strict=True))
        size_bytes = keeping.size_bytes / len(pairs)
        with self.lock:
            awaited = not (keeping.asked or keeping.under_way or keeping.is_forgotten)
            for index, row in pairs:
                line = self.line(records[index].topic, row >> TOPIC_BITS, cursor=row - 1)
                line.added(range(row, row + 1), size_bytes, kept_ms, under_way=keeping.under_way)
                if keeping.asked:
                    line.asked_at = time.monotonic()
                if awaited:
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
        self.give_back(keeping.size_bytes)
        keeping.fail(error)

    def on_struck(self, rows: list[int]) -> None:
        """These rows are gone from the disk, or set aside there."""
        with self.lock:
            touched = set()
            for row in rows:
                line = self.line_of(row)
                if line is not None:
                    line.struck(row)
                    touched.add(line)
            for line in touched:
                self.close_if_over(line)

    def on_trouble(self, error: sqlite3.Error | None) -> None:
        """A commit failed, or (None) worked."""
        trouble = "" if error is None else str(error)
        if trouble and trouble != self.trouble:
            log.error("spool cannot be written", path=str(self.path), error=trouble)
        self.trouble = trouble

    def on_changed(self) -> None:
        """Somebody else has written to the file: a person, who looked at what was refused."""
        self.set_refused(*self._store.refused())

    # --- what the forwarder tells ------------------------------------------------------------------------------

    def is_awaited(self) -> bool:
        """Tell whether requests wait for reports of rows."""
        return bool(self._waiting)

    def on_delivered(self, line: Line, rows: Sequence[tuple[int, Position]]) -> None:
        """Reports for rows that the forwarder sent: Kafka has them."""
        with self.lock:
            # Under the lock, so that a request that is answered at this moment sees it or is told "accepted".
            for row, position in rows if self._waiting else ():
                waiter = self._waiting.pop(row, None)
                if waiter is not None:
                    waiter[0].settle(waiter[1], position)
            struck = [row for row, _ in rows if self.finish(line, row) is not None]
            self.forwarded += len(rows)
        metrics.SPOOL_FORWARDED.add((line.topic,), len(rows))
        self._writer.strike(struck)

    def on_error(self, line: Line, row: int, error: RecadoError) -> None:
        """A report for a row that the forwarder sent: Kafka does not have it, or nobody knows."""
        if not isinstance(error, FINAL):
            with self.lock:
                line.failed(row)
            return
        with self.lock:
            waiter = self._waiting.pop(row, None)
            if waiter is not None:
                waiter[0].settle(waiter[1], error)
        if waiter is None:
            self._refuse(line, row, str(error))
        else:
            self._strike(line, row)  # its sender was told

    def on_unreadable(self, line: Line, row: int) -> None:
        """A row whose checksum does not fit its bytes."""
        with self.lock:
            self._waiting.pop(row, None)
        self._refuse(line, row, "damaged on disk: the checksum does not fit")

    # --- inside ------------------------------------------------------------------------------------------------

    def _resolve(self, delivery: Delivery, late: list[tuple[int, int]]) -> None:
        """All reports for records that were written down meanwhile: strike out, set aside, or send again."""
        for index, row in late:
            line = self.line_of(row)
            assert line is not None  # it is not over while it has this row
            error = _error(delivery, index)
            if error is None:
                self._strike(line, row)
            elif isinstance(error, FINAL):
                self._refuse(line, row, str(error))
            else:
                with self.lock:
                    line.failed(row)
        self._forwarder.wake()

    def _strike(self, line: Line, row: int) -> None:
        if self.finish(line, row) is not None:
            self._writer.strike([row])

    def _refuse(self, line: Line, row: int, why: str) -> None:
        if self.refuse(line, row):
            log.error("record refused after it was accepted", topic=line.topic, row=row, error=why, kept="spool")
            self._writer.refuse(row, why)


def _error(delivery: Delivery, index: int) -> RecadoError | None:
    """None where Kafka has the record."""
    if isinstance(delivery, Summary):
        return delivery.failures.get(index)
    fate = delivery.fates[index]
    return fate if isinstance(fate, RecadoError) else None


def _size(record: Outgoing) -> int:
    headers = sum(len(name) + len(value or b"") + 8 for name, value in record.headers)
    return ROW_BYTES + len(record.topic) + len(record.value or b"") + len(record.key or b"") + headers + 60
