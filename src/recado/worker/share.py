"""The loop of a share group: borrow, handle, give back (a preview: Kafka 4.2 and later)."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence

import structlog

from recado.clock import wall_clock_ms
from recado.errors import RecadoError
from recado.kafka.abstract import Message
from recado.kafka.lending import ShareConsumer, ShareMessage, Verdict
from recado.record import TopicPartition
from recado.worker.drain import LEAVE_S, Remaining, within
from recado.worker.handling.delays import Delays
from recado.worker.handling.guard import Guard
from recado.worker.handling.holdings import Holdings
from recado.worker.partition.epoch import Epoch
from recado.worker.reporting.oldest import Oldest
from recado.worker.reporting.pulse import Pulse
from recado.worker.settlement import Settlement
from recado.worker.stop import StopRequest

__all__ = ["MOST_PER_THREAD", "ShareLoop"]

log = structlog.get_logger(__name__)

#: Records that one borrowing may bring for each thread or task of a handler: all of them must be through before the
#: next, so few; but a borrowing costs a request.
MOST_PER_THREAD = 4

#: How long a borrowed record may take, in seconds, attempts in place included: brokers lend for 30 s, and what is
#: given back must arrive before.
LENT_S = 25.0

#: A delivery after which there is none: brokers then archive the record, and nobody is told
#: (``group.share.delivery.count.limit``).
LAST_DELIVERY = 5

#: Longest wait for records, and the rest between two looks at handlers, in seconds.
IDLE_S = 0.2
LOOK_EVERY_S = 0.002


class ShareLoop:
    """Runs on one thread. The partitions that it borrows from are epochs of one borrowing each."""

    def __init__(
        self,
        *,
        consumer: ShareConsumer,
        holdings: Holdings,
        settlement: Settlement,
        delays: Delays,
        stop: StopRequest,
        pulse: Pulse,
        oldest: Oldest,
        guards: Sequence[Guard],
        drain_s: float,
    ) -> None:
        self._guards = guards
        self._consumer = consumer
        self._holdings = holdings
        self._settlement = settlement
        self._delays = delays
        self._stop = stop
        self._pulse = pulse
        self._oldest = oldest
        self._drain_s = drain_s
        self._borrowed: list[ShareMessage] = []
        self._lent_until = 0.0

    def run(self, topics: Sequence[str]) -> None:
        """Work until a stop is requested, or a record can neither be handled nor become a dead letter."""
        self._consumer.subscribe(topics)
        while not self._stop.requested:
            self._pulse.tick()
            borrowed = self._consumer.poll(IDLE_S)
            self._holdings.joined = True
            self._settlement.settle()  # what came late of earlier borrowings
            if borrowed:
                self._begin(borrowed)
                self._work(self._lent_until, lambda: self._stop.requested)
                self._settlement.check()
                if self._blocked() or self._stop.requested:  # ``drain`` sees to the rest, in its own time
                    return
                self._give_back()

    def drain(self) -> list[Remaining]:
        """Finish what is borrowed, give it back, leave; name what remains."""
        self._holdings.draining = True
        if self._borrowed:
            self._work(min(self._lent_until, time.monotonic() + self._drain_s), lambda: self._stop.hurried)
        blocked = [
            Remaining(*epoch.where, epoch.stop.offset, epoch.stop.reason)
            for epoch in self._holdings.snapshot()
            if epoch.stop is not None
        ]
        undone = self._undone()
        for runner in self._holdings.runners:
            runner.stop()
        if not within(LEAVE_S, self._leave):
            log.warning("kafka did not answer at the end")
        return blocked or [Remaining(*place, "still being handled: it comes again") for place in undone]

    def _begin(self, borrowed: list[ShareMessage]) -> None:
        self._borrowed, self._lent_until = borrowed, time.monotonic() + LENT_S
        by_partition: defaultdict[TopicPartition, list[ShareMessage]] = defaultdict(list)
        for message in borrowed:
            by_partition[TopicPartition(message.topic(), message.partition())].append(message)
        for where, messages in by_partition.items():
            messages.sort(key=lambda message: message.offset())
            epoch = self._holdings.open(where, None)
            epoch.deliveries = {message.offset(): message.delivery_count() or 1 for message in messages}
            epoch.tracker.deliver([message.offset() for message in messages])
            epoch.stamps.note(messages, wall_clock_ms())
            epoch.held_bytes += sum(map(len, messages))
            todo: list[Message] = list(messages) if epoch.guard is None else epoch.guard.admit(epoch, messages)
            if todo and not epoch.closed:
                self._holdings.runner(where.topic).lanes.offer(epoch, todo)

    def _work(self, deadline: float, is_over: Callable[[], bool]) -> None:
        """Let handlers work until all that is borrowed is done, or their time is over."""
        look_at = 0.0
        while self._pending() and not self._blocked():
            now = time.monotonic()
            if now >= deadline or is_over():
                break
            self._settlement.settle()
            for guard in self._guards:
                for epoch, messages in guard.due():
                    if todo := guard.admit(epoch, messages):
                        self._holdings.runner(epoch.topic).lanes.offer(epoch, todo)
            for run in self._delays.pop_due(now):
                self._holdings.runner(run.epoch.topic).put(run)
            for runner in self._holdings.runners:
                runner.lanes.start_due(now, whatever_is_there=True)
            if now >= look_at:
                look_at = now + 0.1
                self._pulse.tick()
                self._oldest.look()
            time.sleep(LOOK_EVERY_S)
        self._settlement.settle_all()

    def _pending(self) -> int:
        return sum(epoch.tracker.pending for epoch in self._holdings.snapshot())

    def _blocked(self) -> bool:
        stopped = any(epoch.stop is not None for epoch in self._holdings.snapshot())
        return stopped or self._settlement.hopeless is not None

    def _undone(self) -> list[tuple[str, int, int]]:
        return [
            (message.topic(), message.partition(), message.offset())
            for message in self._borrowed
            if not self._epoch(message).tracker.is_done(message.offset())
        ]

    def _give_back(self) -> None:
        verdicts = [(message, self._verdict(message)) for message in self._borrowed]
        epochs = self._holdings.snapshot()
        self._holdings.close(epochs)
        self._settlement.release_closed()
        self._holdings.fence(epochs)
        self._settlement.release_ids(epochs)
        self._borrowed = []
        again = self._consumer.give_back(verdicts)
        if again:
            log.warning("lent too long, or Kafka did not answer: these come again", records=len(again))

    def _verdict(self, message: ShareMessage) -> Verdict:
        epoch = self._epoch(message)
        if message.offset() in epoch.dead:
            return Verdict.REJECT
        if epoch.tracker.is_done(message.offset()):
            return Verdict.ACCEPT
        if (message.delivery_count() or 1) >= LAST_DELIVERY:
            log.error(
                "the broker lends this record no more: it is archived without having been done",
                topic=message.topic(), partition=message.partition(), offset=message.offset(),
                remedy="raise group.share.delivery.count.limit, or give the handler a timeout_s below 25",
            )  # fmt: skip
        return Verdict.RELEASE

    def _epoch(self, message: ShareMessage) -> Epoch:
        return self._holdings.epochs[TopicPartition(message.topic(), message.partition())]

    def _leave(self) -> None:
        try:
            if self._borrowed:
                self._give_back()
        except RecadoError as error:
            log.warning("what was borrowed could not be given back", error=str(error))
        self._consumer.close()
