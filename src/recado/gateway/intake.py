"""Takes checked records in: refuses what Kafka could not take, hands the rest to the producer, remembers it."""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter
from typing import NamedTuple

from recado.clock import Deadline
from recado.errors import DeliveryUnknown, KafkaUnreachable, NotAllowed, RecadoError, UnknownTopic
from recado.gateway.delaying import any_delayed, count_accepted, destination
from recado.gateway.envelope import invalid
from recado.gateway.problem import Problem
from recado.gateway.reader import Shape, Submission
from recado.gateway.spool.spool import Spool
from recado.gateway.waits import FLUSH_LOOK_S
from recado.kafka.abstract import Link
from recado.kafka.delivery import Delivery, Summary
from recado.outcomes.delay import Delayed, is_delay_topic
from recado.outcomes.delay_topics import DelayTopics
from recado.record import Outgoing
from recado.telemetry import metrics

__all__ = ["Flush", "Intake", "Left", "delivery_of", "refusal"]

_partition = attrgetter("partition")

#: The one good fate.
DELIVERED = "delivered"


class Intake:
    """Everything between a parsed request and the producer. Thread-safe; never blocks but where it says so."""

    def __init__(self, link: Link, *, spool: Spool | None, delays: DelayTopics) -> None:
        self.topics = topics = link.topics
        self.producer = producer = link.producer
        self._delays = delays
        #: Where accepted records wait for Kafka; None where there is none (``RECADO_SPOOL=off``).
        self.spool = spool
        self._open: set[Delivery] = set()
        #: Records delivered since this gateway started.
        self.delivered = 0
        self._counting = threading.Lock()
        metrics.GATEWAY_IN_FLIGHT.tell(producer.outstanding)
        metrics.KAFKA_REACHABLE.tell(lambda: float(topics.reachable))

    def must_ask(self, submission: Submission) -> bool:
        """Tell whether a record's topic or partition is not in the catalog, and a refresh may bring it.

        While no broker answers none will, and the catalog tries again by itself.
        """
        if not self.topics.reachable:
            return False
        known, records = self.topics.partitions, submission.records
        if any_delayed(submission.topics):
            wanted = {record.topic for record in records if isinstance(record, Delayed)}
            missing = [topic for topic in sorted(wanted) if self._delays.want(topic)]
            if missing:
                return True
            wished = [(known(topic), partition) for topic, partition in map(destination, records)]
            return any(count is None or partition >= count for count, partition in wished)
        if len(records) == 1:
            count = known(records[0].topic)
            return count is None or records[0].partition >= count
        if any(known(topic) is None for topic in submission.topics):
            return True
        if max(map(_partition, records)) < 0:
            return False
        return any(record.partition >= (known(record.topic) or 0) for record in records)

    def refresh(self) -> bool:
        """Create the delay topics that records need, and ask Kafka for its topics; tell whether it answered.

        Blocks for some seconds at most.
        """
        self._delays.make()
        return self.topics.refresh()

    def admit(self, submission: Submission, *, is_fresh: bool = True) -> None:
        """Refuse what must not or cannot go to Kafka. Raises Problem, KafkaUnreachable, UnknownTopic, NotAllowed.

        ``is_fresh`` is False where Kafka was asked and did not answer: then nobody knows that a topic does not exist.
        """
        if not self.topics.reachable and self.spool is None:
            raise KafkaUnreachable("No broker answers, so nothing was accepted. Send it again in a moment.")
        records = submission.records
        if len(records) == 1:
            self._admit(records[0], {}, is_fresh)
        elif max(map(_partition, records)) >= 0 or any_delayed(submission.topics):
            for index, record in enumerate(records):
                self._admit(record, {"index": index}, is_fresh)
        else:
            for topic in submission.topics:
                index = next(index for index, record in enumerate(records) if record.topic == topic)
                self._admit(records[index], {"index": index}, is_fresh)

    def _admit(self, record: Outgoing, where: dict[str, int], is_fresh: bool) -> None:
        topic, partition = destination(record)
        if topic.startswith("__") or is_delay_topic(topic):
            owner = "recado" if is_delay_topic(topic) else "Kafka"
            error = NotAllowed(f"topic: {topic} is {owner}'s own; nobody writes there over HTTP.")
            raise Problem.of(error, field="topic", **where)
        count = self.topics.partitions(topic)
        if count is None and not (is_fresh and self.topics.reachable):
            detail = f"No broker answers, so nobody knows whether topic {topic} exists. Nothing was accepted."
            raise Problem.of(KafkaUnreachable(detail), field="topic", **where)
        if count is None:
            hint = f"Create it with: recado kafka topics --create --topic {topic} --partitions 3"
            raise Problem.of(UnknownTopic(f"topic: {topic} does not exist. {hint}"), field="topic", **where)
        if partition >= count and not is_fresh:
            detail = f"No broker answers, and {topic} had {count} partitions when one last did."
            raise Problem.of(KafkaUnreachable(detail), field="partition", **where)
        if partition >= count:
            detail = f"{partition} is not one of the {count} partitions (0 to {count - 1}) of {topic}."
            raise invalid("partition", detail, **where)
        if isinstance(record, Delayed):
            self._delays.check(record.topic)

    def must_queue(self, submission: Submission) -> bool:
        """Tell whether the records must pass through the spool: Kafka is away, or others of their topics wait there."""
        spool = self.spool
        return spool is not None and (submission.is_async or not self.topics.reachable or spool.has(submission.topics))

    def way_is_free(self, submission: Submission) -> bool | None:
        """Tell whether records that must queue need that no more; None: they will not soon."""
        assert self.spool is not None
        if submission.is_async or not self.topics.reachable or not self.spool.is_leaving(submission.topics):
            return None
        return not self.spool.has(submission.topics)

    def is_worth_waiting(self, submission: Submission) -> bool:
        """Tell whether records in the spool may be in Kafka soon, and their sender wants to know."""
        assert self.spool is not None
        return not submission.is_async and self.topics.reachable and not self.spool.is_stalled(submission.topics)

    def open(self, submission: Submission, on_complete: Callable[[Delivery], None]) -> Delivery:
        """Take the records in; ``on_complete`` is called on the reporting thread with the last fate."""
        delivery = delivery_of(submission, partial(self._close, on_complete, submission.topics))
        self._open.add(delivery)
        return delivery

    def send(self, delivery: Delivery) -> None:
        """Hand what was taken in to the producer."""
        self.producer.send(delivery)

    def flush(self) -> Flush:
        """Watch everything that was handed over until now."""
        spool = self.spool
        # What was written down meanwhile counts once.
        open_ = [delivery for delivery in list(self._open) if spool is None or not spool.holds(delivery)]
        return Flush(open_, spool, lambda: self.delivered + (spool.forwarded if spool is not None else 0))

    def outstanding(self) -> int:
        """How many records wait for Kafka's word."""
        return self.producer.outstanding()

    def close(self, deadline: Deadline) -> Left:
        """Wait for what is outstanding, then stop; return what remains."""
        spool = self.spool
        if spool is not None:
            # As long as Kafka answers the spool empties; then nothing more is sent from the disk, and what was sent
            # and is confirmed until the end is struck out.
            while self.topics.reachable and spool.is_moving() and deadline.left_s():
                time.sleep(FLUSH_LOOK_S)
            spool.stop()
        while deadline.left_s() and (self.producer.outstanding() or (spool is not None and spool.sending())):
            time.sleep(FLUSH_LOOK_S)
        self.topics.close()  # before the producer, whose client it asks
        unconfirmed = self.producer.close(0)
        if spool is None:
            return Left(unconfirmed)
        depth = spool.close(0)
        return Left(unconfirmed, depth.rows, depth.refused)

    def _close(self, on_complete: Callable[[Delivery], None], topics: dict[str, int], delivery: Delivery) -> None:
        self._open.discard(delivery)
        if self.spool is not None:
            self.spool.completed(delivery)
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


