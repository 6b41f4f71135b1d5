"""Sends records in order with many under way, and tells of each what became of it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import click
import msgspec

from recado.cli.printable import printable
from recado.cli.status_line import StatusLine
from recado.errors import DeliveryUnknown, RecadoError
from recado.gateway.reader import new_ids
from recado.kafka.abstract import Producer
from recado.kafka.delivery import Delivery, Position
from recado.record import HEADER_ID, Outgoing

__all__ = ["Maker", "Sending", "Tally"]

#: Records that may be under way: enough to keep Kafka busy, little enough to be remembered.
UNDER_WAY = 20_000

#: So many are told one by one to a person; of more the sum says it better.
TOLD = 10

#: A UUIDv7 as text.
ID_BYTES = 36

#: A job that takes longer shows how far it is, in seconds.
QUIET_S = 1.0

NOT_CONFIRMED = "Kafka did not confirm in time. The record may still arrive, or may not."


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes records that differ only in value and id."""

    topic: str
    key: bytes | None
    headers: Sequence[tuple[str, bytes]]
    partition: int

    @property
    def overhead_bytes(self) -> int:
        """What key and headers add to the size of every record."""
        size = len(self.key or b"") + sum(len(name) + len(text) for name, text in self.headers)
        return size + len(HEADER_ID) + ID_BYTES

    def records(self, values: Sequence[bytes]) -> list[Outgoing]:
        """A record with a new id for each value, in their order."""
        return [
            Outgoing(self.topic, value, i, self.key, [(HEADER_ID, i.encode()), *self.headers], self.partition)
            for value, i in zip(values, new_ids(len(values)) if values else (), strict=True)
        ]


@dataclass(slots=True)
class Tally:
    """How many records met which fate, and where the delivered ones lie."""

    sent: int = 0
    delivered: int = 0
    failed: int = 0
    unconfirmed: int = 0
    #: Partition → (records, first offset, last offset).
    places: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    #: Why what came after was not even sent.
    unsaid: str = ""

    def stopped(self, why: str) -> Tally:
        """The same, ended before its time."""
        self.unsaid = why
        return self

    def place(self, partition: int, offset: int) -> None:
        """Count one delivered record."""
        self.delivered += 1
        number, first, last = self.places.get(partition, (0, offset, offset))
        self.places[partition] = (number + 1, min(first, offset), max(last, offset))

    def sentence(self, topic: str) -> str:
        """The sum, for a person."""
        if not self.sent:
            return "Nothing to send: no line came."
        words = [f"{self.delivered:,} of {self.sent:,} records delivered to {topic}"]
        words += [f"{self.failed:,} failed"] if self.failed else []
        words += [f"{self.unconfirmed:,} unconfirmed"] if self.unconfirmed else []
        places = [
            f"  partition {partition}: {number:,} (offsets {first} to {last})"
            for partition, (number, first, last) in sorted(self.places.items())
        ]
        return "\n".join([", ".join(words), *places])


class Sending:
    """Sends batches in order. ``with`` it; ``add`` what there is, then ``finish``; ``tally`` has the sum."""

    def __init__(self, producer: Producer, *, wait_s: float, as_json: bool) -> None:
        self.tally = Tally()
        self._producer = producer
        self._wait_s = wait_s
        self._as_json = as_json
        self._open: deque[tuple[Delivery, threading.Event]] = deque()
        self._line = StatusLine(QUIET_S)

    def __enter__(self) -> Sending:
        return self

    def __exit__(self, *_: object) -> None:
        self._line.clear()

    def add(self, records: Sequence[Outgoing]) -> bool:
        """Send these after those before; tell what is known by now. False when a record failed: send no more."""
        if records:
            done = threading.Event()
            delivery = Delivery(records, lambda _: done.set())
            self._open.append((delivery, done))
            self.tally.sent += len(records)
            self._producer.send(delivery)
        self._settle(UNDER_WAY)
        if self.tally.failed or self.tally.unconfirmed:
            self.finish()
            return False
        return True

    def finish(self) -> None:
        """Wait for what is under way, for ``wait_s`` without any progress at most."""
        self._settle(0)

    def _settle(self, under_way: int) -> None:
        """Tell the fates from the front: all that are there, and wait while more than ``under_way`` are not."""
        while self._open:
            delivery, done = self._open[0]
            left = sum(delivery.outstanding for delivery, _ in self._open)
            if not done.is_set() and left <= under_way:
                break
            self._wait(delivery, done)
            self._open.popleft()
            self._tell(delivery)
        left = sum(delivery.outstanding for delivery, _ in self._open)
        self._show(left)

    def _wait(self, delivery: Delivery, done: threading.Event) -> None:
        left, deadline = delivery.outstanding, time.monotonic() + self._wait_s
        while not done.wait(0.1) and time.monotonic() < deadline:
            self._show(sum(delivery.outstanding for delivery, _ in self._open))
            if delivery.outstanding < left:  # slow, but it moves
                left, deadline = delivery.outstanding, time.monotonic() + self._wait_s

    def _show(self, left: int) -> None:
        if self.tally.sent > 1:
            self._line.show(f"{self.tally.sent:,} records sent, {self.tally.sent - left:,} confirmed")

    def _tell(self, delivery: Delivery) -> None:
        """Count the fates of a delivery and print those that somebody wants to see."""
        printed = []
        for record, fate in zip(delivery.records, list(delivery.fates), strict=True):
            if fate is None or isinstance(fate, str):  # nothing is spooled here
                fate = DeliveryUnknown(NOT_CONFIRMED)
            self._count(fate)
            told = self.tally.delivered + self.tally.failed + self.tally.unconfirmed
            if self._as_json:
                printed.append(msgspec.json.encode(_result(record, fate)).decode())
            elif told <= TOLD:
                printed.append(_sentence(record, fate))
        if printed:
            self._line.clear()
            click.echo("\n".join(printed))

    def _count(self, fate: Position | RecadoError) -> None:
        if isinstance(fate, tuple):
            self.tally.place(fate[0], fate[1])
        elif isinstance(fate, DeliveryUnknown):
            self.tally.unconfirmed += 1
        else:
            self.tally.failed += 1


def _result(record: Outgoing, fate: Position | RecadoError) -> dict[str, Any]:
    """The same form as the gateway's answer."""
    if isinstance(fate, tuple):
        where = {"topic": record.topic, "partition": fate[0], "offset": fate[1], "timestamp": fate[2]}
        return {"status": "delivered", "id": record.id, **where}
    status = "unknown" if isinstance(fate, DeliveryUnknown) else "failed"
    return {"status": status, "id": record.id, "topic": record.topic, "code": fate.code, "detail": str(fate)}


def _sentence(record: Outgoing, fate: Position | RecadoError) -> str:
    if isinstance(fate, tuple):
        return f"delivered to {record.topic}, partition {fate[0]}, offset {fate[1]} (id {record.id})"
    status = "not confirmed" if isinstance(fate, DeliveryUnknown) else "not delivered"
    return f"{status}: {printable(str(fate))} (id {record.id})"
