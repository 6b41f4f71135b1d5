"""Exits: the ways by which a failed record leaves its partition, which may then go on."""

from __future__ import annotations

from collections.abc import Callable

from recado.errors import RecadoError
from recado.kafka.abstract import Message
from recado.outcomes.dead_letter import Cause, dead_letter
from recado.outcomes.group_topics import dead_letter_topic
from recado.outcomes.history import History
from recado.record import Outgoing
from recado.worker.epoch import Epoch
from recado.worker.exit_topics import ExitTopics
from recado.worker.outbound import Outbound
from recado.worker.outtray import Flight

__all__ = ["Exits"]

#: Makes the record that leaves, for a partition.
Build = Callable[[int], Outgoing]


class Exits:
    """Sends records to where they wait or are kept; an offset is done when Kafka has that. Loop thread only."""

    def __init__(self, *, outbound: Outbound, topics: ExitTopics, family: str) -> None:
        self._family = family
        self._outbound = outbound
        self._topics = topics
        self._waiting: list[tuple[Flight, History, Build]] = []

    def bury(self, epoch: Epoch, message: Message, history: History, cause: Cause) -> None:
        """Let a record become a dead letter of its group. One too large for the topic goes with shorter headers."""
        family = self._family

        def build(partition: int, *, trimmed: bool = False) -> Outgoing:
            return dead_letter(message, history, cause, partition=partition, family=family, trimmed=trimmed)

        flight = Flight(epoch, [message.offset()], history.attempts, [])
        flight.outcome, flight.counted = "dead", [message.offset()]
        flight.trimmed = lambda: build(flight.records[0].partition, trimmed=True)
        self._outbound.expect(flight)
        topic = dead_letter_topic(history.group, history.topic)
        if self._waiting or not self._leave(flight, history, build, topic):
            self._waiting.append((flight, history, build))

    def settle(self) -> None:
        """Send what may leave now; of one topic in the order in which it came."""
        waiting, self._waiting = self._waiting, []
        blocked: set[str] = set()
        for flight, history, build in waiting:
            topic = dead_letter_topic(history.group, history.topic)
            if flight.epoch.fenced:
                continue  # the next owner handles it
            if topic in blocked or not self._leave(flight, history, build, topic):
                blocked.add(topic)
                self._waiting.append((flight, history, build))

    def close(self) -> None:
        """Make no topic any more."""
        self._topics.close()

    def _leave(self, flight: Flight, history: History, build: Build, topic: str) -> bool:
        """False while its topic is being made."""
        try:
            count = self._topics.partitions(topic, history.topic)
        except RecadoError as error:
            self._outbound.refuse(flight, topic, error)
            return True
        if count is None:
            return False
        flight.records = [build(history.partition % count)]
        self._outbound.send(flight)
        return True
