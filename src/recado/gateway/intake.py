"""Takes checked records in: refuses what Kafka could not take, hands the rest to the producer, remembers it."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter

from recado.errors import DeliveryUnknown, KafkaUnreachable, NotAllowed, RecadoError, UnknownTopic
from recado.gateway.delaying import any_delayed, count_accepted, destination, destinations
from recado.gateway.envelope import invalid
from recado.gateway.problem import Problem
from recado.gateway.reader import Shape, Submission
from recado.kafka.abstract import Producer, Topics
from recado.kafka.delivery import Delivery, Summary
from recado.outcomes.delay import Delayed, is_delay_topic
from recado.outcomes.delay_topics import DelayTopics
from recado.record import Outgoing
from recado.telemetry import metrics

__all__ = ["Flush", "Intake"]

_partition = attrgetter("partition")

#: The one good fate.
DELIVERED = "delivered"


class Intake:
    """Everything between a parsed request and the producer. Thread-safe; never blocks but where it says so."""

    def __init__(self, *, producer: Producer, topics: Topics, delays: DelayTopics) -> None:
        self.topics = topics
        self._delays = delays
        self.producer = producer
        self._open: set[Delivery] = set()
        #: Records delivered since this gateway started.
        self.delivered = 0
        self._counting = threading.Lock()
        metrics.GATEWAY_IN_FLIGHT.set_function(producer.outstanding)
        metrics.KAFKA_REACHABLE.set_function(lambda: float(topics.reachable))

    def unknown_topic(self, submission: Submission) -> bool:
        """Tell whether a record's topic is not in the catalog, and a refresh may bring it.

        While no broker answers none will, and the catalog tries again by itself.
        """
        if not self.topics.reachable:
            return False
        known = self.topics.partitions
        if any_delayed(submission.topics):
            wanted = {record.topic for record in submission.records if isinstance(record, Delayed)}
            missing = [topic for topic in sorted(wanted) if self._delays.want(topic)]
            return bool(missing) or any(known(topic) is None for topic in destinations(submission.records))
        return any(known(topic) is None for topic in submission.topics)

    def refresh(self) -> None:
        """Create the delay topics that records need, and ask Kafka for its topics. Blocks for some seconds at most."""
        self._delays.make()
        self.topics.refresh()

    def admit(self, submission: Submission) -> None:
        """Refuse what must not or cannot go to Kafka. Raises Problem, KafkaUnreachable, UnknownTopic, NotAllowed."""
        if not self.topics.reachable:
            raise KafkaUnreachable("No broker answers, so nothing was accepted. Send it again in a moment.")
        records = submission.records
        if len(records) == 1:
            self._admit(records[0], {})
        elif max(map(_partition, records)) >= 0 or any_delayed(submission.topics):
            for index, record in enumerate(records):
                self._admit(record, {"index": index})
        else:
            for topic in submission.topics:
                index = next(index for index, record in enumerate(records) if record.topic == topic)
                self._admit(records[index], {"index": index})

    def _admit(self, record: Outgoing, where: dict[str, int]) -> None:
        topic, partition = destination(record)
        if topic.startswith("__") or is_delay_topic(topic):
            owner = "recado" if is_delay_topic(topic) else "Kafka"
            error = NotAllowed(f"topic: {topic} is {owner}'s own; nobody writes there over HTTP.")
            raise Problem.of(error, field="topic", **where)
        count = self.topics.partitions(topic)
        if count is None:
            hint = f"Create it with: recado kafka topics --create --topic {topic} --partitions 3"
            raise Problem.of(UnknownTopic(f"topic: {topic} does not exist. {hint}"), field="topic", **where)
        if partition >= count:
            detail = f"{partition} is not one of the {count} partitions (0 to {count - 1}) of {topic}."
            raise invalid("partition", detail, **where)
        if isinstance(record, Delayed):
            self._delays.check(record.topic)

    def open(self, submission: Submission, on_complete: Callable[[Delivery], None]) -> Delivery:
        """Take the records in; ``on_complete`` is called on the reporting thread with the last fate."""
        # A summary of delayed records tells those from delivered ones, so it needs every fate.
        short = submission.shape is Shape.SUMMARY and not any_delayed(submission.topics)
        kind = Summary if short else Delivery
        delivery = kind(submission.records, partial(self._close, on_complete, submission.topics))
        self._open.add(delivery)
        return delivery

    def send(self, delivery: Delivery) -> None:
        """Hand what was taken in to the producer."""
        self.producer.send(delivery)

    def flush(self) -> Flush:
        """Watch everything that was handed over until now."""
        return Flush(list(self._open), lambda: self.delivered)

    def outstanding(self) -> int:
        """How many records wait for Kafka's word."""
        return self.producer.outstanding()

    def close(self, timeout_s: float) -> int:
        """Wait for what is outstanding, then stop; return how many records were given up unconfirmed."""
        return self.producer.close(timeout_s)

    def _close(self, on_complete: Callable[[Delivery], None], topics: dict[str, int], delivery: Delivery) -> None:
        self._open.discard(delivery)
        self._count(delivery, topics)
        if any_delayed(topics):
            count_accepted(delivery)
        on_complete(delivery)

    def _add(self, delivered: int) -> None:
        with self._counting:  # reports come on several threads
            self.delivered += delivered

    def _count(self, delivery: Delivery, topics: dict[str, int]) -> None:
        records, fates = delivery.records, delivery.fates
        if len(records) == 1 and fates and type(fates[0]) is tuple:
            metrics.GATEWAY_RECORDS.add((records[0].topic, DELIVERED))
            self._add(1)
            return
        for (topic, fate), number in _fates(delivery, topics).items():
            metrics.GATEWAY_RECORDS.add((topic, fate), number)
            if fate == DELIVERED:
                self._add(number)


def _fates(delivery: Delivery, topics: dict[str, int]) -> collections.Counter[tuple[str, str]]:
    """How many records met each fate, by topic."""
    records = delivery.records
    if not isinstance(delivery, Summary):
        return collections.Counter((r.topic, _fate(fate)) for r, fate in zip(records, delivery.fates, strict=True))
    counted = collections.Counter({(topic, DELIVERED): number for topic, number in topics.items()})
    for index, error in delivery.failures.items():
        counted[records[index].topic, DELIVERED] -= 1
        counted[records[index].topic, _fate(error)] += 1
    return counted


def _fate(fate: object) -> str:
    if isinstance(fate, RecadoError):
        return "unknown" if isinstance(fate, DeliveryUnknown) else "failed"
    return DELIVERED


class Flush:
    """Everything that was handed over before one moment."""

    def __init__(self, deliveries: Sequence[Delivery], delivered: Callable[[], int]) -> None:
        self._deliveries = deliveries
        self._delivered = delivered

    def pending(self) -> int:
        """How many of those records still wait for Kafka's word."""
        self._deliveries = [delivery for delivery in self._deliveries if delivery.outstanding]
        return sum(delivery.outstanding for delivery in self._deliveries)

    def delivered(self) -> int:
        """How many records this gateway has delivered since it started."""
        return self._delivered()
