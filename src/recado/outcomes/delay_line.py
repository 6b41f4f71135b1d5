"""The delay line: reads the delay topics, waits, moves records on, commits."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import structlog

from recado.clock import wall_clock_ms
from recado.errors import DeliveryUnknown, RecadoError
from recado.kafka.abstract import Clients, Committed, Consumer, Message, Producer, Topics
from recado.kafka.headers import headers_of
from recado.outcomes.delay import GROUP, LEVELS, opened, wake_ms
from recado.outcomes.delay_commits import DelayCommits
from recado.outcomes.delay_flow import DelayFlow
from recado.outcomes.delay_hold import Held, Hold, Stay
from recado.outcomes.delay_moves import Moves
from recado.outcomes.delay_topics import DelayTopics
from recado.outcomes.resume import take_in
from recado.record import TopicPartition
from recado.telemetry import metrics

__all__ = ["DelayLine"]

log = structlog.get_logger(__name__)

#: Largest read: the loop looks at what is due in between.
MAX_READ = 2000

#: Longest wait for a record in the loop, in milliseconds: reports are noted and commits go out so often.
REST_MS = 50

#: The same while reports are to come.
REPORT_MS = 5

#: Rest between two turns of the loop that have little to do, in seconds: what comes meanwhile shares a turn. 100,000
#: records within a minute took 15.6 CPU s with it, 18.8 without, and 4 ms late is on time.
TICK_S = 0.004

#: A turn with so many records read and moved has enough to do.
CROWD = 500

#: Rest between two looks for delay topics that were made meanwhile, by whomever, in milliseconds.
LOOK_EVERY_MS = 1000

#: How long records that are on their way may take when their partition is taken away, in seconds; then their next
#: owner sends them again.
FINISH_S = 5.0

#: Rest between two looks whether they have arrived, in seconds.
FINISH_LOOK_S = 0.002

#: How long a group that rebalances may refuse the last commit, and the rest between two tries, in seconds.
CATCH_UP_S = 2.0
CATCH_UP_LOOK_S = 0.05

#: Where the end of a clean shutdown waits for the producer, in seconds: nothing should be left in it.
PRODUCER_CLOSE_S = 1.0


class DelayLine:
    """One member of the group that moves delayed records on. One thread only; it makes and ends its own clients.

    It keeps ``abstract.PartitionListener``: the consumer tells it of partitions that come and go.
    """

    def __init__(
        self,
        *,
        clients: Clients,
        topics: DelayTopics,
        catalog: Topics,
        clock_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self._topics = topics
        self._clock_ms = clock_ms
        self._stays: dict[TopicPartition, Stay] = {}
        self._hold = Hold()
        self._producer: Producer = clients.producer()
        self._consumer: Consumer = clients.consumer(GROUP)
        self._moves = Moves(producer=self._producer, hold=self._hold, topics=topics, catalog=catalog, clock_ms=clock_ms)
        self._commits = DelayCommits(consumer=self._consumer, clients=clients, stays=self._stays, clock_ms=clock_ms)
        self._flow = DelayFlow(consumer=self._consumer, hold=self._hold, stays=self._stays)
        self._subscribed: list[str] = []
        self._look_at_ms = 0
        self._crowded = False
        metrics.DELAY_HELD.tell(lambda: float(self._hold.records))

    def run(self, is_stopped: Callable[[], bool]) -> None:
        """Work until stopped, or until there is no delay topic any more. Raises RecadoError when it must start anew."""
        while not is_stopped() and self.step(REST_MS):
            if not self._crowded:
                time.sleep(TICK_S)

    def step(self, rest_ms: int) -> bool:
        """Read, take in, move on, settle, commit: once. False when there is nothing to read at all."""
        if not self._subscribe():
            return False
        messages = self._consumer.consume(MAX_READ, self._wait_s(rest_ms))
        self._take_in(messages)
        self._crowded = self._moves.move() + len(messages) >= CROWD
        self._moves.settle()
        self._commits.commit_some()
        self._flow.adjust(self._clock_ms())
        if self._moves.unknown is not None:
            raise DeliveryUnknown(f"{self._moves.unknown} The delay line starts anew from what is committed.")
        return True

    def close(self) -> None:
        """Leave the group; what is on its way is waited for and committed. The producer goes last.

        While the group rebalances it refuses commits of who has not caught up, and only polling lets this one do that.
        """
        self._wait_for_flying()
        deadline = time.monotonic() + CATCH_UP_S
        try:
            while not self._commits.commit_all(list(self._stays.values())) and time.monotonic() < deadline:
                self._take_in(self._consumer.consume(1, CATCH_UP_LOOK_S))  # not dropped: an end behind it would pass it
        except RecadoError as error:
            log.warning("delay line could not commit at the end", error=str(error))
        self._consumer.close()
        self._producer.close(PRODUCER_CLOSE_S)

    def on_assign(self, partitions: Mapping[TopicPartition, Committed | None]) -> None:
        """Begin a stay for each."""
        for where, committed in partitions.items():
            self._stays[where] = Stay(where, committed)
        if partitions:
            log.info("delay line reads", partitions=len(partitions), held=len(self._stays))

    def on_revoke(self, partitions: Sequence[TopicPartition]) -> None:
        """Note what has arrived, commit, then let go: in this order, so that it is not sent again."""
        self._wait_for_flying()
        self._commits.commit_all([self._stays[where] for where in partitions if where in self._stays])
        self._let_go(partitions)

    def on_lost(self, partitions: Sequence[TopicPartition]) -> None:
        """Someone else has them already: commit nothing."""
        self._let_go(partitions)

    def on_end(self, partition: TopicPartition, offset: int) -> None:
        """Remember the end, so that a gap at the tail is no lag."""
        if stay := self._stays.get(partition):
            stay.tracker.reached_end(offset)

    def on_commit(self, offsets: Mapping[TopicPartition, Committed], ok: bool) -> None:
        """Pass on what came of a commit."""
        self._commits.told(offsets, ok)

    def _wait_for_flying(self) -> None:
        deadline = time.monotonic() + FINISH_S
        self._moves.settle()
        while self._moves.flying and time.monotonic() < deadline:
            time.sleep(FINISH_LOOK_S)
            self._moves.settle()

    def _subscribe(self) -> bool:
        now_ms = self._clock_ms()
        if not 0 < self._look_at_ms - now_ms <= LOOK_EVERY_MS:
            self._look_at_ms = now_ms + LOOK_EVERY_MS
            there = self._topics.there()
            if there != self._subscribed and there:
                self._consumer.subscribe(there, self)
            self._subscribed = there
        return bool(self._subscribed)

    def _wait_s(self, rest_ms: int) -> float:
        """How long to wait for a record: until something moves on, or is to be read again."""
        moments = [moment for moment in (self._hold.next_ms(), self._flow.next_ms()) if moment is not None]
        now_ms = self._clock_ms()
        if self._moves.flying:
            rest_ms = min(rest_ms, REPORT_MS)
        return max(0, min(rest_ms, *(moment - now_ms for moment in moments))) / 1000 if moments else rest_ms / 1000

    def _take_in(self, messages: list[Message]) -> None:
        by_partition: defaultdict[tuple[str, int], list[Message]] = defaultdict(list)
        for message in messages:
            by_partition[message.topic(), message.partition()].append(message)
        now_ms = self._clock_ms()
        for (topic, partition), found in by_partition.items():
            stay = self._stays.get(TopicPartition(topic, partition))
            if stay is None:
                continue  # not ours any more
            if found[0].offset() <= stay.tracker.last:
                stay = self._begin_again(stay, found[0].offset())
            self._hold_all(stay, take_in(stay.tracker, found), now_ms)

    def _hold_all(self, stay: Stay, messages: Sequence[Message], now_ms: int) -> None:
        latest_ms, level = 0, stay.level
        for message in messages:
            ticket = opened(headers_of(message))
            if ticket is None:
                self._pass_over(stay, message.offset())
                continue
            latest_ms = wake_ms(ticket, level, message.timestamp()[1], now_ms)
            self._hold.take_in(Held.of(message, stay, ticket), latest_ms)
        if level is not LEVELS[0]:  # there the due time decides, which may come sooner for a later record
            self._flow.read_up_to(stay, latest_ms, now_ms)

    def _pass_over(self, stay: Stay, offset: int) -> None:
        """A record that nobody delayed by recado's rules: it must not stop those behind it."""
        stay.tracker.done([offset])
        metrics.DELAY_UNREADABLE.add((stay.where.topic,))
        log.error(
            "foreign record in a delay topic, passed over",
            topic=stay.where.topic, partition=stay.where.partition, offset=offset,
            remedy="only recado writes to recado.delay.*; take the write permission from others",
        )  # fmt: skip

    def _begin_again(self, stay: Stay, offset: int) -> Stay:
        """The topic was made anew: what was read of the old one still moves on, but is not committed."""
        log.warning("offsets went back", topic=stay.where.topic, partition=stay.where.partition, offset=offset)
        fresh = self._stays[stay.where] = Stay(stay.where)
        return fresh

    def _let_go(self, partitions: Sequence[TopicPartition]) -> None:
        for where in partitions:
            self._flow.forget(where)
            if stay := self._stays.pop(where, None):
                stay.fenced = True
