"""The producer of the in-memory twin."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from recado.errors import Backpressure, DeliveryFailed, RecadoError, RecordTooLarge, UnknownTopic
from recado.kafka.delivery import Delivery, Position
from recado.record import Outgoing

__all__ = ["MemoryProducer"]

#: Longest rest of a producer's report thread between two looks at what is queued, in seconds.
POLL_S = 0.1


class Cluster(Protocol):
    """What a producer needs of its cluster."""

    changed: threading.Condition

    @property
    def reachable(self) -> bool: ...

    def append(self, record: Outgoing) -> Position: ...


class MemoryProducer:
    """Writes to the twin; reports come from a thread of its own, as with a real cluster."""

    def __init__(
        self,
        kafka: Cluster,
        *,
        on_unreachable: Callable[[], None],
        max_records: int,
        max_record_bytes: int,
    ) -> None:
        self._kafka = kafka
        self._on_unreachable = on_unreachable
        self._max_records, self._max_record_bytes = max_records, max_record_bytes
        self._queue: deque[tuple[Delivery, int, bool]] = deque()
        self._outstanding = 0
        self._closed = self._taken_over = False
        # Whoever holds this serves reports, so that each delivery has one writer.
        self._serving = threading.Lock()
        self._thread = threading.Thread(target=self._serve_reports, name="recado-memory-reports", daemon=True)
        self._thread.start()

    def send(self, delivery: Delivery) -> None:
        """Queue the delivery's records in their order (see ``abstract.Producer``)."""
        with self._kafka.changed:
            for index in range(len(delivery.records)):
                full = self._outstanding >= self._max_records
                self._outstanding += 1
                self._queue.append((delivery, index, full))
            self._kafka.changed.notify_all()

    def take_over(self) -> None:
        """Let the caller serve the reports by ``serve`` until ``hand_back``."""
        self._taken_over = True

    def serve(self) -> None:
        """Serve the reports that are there, unless the report thread is at it."""
        if self._serving.acquire(blocking=False):
            try:
                self._report(self._take())
            finally:
                self._serving.release()

    def hand_back(self) -> None:
        """Let the report thread serve again."""
        with self._kafka.changed:
            self._taken_over = False
            self._kafka.changed.notify_all()

    def outstanding(self) -> int:
        """Count the records whose report is still to come."""
        return self._outstanding

    def close(self, timeout_s: float) -> int:
        """Wait for reports, then stop."""
        with self._kafka.changed:
            self._kafka.changed.wait_for(lambda: self._outstanding == 0, timeout_s)
            left = self._outstanding
            self._closed = True
            self._kafka.changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)
        return left

    def _serve_reports(self) -> None:
        while not self._closed:
            with self._kafka.changed:
                # Where somebody took over and then got stuck, reports still come, ten times a second.
                self._kafka.changed.wait_for(lambda: self._closed or (self._queue and not self._taken_over), POLL_S)
            with self._serving:
                self._report(self._take())
            if self._queue and not self._kafka.reachable:
                self._on_unreachable()
                self._wait_for_cluster()

    def _take(self) -> list[tuple[Delivery, int, bool]]:
        """What is queued; nothing while the cluster is away."""
        with self._kafka.changed:
            taken = list(self._queue) if self._kafka.reachable else []
            if taken:
                self._queue.clear()
            return taken

    def _report(self, taken: list[tuple[Delivery, int, bool]]) -> None:
        for delivery, index, full in taken:
            delivery.settle(index, self._fate(delivery.records[index], full))
        if taken:
            with self._kafka.changed:
                self._outstanding -= len(taken)
                self._kafka.changed.notify_all()

    def _wait_for_cluster(self) -> None:
        with self._kafka.changed:
            self._kafka.changed.wait_for(lambda: self._kafka.reachable or self._closed)

    def _fate(self, record: Outgoing, full: bool) -> Position | RecadoError:
        if full:
            return Backpressure("The producer's queue is full: Kafka takes records slower than they come.")
        if len(record.value or b"") + len(record.key or b"") > self._max_record_bytes:
            return RecordTooLarge(f"topic {record.topic}: the record is too large.")
        try:
            return self._kafka.append(record)
        except (UnknownTopic, DeliveryFailed) as error:
            return error