def delivery_of(submission: Submission, on_complete: Callable[[Delivery], None]) -> Delivery:
    """An empty list of fates for a request's records, as detailed as its answer will be."""
    # A summary of delayed records tells those from delivered ones, and one of keyed ones is remembered: both need all.
    short = submission.shape is Shape.SUMMARY and not submission.keys and not any_delayed(submission.topics)
    kind = Summary if short else Delivery
    return kind(submission.records, on_complete)


class Left(NamedTuple):
    """What remains when a gateway ends."""

    #: Records whose fate nobody knows.
    unconfirmed: int = 0
    #: Records that are safe in the spool, and will be sent at the next start.
    spooled: int = 0
    #: Records that are safe in the spool, too, but that Kafka refused for good: they wait for a person.
    refused: int = 0


class Flush:
    """Everything that was accepted before one moment."""

    def __init__(self, deliveries: Sequence[Delivery], spool: Spool | None, delivered: Callable[[], int]) -> None:
        self._deliveries = deliveries
        self._spool = spool
        self._marks = spool.mark() if spool is not None else []
        self._delivered = delivered

    def pending(self) -> int:
        """How many of those records still wait for Kafka's word; those that it refused wait no more."""
        self._deliveries = [delivery for delivery in self._deliveries if delivery.outstanding]
        spooled = self._spool.pending(self._marks) if self._spool is not None else 0
        return sum(delivery.outstanding for delivery in self._deliveries) + spooled

    def wait(self, timeout_s: float) -> int:
        """Block until nothing is pending, or for so many seconds; return how many are pending then."""
        deadline = time.monotonic() + timeout_s
        while (pending := self.pending()) and time.monotonic() < deadline:
            time.sleep(FLUSH_LOOK_S)
        return pending

    def refused(self) -> int:
        """How many accepted records Kafka refused for good; they wait for a person."""
        return self._spool.refused if self._spool is not None else 0

    def delivered(self) -> int:
        """How many records this gateway has delivered since it started."""
        return self._delivered()


def refusal(refused: int) -> str:
    """What to say of records that Kafka refused after they were accepted."""
    return f"Kafka refused {refused} records for good; `recado spool list --refused` shows them."
