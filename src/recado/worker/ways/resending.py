"""Resending: what Kafka did not take for now waits here until it is sent again; parked records keep their order."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from operator import attrgetter

from recado.record import Outgoing, TopicPartition
from recado.worker.handling.outtray import Flight

__all__ = ["AGAIN_S", "Resending"]

#: Rest before what could not be sent now is sent again, in seconds.
AGAIN_S = 0.5


class _Queue:
    """Parked records of one partition that Kafka did not take for now, and all later ones."""

    __slots__ = ("at", "flights")

    def __init__(self, at: float) -> None:
        self.at = at
        self.flights: list[Flight] = []


class Resending:
    """Holds flights back until it is their time again. Loop thread only."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Flight, list[Outgoing]]] = []
        self._queues: dict[TopicPartition, _Queue] = {}
        self._numbers = itertools.count()

    def add(self, flight: Flight, records: list[Outgoing]) -> None:
        """Take in those of a flight's records that Kafka did not take."""
        at = self._clock() + AGAIN_S
        if flight.outcome == "parked":  # it has one record
            self._queues.setdefault(_place_of(flight), _Queue(at)).flights.append(flight)
        else:
            heapq.heappush(self._heap, (at, next(self._numbers), flight, records))

    def holds_back(self, flight: Flight) -> bool:
        """Give a parked record its place in the order; True where earlier ones wait here, and it now waits behind."""
        flight.number = next(self._numbers)
        queue = self._queues.get(_place_of(flight))
        if queue is not None:
            queue.flights.append(flight)
        return queue is not None

    def due(self) -> list[tuple[Flight, list[Outgoing]]]:
        """Hand out what is to be sent by now, in its order."""
        now, found = self._clock(), list[tuple[Flight, list[Outgoing]]]()
        while self._heap and self._heap[0][0] <= now:
            found.append(heapq.heappop(self._heap)[2:])
        for place in [place for place, queue in self._queues.items() if queue.at <= now]:
            flights = sorted(self._queues.pop(place).flights, key=attrgetter("number"))
            found += [(flight, flight.records) for flight in flights]
        return found


def _place_of(flight: Flight) -> TopicPartition:
    """Where a parked record goes."""
    record = flight.records[0]
    return TopicPartition(record.topic, record.partition)
