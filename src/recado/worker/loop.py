"""The loop: poll, offer, settle, commit."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

import structlog

from recado.clock import wall_clock_ms
from recado.kafka.abstract import Consumer, Message
from recado.outcomes.resume import take_in
from recado.record import TopicPartition
from recado.telemetry.metrics import WORKER_IN_FLIGHT, WORKER_RECORDS
from recado.worker.commits import Commits
from recado.worker.handling.delays import Delays
from recado.worker.handling.flow import Flow
from recado.worker.handling.guard import Guard
from recado.worker.handling.holdings import Holdings
from recado.worker.handling.pause import Pause
from recado.worker.partition.epoch import Epoch
from recado.worker.partition.returned import Returned
from recado.worker.rebalance import Rebalance
from recado.worker.reporting.oldest import Oldest
from recado.worker.reporting.progress import Progress
from recado.worker.reporting.pulse import Pulse
from recado.worker.settlement import Settlement
from recado.worker.stop import StopRequest
from recado.worker.ways.parking import Parking
from recado.worker.ways.sweep import Sweep

__all__ = ["Loop"]

log = structlog.get_logger(__name__)

#: Longest wait for records in seconds while nothing is under way.
IDLE_S = 0.1

#: The same while handlers are at work, whose results want settling.
BUSY_S = 0.02

#: Rest while there is no room to read, in seconds.
FULL_S = 0.01

#: A run that has been executing for two of these looks makes place for others that wait.
TURN_S = 0.1


class Loop:
    """Runs on one thread, which never runs users' code: so polling never stops, however slow a handler is."""

    def __init__(
        self,
        *,
        consumer: Consumer,
        holdings: Holdings,
        settlement: Settlement,
        delays: Delays,
        commits: Commits,
        flow: Flow,
        rebalance: Rebalance,
        stop: StopRequest,
        pulse: Pulse,
        oldest: Oldest,
        progress: Progress,
        guards: Sequence[Guard],
        pauses: Collection[Pause],
        sweep: Sweep,
        parking: Parking,
    ) -> None:
        self._consumer = consumer
        self._holdings = holdings
        self._settlement = settlement
        self._delays = delays
        self._commits = commits
        self._flow = flow
        self._rebalance = rebalance
        self._stop = stop
        self._pulse = pulse
        self._oldest = oldest
        self._progress = progress
        self._guards = guards
        self._pauses = pauses
        self._sweep = sweep
        self._parking = parking
        self._turn_at = 0.0
        self._wait_s = IDLE_S
        self._only_topic: str | None = None

    def run(self, topics: Sequence[str]) -> None:
        """Work until a stop is requested. Raises what makes going on senseless (NotAllowed, NoProcess, …)."""
        self._only_topic = topics[0] if len(topics) == 1 and not topics[0].startswith("^") else None
        self._consumer.subscribe(topics, self._rebalance)
        while not self._stop.requested:
            self._pulse.tick()
            messages = self._poll()
            self._offer(messages)
            self._settlement.settle()
            self._settlement.check()
            self._start_due()
            self._flow.adjust()
            self._commits.commit_some()
            self._sweep.some()

    def _poll(self) -> list[Message]:
        room = self._flow.room()
        if room:
            return self._consumer.consume(room, self._wait_s)
        time.sleep(FULL_S)
        return []

    def _offer(self, messages: list[Message]) -> None:
        now_ms = wall_clock_ms()
        for (topic, partition), found in self._by_partition(messages):
            epoch = self._holdings.get(TopicPartition(topic, partition))
            if epoch is None or epoch.closed:
                continue  # not ours (any more), or standing still: not committed, so it comes again
            if found[0].offset() <= epoch.tracker.last:
                epoch = self._begin_again(epoch.where, found[0].offset(), epoch.tracker.last)
            epoch.gaps.note(found)
            todo = take_in(epoch.tracker, found)
            epoch.stamps.note(found, now_ms)
            if len(todo) < len(found):
                WORKER_RECORDS.labels(topic, "done before").inc(len(found) - len(todo))
            if todo:
                epoch.held_bytes += sum(map(len, todo))
                if self._holdings.runner(topic).handler.parks:
                    todo = self._parking.admit(epoch, todo)
                self._hand_out(epoch, todo)

    def _hand_out(self, epoch: Epoch, messages: list[Message]) -> None:
        if messages and epoch.guard is not None:
            messages = epoch.guard.admit(epoch, messages)
        if messages:
            self._holdings.runner(epoch.topic).lanes.offer(epoch, messages)

    def _hand_out_again(self, epoch: Epoch, messages: list[Message]) -> None:
        """Their guard let them wait: meanwhile their keys may have been parked."""
        if self._holdings.runner(epoch.topic).handler.parks:
            messages = self._parking.let_pass(epoch, messages)
        self._hand_out(epoch, messages)

    def _by_partition(self, messages: list[Message]) -> Iterable[tuple[tuple[str, int], list[Message]]]:
        # The usual case, and this is done for every record; what comes back from a retry topic stands first.
        if self._only_topic is not None and not (messages and isinstance(messages[0], Returned)):
            by_number: defaultdict[int, list[Message]] = defaultdict(list)
            for message in messages:
                by_number[message.partition()].append(message)
            return [((self._only_topic, number), found) for number, found in by_number.items()]
        by_partition: defaultdict[tuple[str, int], list[Message]] = defaultdict(list)
        for message in messages:
            by_partition[message.topic(), message.partition()].append(message)
        return by_partition.items()

    def _begin_again(self, where: TopicPartition, offset: int, last: int) -> Epoch:
        """The log was cut or made anew below what was read already: what was read of the old one is void."""
        log.warning("offsets went back", topic=where.topic, partition=where.partition, offset=offset, was=last)
        self._rebalance.on_lost([where])
        self._rebalance.on_assign({where: None})
        self._consumer.went_back(where)
        return self._holdings.epochs[where]

    def _start_due(self) -> None:
        now = time.monotonic()
        for guard in self._guards:
            for epoch, messages in guard.due():
                self._hand_out_again(epoch, messages)
        parked, parked_s = self._parking.due()
        for epoch, messages in parked:
            self._hand_out(epoch, messages)
        for pause in self._pauses:
            pause.probe(now)
        for run in self._delays.pop_due(now):
            self._holdings.runner(run.epoch.topic).put(run)
        starving = self._flow.room() == 0
        waits = [r.lanes.start_due(now, whatever_is_there=starving) for r in self._holdings.runners]
        busy = any(epoch.held_records for epoch in self._holdings.epochs.values())
        self._wait_s = min(BUSY_S if busy else IDLE_S, self._delays.wait_s(now), parked_s, *waits)
        if now >= self._turn_at:
            self._turn_at = now + TURN_S
            self._take_turns()
            self._progress.look()

    def _take_turns(self) -> None:
        """A run that has been executing for long makes place: for runs that wait, or for its own other keys."""
        self._oldest.look()
        for runner in self._holdings.runners:
            crowded = runner.waiting() > 0
            for run in runner.executing():
                if run.halt and not run.epoch.closed:  # since the last look: its present record takes long
                    runner.lanes.split(run)
                run.halt = run.halt or (run.seen and (crowded or len(run.messages) > run.at + 1))
                run.seen = True
        WORKER_IN_FLIGHT.set(sum(epoch.held_records for epoch in self._holdings.epochs.values()))
