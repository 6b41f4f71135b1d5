"""Moves delayed records on: to the next delay topic or into their target, and notes what Kafka said of each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import structlog

from recado.errors import DeliveryFailed, NotAllowed, RecadoError, RecordTooLarge, UnknownTopic
from recado.kafka.abstract import Producer, Topics
from recado.kafka.delivery import Delivery
from recado.kafka.quiet import Seldom
from recado.outcomes.delay import Step, hop, is_delay_topic, land, next_step, park
from recado.outcomes.delay_hold import Held, Hold, Stay
from recado.outcomes.delay_topics import DelayTopics
from recado.record import Outgoing
from recado.telemetry import metrics

__all__ = ["Moves"]

log = structlog.get_logger(__name__)

#: Records that move on before the loop looks at Kafka again: long enough to share what a look costs.
AT_ONCE = 2000

#: Rest before the next try where the producer's queue was full or a delay topic is away, in milliseconds.
AGAIN_MS = 500

#: The least time between two questions for topics that the catalog does not know, in milliseconds.
ASK_EVERY_MS = 1000

#: The target said no, and will until somebody changes it: the record rests in a delay topic, and others go on.
_REFUSED = (UnknownTopic, NotAllowed, RecordTooLarge, DeliveryFailed)


class Moves:
    """Sends what is due, and settles what Kafka has confirmed. Line thread only, except for the reports."""

    def __init__(
        self,
        *,
        producer: Producer,
        hold: Hold,
        topics: DelayTopics,
        catalog: Topics,
        clock_ms: Callable[[], int],
    ) -> None:
        self._producer = producer
        self._hold = hold
        self._topics = topics
        self._catalog = catalog
        self._clock_ms = clock_ms
        self._reported: deque[Delivery] = deque()
        self._flying: dict[Delivery, list[Held]] = {}
        self._ask_at_ms = 0
        self._seldom = Seldom()
        # Reports are served here, in ``settle``: a switch of threads for each would cost more than the rest.
        producer.take_over()
        #: Set when the fate of a record is unknown: the producer may be of no more use, and the line starts anew from
        #: what is committed.
        self.unknown: RecadoError | None = None

    @property
    def flying(self) -> bool:
        """Whether a delivery report is still to come."""
        return bool(self._flying)

    def move(self) -> int:
        """Send what is due now; return how many records that were."""
        now_ms = self._clock_ms()
        due = self._hold.pop_due(now_ms, AT_ONCE)
        by_topic: dict[str, tuple[list[Held], list[Outgoing]]] = {}
        for held in due:
            if held.stay.fenced:
                self._hold.let_go(held)  # its next owner reads it
                continue
            record = self._record(held, now_ms)
            if record is None:
                self._hold.put_back(held, held.ticket.due_ms)
                continue
            some = by_topic.setdefault(record.topic, ([], []))
            some[0].append(held)
            some[1].append(record)
        # A delivery for each topic: one that makes trouble holds up no other.
        for several, records in by_topic.values():
            delivery = Delivery(records, self._reported.append)
            self._flying[delivery] = several
            self._producer.send(delivery)
        return len(due)

    def settle(self) -> None:
        """Note what came of what was sent: an offset is done only now."""
        self._producer.serve()
        done: dict[Stay, list[int]] = {}
        while self._reported:
            delivery = self._reported.popleft()
            self._settle(delivery, self._flying.pop(delivery), done)
        for stay, offsets in done.items():
            stay.tracker.done(offsets)

    def _record(self, held: Held, now_ms: int) -> Outgoing | None:
        """The record to send now, None where it only has to wait a moment more."""
        ticket = held.ticket
        if held.refused:
            return park(ticket, held.key, held.value, held.headers, now_ms)
        step = next_step(ticket.due_ms, now_ms)
        if step is Step.WAIT:
            return None
        if step is Step.HOP:
            return hop(ticket, held.key, held.value, held.headers, now_ms)
        if self._is_gone(ticket.topic, now_ms):
            self._refuse(held, UnknownTopic(f"topic {ticket.topic}: does not exist."))
            return park(ticket, held.key, held.value, held.headers, now_ms)
        return land(ticket, held.key, held.value, held.headers)

    def _is_gone(self, topic: str, now_ms: int) -> bool:
        if self._catalog.partitions(topic) is not None:
            return False
        if not 0 < self._ask_at_ms - now_ms <= ASK_EVERY_MS:  # it may be new
            self._ask_at_ms = now_ms + ASK_EVERY_MS
            self._catalog.refresh()
        return self._catalog.partitions(topic) is None and self._catalog.reachable

    def _settle(self, delivery: Delivery, several: list[Held], done: dict[Stay, list[int]]) -> None:
        now_ms = self._clock_ms()
        topic = delivery.records[0].topic
        moved = 0
        landing = not is_delay_topic(topic)
        for held, fate in zip(several, delivery.fates, strict=True):
            if not isinstance(fate, tuple):
                self._failed(held, topic, None if isinstance(fate, str) else fate, now_ms)
                continue
            moved += 1
            self._hold.let_go(held)
            done.setdefault(held.stay, []).append(held.offset)
            if landing:
                metrics.DELAY_LATENESS.observe(topic, max(0, now_ms - held.ticket.due_ms) / 1000)
        if moved:
            (metrics.DELAY_LANDED if landing else metrics.DELAY_HOPS).add((topic,), moved)

    def _failed(self, held: Held, topic: str, fate: RecadoError | None, now_ms: int) -> None:
        assert fate is not None
        if topic == held.ticket.topic and isinstance(fate, _REFUSED):
            self._refuse(held, fate)
            self._hold.put_back(held, now_ms)
            return
        self._hold.put_back(held, now_ms + AGAIN_MS)
        if isinstance(fate, UnknownTopic):
            if self._topics.want(topic):
                self._topics.make()
        elif fate.code == "delivery-unknown":
            self.unknown = fate
        if self._seldom.now(fate.code + topic):
            log.warning("delayed record waits", topic=topic, error=str(fate), again_s=AGAIN_MS / 1000)

    def _refuse(self, held: Held, error: RecadoError) -> None:
        held.refused = True
        topic = held.ticket.topic
        metrics.DELAY_REFUSED.add((topic, error.code))
        if self._seldom.now(error.code + topic):
            log.error(
                "delayed record cannot land, it is kept and tried again",
                topic=topic, tries=held.ticket.tries + 1, error=str(error),
            )  # fmt: skip
