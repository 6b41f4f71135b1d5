"""Exits: the ways by which a failed record leaves its partition, which may then go on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from recado.clock import wall_clock_ms
from recado.errors import RecadoError
from recado.kafka.abstract import Message
from recado.outcomes.dead_letter import Cause, dead_letter
from recado.outcomes.group_topics import dead_letter_topic, retry_topic
from recado.outcomes.history import History
from recado.outcomes.retry import retry_copy, retry_record
from recado.record import Outgoing
from recado.worker.handling.outtray import Flight
from recado.worker.partition.epoch import Epoch
from recado.worker.ways.exit_topics import ExitTopics
from recado.worker.ways.outbound import Outbound

__all__ = ["Exits"]

#: Makes the record that leaves, for a partition of the group's topic.
Build = Callable[[int], Outgoing]


class _Leaving(NamedTuple):
    """A flight whose record is made when there are the topics for it."""

    flight: Flight
    history: History
    build: Build
    #: The topic of the group that it goes to in the end.
    topic: str


class Exits:
    """Sends records to where they wait or are kept; an offset is done when Kafka has that. Loop thread only."""

    def __init__(
        self, *, outbound: Outbound, topics: ExitTopics, family: str, clock_ms: Callable[[], int] = wall_clock_ms
    ) -> None:
        self._family = family
        self._outbound = outbound
        self._topics = topics
        self._clock_ms = clock_ms
        self._waiting: list[_Leaving] = []

    def bury(self, epoch: Epoch, message: Message, history: History, cause: Cause) -> None:
        """Let a record become a dead letter of its group. One too large for the topic goes with shorter headers."""
        family = self._family

        def build(partition: int, *, trimmed: bool = False) -> Outgoing:
            return dead_letter(message, history, cause, partition=partition, family=family, trimmed=trimmed)

        flight = Flight(epoch, [message.offset()], history.attempts, [])
        flight.outcome = "dead"
        flight.fingerprint = cause.fingerprint
        flight.trimmed = lambda: build(flight.records[0].partition, trimmed=True)
        self._begin(_Leaving(flight, history, build, dead_letter_topic(history.group, history.topic)))

    def send_back(self, epoch: Epoch, message: Message, history: History) -> None:
        """Let a record come back to its group when ``history.due_ms`` has come."""

        def build(partition: int) -> Outgoing:
            now_ms = self._clock_ms()
            if history.due_ms <= now_ms:
                return retry_record(message, history, partition)
            return retry_copy(message, history, partition, now_ms)

        self._copy(epoch, message, history, "retrying", build)

    def park(self, epoch: Epoch, message: Message, history: History) -> None:
        """Let a record wait in the retry topic in its key's order (``parking.py``); done here when it is there."""
        self._copy(epoch, message, history, "parked", partial(retry_record, message, history))

    def add_copy(self, epoch: Epoch, message: Message, history: History) -> None:
        """Tell the retry topic of a parked record's new history; the record itself stays not done."""
        self._copy(epoch, message, history, "copied", partial(retry_record, message, history))

    def partitions(self, topic: str, source: str) -> int | None:
        """How many partitions a topic of the group has; None while it is being made, as many as ``source`` has."""
        return self._topics.partitions(topic, source)

    def settle(self) -> None:
        """Send what may leave now; to one topic in the order in which it came."""
        waiting, self._waiting = self._waiting, []
        blocked: set[str] = set()
        for leaving in waiting:
            if leaving.flight.epoch.fenced:
                continue  # the next owner handles it
            if leaving.topic in blocked or not self._leave(leaving):
                blocked.add(leaving.topic)
                self._waiting.append(leaving)

    def close(self) -> None:
        """Make no topic any more."""
        self._topics.close()

    def _copy(self, epoch: Epoch, message: Message, history: History, outcome: str, build: Build) -> None:
        flight = Flight(epoch, [message.offset()], history.attempts, [])
        flight.outcome = outcome
        self._begin(_Leaving(flight, history, build, retry_topic(history.group, history.topic)))

    def _begin(self, leaving: _Leaving) -> None:
        if leaving.flight.outcome != "copied":
            leaving.flight.counted = list(leaving.flight.offsets)
        self._outbound.expect(leaving.flight)
        if self._waiting or not self._leave(leaving):
            self._waiting.append(leaving)

    def _leave(self, leaving: _Leaving) -> bool:
        """False while a topic for it is being made."""
        flight, history, topic = leaving.flight, leaving.history, leaving.topic
        try:
            count = self._topics.partitions(topic, history.topic)
            if count is None:
                return False
            record = leaving.build(history.partition % count)
            if record.topic != topic and self._topics.partitions(record.topic, history.topic) is None:
                return False
        except RecadoError as error:
            self._outbound.refuse(flight, topic, error)
            return True
        flight.records = [record]
        self._outbound.send(flight)
        return True
