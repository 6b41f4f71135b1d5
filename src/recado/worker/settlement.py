"""Settling: what threads have done goes into the offset trackers, what failed is decided about."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping

import structlog

from recado.clock import wall_clock_ms
from recado.errors import HandlerError, NoProcess, Undecodable
from recado.kafka.abstract import Message
from recado.outcomes.decide import decide, describe
from recado.outcomes.group_topics import dead_letter_topic
from recado.outcomes.history import failure_of
from recado.outcomes.outcome import Dead, Outcome, RetryAfter, Stopped
from recado.outcomes.signals import AlreadyDone, Reject, Retry
from recado.telemetry.metrics import WORKER_ATTEMPTS, WORKER_LATE, WORKER_RECORDS, WORKER_SECONDS
from recado.worker.handling.delays import Delays
from recado.worker.handling.holdings import Holdings
from recado.worker.handling.pause import Pause
from recado.worker.handling.run import Run
from recado.worker.handling.runner import Runner
from recado.worker.partition.accepted import accepted_ms
from recado.worker.partition.done_times import DoneTimes, note_done
from recado.worker.partition.epoch import Epoch, Stop
from recado.worker.partition.returned import Returned, origin_of
from recado.worker.ways.exits import Exits
from recado.worker.ways.leaving import Leaving, go_on
from recado.worker.ways.outbound import Outbound, Refused

__all__ = ["Settlement"]

log = structlog.get_logger(__name__)

#: Rest between two looks at runs that still execute, in seconds: often enough for commits and for the budget.
LOOK_EVERY_S = 0.05

#: Runs whose time goes into the histogram at one settling: when there are thousands, some tell as much as all.
OBSERVED_AT_ONCE = 8

#: What a flight is, by its outcome.
WHAT = {
    "dead": "its dead letter",
    "retrying": "its copy for the next attempt",
    "parked": "its copy that waits in its key's order",
    "copied": "what tells of its attempts",
}

#: What to do about a stopped partition, said with every stop.
REMEDY = "fix the handler and restart; nothing is lost"


class Settlement:
    """Takes back from the threads what they are through with. Loop thread only."""

    def __init__(
        self,
        *,
        holdings: Holdings,
        returned: deque[Run],
        delays: Delays,
        outbound: Outbound,
        exits: Exits,
        leaving: Leaving,
        pauses: Mapping[Runner, Pause],
        clock: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self._holdings = holdings
        self._returned = returned
        self._delays = delays
        self._outbound = outbound
        self._exits = exits
        self._leaving = leaving
        self._pauses = pauses
        self._clock = clock
        self._chance = chance
        self._look_at = 0.0
        self._done_times = DoneTimes()
        #: What makes going on senseless.
        self.hopeless: NoProcess | None = None

    def settle(self) -> None:
        """Count what is done, and decide about what failed; now and then look at runs that still execute, too."""
        self._exits.settle()
        for refused in self._outbound.settle():
            self._stop_sender(refused)
        now = self._clock()
        if now < self._look_at:
            self._settle_returned(Counter())
        else:
            self._look_at = now + LOOK_EVERY_S
            self.settle_all()

    def check(self) -> None:
        """Raise what makes going on senseless, if anything does (not while draining)."""
        if self.hopeless is not None:
            raise self.hopeless

    def settle_all(self) -> None:
        """Count all that is done up to now, also in runs that still execute."""
        done: Counter[str] = Counter()
        for run in self._holdings.executing():
            self._count(run, done)
        self._settle_returned(done)
        self._leaving.settle()

    def is_busy(self, epochs: Collection[Epoch]) -> bool:
        """Whether a handler is at a record of these, or has sent something that Kafka has not confirmed."""
        return bool(self._holdings.executing(epochs)) or self._outbound.is_busy(epochs)

    def release_ids(self, epochs: Iterable[Epoch]) -> None:
        """These are no longer ours: whoever gets their records may handle them, but what is still being handled."""
        for epoch in epochs:
            if epoch.guard is not None:
                executing = [m.offset() for run in self._holdings.executing([epoch]) for m in self._at_work(run)]
                epoch.guard.forget(epoch, but=[*executing, *self._outbound.unconfirmed(epoch)])

    def _at_work(self, run: Run) -> list[Message]:
        """The records that its handler is at: of a batch all, else one."""
        many = self._holdings.runner(run.epoch.topic).handler.batch is not None
        return run.messages[run.at :] if many else run.messages[run.at : run.at + 1]

    def unconfirmed(self, epoch: Epoch) -> list[int]:
        """The offsets of records whose handlers sent what Kafka has not confirmed, ascending."""
        return self._outbound.unconfirmed(epoch)

    def _settle_returned(self, done: Counter[str]) -> None:
        for number in range(len(self._returned)):
            run = self._returned.popleft()
            self._count(run, done)
            if number < OBSERVED_AT_ONCE:
                self._observe(run)
            if run.error is not None:
                self._decide(run)
        self._done_times.tell()
        for topic, count in done.items():
            WORKER_RECORDS.labels(topic, "done").inc(count)

    def release_closed(self) -> None:
        """End the waits of closed partitions: their records stay not done."""
        waiting = [run for pause in self._pauses.values() for run in pause.pop_closed()]
        for run in (*self._delays.pop_closed(), *waiting):
            self._holdings.runner(run.epoch.topic).lanes.finish(run)

    def _count(self, run: Run, done: Counter[str]) -> None:
        at, epoch = run.at, run.epoch
        if at <= run.settled:
            return
        messages = run.messages[run.settled : at]
        run.settled = at
        if epoch.fenced:
            WORKER_LATE.labels(epoch.topic).inc(len(messages))
            log.warning("late result dropped", topic=epoch.topic, partition=epoch.partition, records=len(messages))
            return
        epoch.held_bytes -= sum(map(len, messages))
        self._succeeded(epoch, len(messages))
        if self._outbound.concerns(epoch):  # asked after ``at`` was read
            done[epoch.topic] += self._count_senders(epoch, messages)
            return
        first, last = messages[0].offset(), messages[-1].offset()
        if not (run.in_offset_order and epoch.tracker.pass_over(first, last, len(messages))):
            offsets = [message.offset() for message in messages]
            epoch.tracker.done(offsets)
            first, last = min(offsets), max(offsets)
        self._note_done(epoch, messages, first, last)
        done[epoch.topic] += len(messages)

    def _succeeded(self, epoch: Epoch, number: int) -> None:
        if self._pauses and (pause := self._pauses.get(self._holdings.runner(epoch.topic))) is not None:
            pause.succeeded(number, self._clock())

    def _count_senders(self, epoch: Epoch, messages: list[Message]) -> int:
        offsets = self._outbound.done_of(epoch, [message.offset() for message in messages])
        if offsets:
            epoch.tracker.done(offsets)
            now = set(offsets)
            done = [message for message in messages if message.offset() in now]
            self._note_done(epoch, done, offsets[0], offsets[-1])
        return len(offsets)

    def _note_done(self, epoch: Epoch, messages: list[Message], lowest: int, highest: int) -> None:
        if epoch.home == epoch.where:
            self._done_times.add(epoch, lowest, highest, len(messages))
        else:
            now_ms = wall_clock_ms()
            note_done(epoch.home.topic, [accepted_ms(message, now_ms) for message in messages])

    def _observe(self, run: Run) -> None:
        if run.handled:
            runner = self._holdings.runner(run.epoch.topic)
            WORKER_SECONDS.labels(runner.handler.name).observe(run.spent_s / run.handled)
            runner.lanes.pace(run.spent_s / run.handled)
            run.handled = 0

    def _decide(self, run: Run) -> None:
        error, run.error = run.error, None
        epoch, runner = run.epoch, self._holdings.runner(run.epoch.topic)
        assert error is not None
        if isinstance(error, AlreadyDone):
            self._skip(run, error)
            return
        if epoch.fenced and epoch.guard is not None:
            epoch.guard.release(epoch, [message.offset() for message in self._at_work(run)])
        if isinstance(error, NoProcess):  # no attempt: the record stays not done
            self.hopeless = error
            return
        outcome = decide(error, attempt=self._attempt(run), policy=runner.handler.policy, chance=self._chance())
        if self._pauses_over(run, runner, error, outcome):
            return
        run.failures = [*(run.failures if run.attempt > 1 else ()), failure_of(error, wall_clock_ms())]
        WORKER_ATTEMPTS.labels(epoch.topic, type(error).__name__).inc()
        self._say(run, error, outcome)
        if isinstance(outcome, RetryAfter) and not epoch.fenced and self._leaving.leaves(runner, outcome):
            self._leaving.leave(run, outcome)
            return
        if isinstance(outcome, RetryAfter) and not epoch.closed:
            run.attempt += 1
            runner.lanes.set_aside(run)
            self._delays.push(run, self._clock() + outcome.delay_s)
            return
        if isinstance(outcome, Dead) and not epoch.fenced:
            self._leaving.bury(run, error, outcome.reason)
            return
        if isinstance(outcome, Stopped) and not epoch.closed:
            message = run.messages[run.at]
            stop = Stop(message.offset(), run.attempt, outcome.reason)
            self._stop(epoch, stop, key=_shown(message.key()), error=describe(error), remedy=REMEDY)
        runner.lanes.finish(run)

    def _pauses_over(self, run: Run, runner: Runner, error: BaseException, outcome: Outcome) -> bool:
        """Whether its handler pauses: then the run waits for the end of that, and this attempt does not count."""
        pause = self._pauses.get(runner)
        systemic = isinstance(outcome, (RetryAfter, Dead)) and not isinstance(error, (Retry, Reject, Undecodable))
        if pause is None or not systemic:
            return False
        closed = run.epoch.closed
        if not (pause.reason if closed else pause.failed(run, error, self._clock())):
            return False
        WORKER_ATTEMPTS.labels(run.epoch.topic, type(error).__name__).inc()
        if closed:  # it comes again, to whoever is next
            runner.lanes.finish(run)
        else:
            runner.lanes.set_aside(run)
            pause.hold(run)
        return True

    def _attempt(self, run: Run) -> int:
        """Which attempt this was; what comes back has its earlier ones, and a share group's broker counts, too."""
        message = run.messages[run.at]
        if isinstance(message, Returned):
            return run.attempt + message.history.attempts
        earlier = run.epoch.deliveries.get(message.offset(), 1) - 1
        return run.attempt + earlier

    def _skip(self, run: Run, error: AlreadyDone) -> None:
        """The handler found that the record is done: it counts so, and the rest goes on."""
        epoch, runner = run.epoch, self._holdings.runner(run.epoch.topic)
        places = [
            at for at, message in enumerate(run.messages) if at >= run.at and origin_of(message).offset == error.offset
        ]
        if not places or (places[0] > run.at and runner.handler.batch is None):
            run.error = HandlerError(f"it raised AlreadyDone of offset {error.offset}, which it was not given")
            self._decide(run)
            return
        message = run.messages.pop(places[0])
        if not epoch.fenced:
            if epoch.guard is not None:
                epoch.guard.done(epoch, [message.offset()])
            epoch.tracker.done([message.offset()])
            epoch.held_bytes -= len(message)
            self._succeeded(epoch, 1)  # its database has answered
            WORKER_RECORDS.labels(epoch.topic, "duplicate").inc()
            log.info("done already", topic=epoch.topic, partition=epoch.partition, offset=message.offset())
        run.in_offset_order = False  # a record is missing
        go_on(run, runner)

    def _stop_sender(self, refused: Refused) -> None:
        flight, topic, error = refused
        if not flight.epoch.closed:
            what = WHAT.get(flight.outcome, "what its handler sent")
            reason = f"{what} was refused by topic {topic}"
            stop = Stop(flight.offsets[0], flight.attempt, f"{reason}: {describe(error)}")
            self._stop(flight.epoch, stop, error=describe(error), remedy=f"let Kafka take it, or {REMEDY}")

    def _stop(self, epoch: Epoch, stop: Stop, **facts: str | None) -> None:
        self._holdings.halt(epoch, stop)
        self.release_closed()
        WORKER_RECORDS.labels(epoch.topic, "stopped").inc()
        log.error(
            "partition stopped",
            topic=epoch.topic,
            partition=epoch.partition,
            offset=stop.offset,
            attempt=stop.attempt,
            reason=stop.reason,
            **facts,
        )

    def _say(self, run: Run, error: BaseException, outcome: Outcome) -> None:
        epoch, message = run.epoch, run.messages[run.at]
        facts = {
            "topic": epoch.topic,
            "partition": epoch.partition,
            "offset": message.offset(),
            "attempt": self._attempt(run),
            "key": _shown(message.key()),
            "error": describe(error),
        }
        if isinstance(outcome, RetryAfter):
            facts["retry_in_s"] = round(outcome.delay_s, 3)
        elif isinstance(outcome, Dead):
            facts["dead_letter"] = dead_letter_topic(epoch.group, epoch.home.topic)
        if isinstance(error, (Retry, Reject)):
            log.info("retry asked for" if isinstance(error, Retry) else "record rejected", **facts)
        else:
            log.warning("attempt failed", **facts, exc_info=error)


def _shown(key: bytes | None) -> str | None:
    """A key as a person would write it."""
    return None if key is None else key.decode("utf-8", "backslashreplace")
