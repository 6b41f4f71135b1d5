"""Outbound: sends what handlers sent, and lets an offset be done only when Kafka has confirmed all of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

import structlog

from recado.errors import Backpressure, DeliveryUnknown, KafkaUnreachable, RecadoError, RecordTooLarge
from recado.kafka.abstract import Producer
from recado.kafka.delivery import Delivery, Fate
from recado.kafka.quiet import Seldom
from recado.record import Outgoing
from recado.telemetry.metrics import DEAD_LETTER_KINDS, WORKER_DEAD_LETTERS, WORKER_LATE, WORKER_RECORDS, WORKER_SENT
from recado.worker.handling.outtray import Flight, Outtray
from recado.worker.partition.done_times import note_done
from recado.worker.partition.epoch import Epoch
from recado.worker.ways.resending import AGAIN_S, Resending
from recado.worker.ways.transactions import Settled, Transactions

__all__ = ["Outbound", "Refused"]

log = structlog.get_logger(__name__)

#: Bytes that may be on their way to Kafka before handlers that send wait: a quarter of the producer's own queue.
MAX_BYTES = 32_000_000

#: Records likewise.
MAX_RECORDS = 20_000

#: What a record costs beside its value and key, in bytes.
OVERHEAD_BYTES = 100

#: These pass by themselves: Kafka is away, the queue is full, or nobody knows (then a second copy has the same id).
_PASSING = (Backpressure, DeliveryUnknown, KafkaUnreachable)


class Refused(NamedTuple):
    """A flight that Kafka does not take, and never will as things are: its offsets are not done."""

    flight: Flight
    topic: str
    error: RecadoError


class _Stay:
    """What is on its way for one epoch."""

    __slots__ = ("flying", "uncounted")

    def __init__(self) -> None:
        self.flying: set[Flight] = set()
        #: The flights of offsets that the loop has not seen handled yet.
        self.uncounted: dict[int, Flight] = {}


class Outbound:
    """Gives flights to a producer that never gives up. Loop thread only.

    ``connect`` makes that producer when something is sent for the first time.
    """

    def __init__(
        self,
        *,
        tray: Outtray,
        connect: Callable[[], Producer],
        transactions: Transactions | None,
        clock: Callable[[], float],
    ) -> None:
        self._tray = tray
        self._transactions = transactions
        self._connect = connect
        self._stays: dict[Epoch, _Stay] = {}
        self._refused: list[Refused] = []
        self._producer: Producer | None = None
        self._reported: deque[Delivery] = deque()
        self._flying: dict[Delivery, Flight] = {}
        self._again = Resending(clock)
        self._bytes = self._records = 0
        self._seldom = Seldom()

    def take(self) -> None:
        """Send what handlers have put into the tray since."""
        while self._tray.flights:
            flight = self._tray.flights.popleft()
            epoch = flight.epoch
            if epoch.fenced:  # the next owner handles these records, and sends
                if epoch.guard is not None:
                    epoch.guard.release(epoch, flight.offsets)
                continue
            self.expect(flight).uncounted.update(dict.fromkeys(flight.offsets, flight))
            self.send(flight)

    def expect(self, flight: Flight) -> _Stay:
        """Let a flight's offsets wait for ``send``, which comes later, or for ``refuse``."""
        stay = self._stays.setdefault(flight.epoch, _Stay())
        stay.flying.add(flight)
        return stay

    def send(self, flight: Flight) -> None:
        """Send an expected flight."""
        self._count(flight.records, 1)
        if flight.epoch.transactional and self._transactions is not None:
            self._transactions.add(flight)
            return
        if flight.outcome == "parked":
            self._read_reports()  # what was refused meanwhile goes first
            if self._again.holds_back(flight):
                return
        self._send(flight, flight.records)

    def refuse(self, flight: Flight, topic: str, error: RecadoError) -> None:
        """An expected flight cannot be sent: its offsets are not done."""
        self._landed(flight)
        if not flight.epoch.fenced:
            self._refused.append(Refused(flight, topic, error))

    def concerns(self, epoch: Epoch) -> bool:
        """Whether handlers of this epoch have sent something up to now (ask after the look at how far they are)."""
        if self._tray.flights:
            self.take()
        return epoch in self._stays

    def done_of(self, epoch: Epoch, offsets: list[int]) -> list[int]:
        """Of offsets that are handled now: those that sent nothing, or all of whose records Kafka has already."""
        done, uncounted = [], self._stays[epoch].uncounted
        for offset in offsets:
            flight = uncounted.pop(offset, None)
            if flight is None or flight.is_delivered:
                done.append(offset)
            else:
                flight.counted.append(offset)
        return done

    def settle(self) -> list[Refused]:
        """Send what waits for it, and note what Kafka said: only now are offsets done whose handlers sent."""
        self.take()
        if self._producer is not None:
            self._producer.serve()
        self._read_reports()
        for settled in self._transactions.settle() if self._transactions is not None else ():
            self._settle_transacted(settled)
        for flight, records in self._again.due():
            if flight.outcome == "parked" and flight.epoch.fenced:  # its next owner sees to it
                self._end(flight)
            else:
                self._send(flight, records)
        if not self._stays:
            return []
        for epoch, stay in list(self._stays.items()):
            if epoch.fenced or not (stay.flying or stay.uncounted):
                del self._stays[epoch]
        refused, self._refused = self._refused, []
        return refused

    def is_busy(self, epochs: Iterable[Epoch]) -> bool:
        """Whether something that handlers of these sent is still to be confirmed."""
        self.take()
        return any(epoch in self._stays and self._stays[epoch].flying for epoch in epochs)

    def unconfirmed(self, epoch: Epoch) -> list[int]:
        """The offsets of records whose handlers sent what Kafka has not confirmed, ascending."""
        stay = self._stays.get(epoch)
        return sorted(offset for flight in stay.flying for offset in flight.offsets) if stay else []

    def close(self) -> None:
        """Send nothing more: what is not confirmed is not committed either, so it comes again."""
        if self._transactions is not None:
            self._transactions.close()
        if self._producer is not None:
            self._producer.close(0.0)

    def _send(self, flight: Flight, records: list[Outgoing]) -> None:
        if self._producer is None:
            self._producer = self._connect()
            # Reports are served here: a switch of threads for each would cost more than the rest.
            self._producer.take_over()
        delivery = Delivery(records, self._reported.append)
        self._flying[delivery] = flight
        self._producer.send(delivery)

    def _settle(self, flight: Flight, delivery: Delivery) -> None:
        epoch = flight.epoch
        again: list[Outgoing] = []
        for record, fate in zip(delivery.records, delivery.fates, strict=True):
            if isinstance(fate, _PASSING):
                again.append(record)
                self._say(record.topic, fate)
            elif isinstance(fate, RecadoError):
                self._count(flight.records, -1)
                self._refused_by_kafka(flight, record.topic, fate)
                return
        for topic, count in _topics_of(delivery.records, delivery.fates).items():
            WORKER_SENT.labels(topic).inc(count)
        if again and not epoch.fenced:
            self._again.add(flight, again)
        else:
            self._end(flight)

    def _read_reports(self) -> None:
        while self._reported:
            delivery = self._reported.popleft()
            self._settle(self._flying.pop(delivery), delivery)

    def _end(self, flight: Flight) -> None:
        self._count(flight.records, -1)
        self._landed(flight)
        self._delivered(flight)

    def _settle_transacted(self, settled: Settled) -> None:
        flight, topic, error = settled
        self._count(flight.records, -1)
        if error is not None:
            self._refused_by_kafka(flight, topic, error)
            return
        for record in flight.records:
            WORKER_SENT.labels(record.topic).inc()
        self._landed(flight)
        self._delivered(flight)

    def _refused_by_kafka(self, flight: Flight, topic: str, error: RecadoError) -> None:
        if isinstance(error, RecordTooLarge) and flight.trimmed is not None:
            flight.records, flight.trimmed = [flight.trimmed()], None
            self.send(flight)
        else:
            self.refuse(flight, topic, error)

    def _landed(self, flight: Flight) -> None:
        if flight.epoch in self._stays:
            self._stays[flight.epoch].flying.discard(flight)

    def _delivered(self, flight: Flight) -> None:
        flight.is_delivered = True
        if flight.epoch.guard is not None and flight.outcome != "copied":
            # A dead letter or a copy comes back under its id; and what a fenced transaction held was never sent.
            aborted = flight.epoch.fenced and flight.epoch.transactional
            gone = aborted or flight.outcome in ("dead", "retrying", "parked")
            (flight.epoch.guard.release if gone else flight.epoch.guard.done)(flight.epoch, flight.offsets)
        if not flight.counted:
            return
        epoch = flight.epoch
        if epoch.fenced:
            WORKER_LATE.labels(epoch.topic).inc(len(flight.counted))
            return
        if flight.outcome == "dead":
            epoch.dead.update(flight.counted)
            kind = DEAD_LETTER_KINDS.label(flight.fingerprint)
            WORKER_DEAD_LETTERS.add((epoch.home.topic, kind), len(flight.counted))
        elif flight.outcome == "done":
            counted = set(flight.counted)
            accepted = [at_ms for at, at_ms in zip(flight.offsets, flight.accepted, strict=True) if at in counted]
            note_done(epoch.home.topic, accepted)
        epoch.tracker.done(flight.counted)
        WORKER_RECORDS.labels(epoch.topic, flight.outcome).inc(len(flight.counted))

    def _count(self, records: list[Outgoing], sign: int) -> None:
        self._records += sign * len(records)
        self._bytes += sign * sum(OVERHEAD_BYTES + len(r.value or b"") + len(r.key or b"") for r in records)
        self._tray.is_full = self._bytes > MAX_BYTES or self._records > MAX_RECORDS

    def _say(self, topic: str, error: RecadoError) -> None:
        if self._seldom.now(error.code + topic):
            log.warning("what a handler sent waits for Kafka", topic=topic, error=str(error), again_s=AGAIN_S)


def _topics_of(records: Iterable[Outgoing], fates: Iterable[Fate | None]) -> dict[str, int]:
    """How many records of each topic were delivered."""
    counts: dict[str, int] = {}
    for record, fate in zip(records, fates, strict=True):
        if isinstance(fate, tuple):
            counts[record.topic] = counts.get(record.topic, 0) + 1
    return counts
