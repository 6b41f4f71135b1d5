"""Puts the parts of a worker together around one consumer."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from recado.kafka.abstract import Consumer, Coordinator, Outlet, Reader
from recado.kafka.lending import ShareConsumer
from recado.outcomes.delay_service import DelayService
from recado.record import TopicPartition
from recado.settings import Settings
from recado.worker.commits import Commits
from recado.worker.drain import Drain, Remaining
from recado.worker.handling.crew import Crew
from recado.worker.handling.delays import Delays
from recado.worker.handling.done_ids import DoneIds
from recado.worker.handling.flow import Flow
from recado.worker.handling.guard import Guard
from recado.worker.handling.handlers import Handlers
from recado.worker.handling.holdings import Holdings
from recado.worker.handling.pause import Pause
from recado.worker.handling.runner import Runner
from recado.worker.loop import Loop
from recado.worker.rebalance import Rebalance
from recado.worker.reporting.audit import Audit
from recado.worker.reporting.health import Reason
from recado.worker.reporting.oldest import AtWork, Oldest
from recado.worker.reporting.progress import Progress
from recado.worker.reporting.pulse import Pulse
from recado.worker.reporting.readiness import reasons_not_ready
from recado.worker.settlement import Settlement
from recado.worker.share import MOST_PER_THREAD, ShareLoop
from recado.worker.stop import StopRequest
from recado.worker.ways.ahead import Ahead
from recado.worker.ways.exit_topics import ExitTopics
from recado.worker.ways.exits import Exits
from recado.worker.ways.leaving import Leaving
from recado.worker.ways.outbound import Outbound
from recado.worker.ways.parking import Parking
from recado.worker.ways.returns import Returns
from recado.worker.ways.sweep import Sweep
from recado.worker.ways.transactions import Transactions

__all__ = ["Engine", "assemble"]

#: How long the delay line may take to leave its group at the end, in seconds; it has had the time of the drain already.
LINE_S = 3.0

#: librdkafka's default of max.poll.interval.ms: how long a member may stay away before the group expels it.
DEFAULT_POLL_INTERVAL_MS = 300_000


@dataclass(frozen=True, slots=True)
class Engine:
    """A worker that is ready to run: its loop, how it ends, and what can be told of it."""

    topics: list[str]
    consumer: Consumer | ShareConsumer
    holdings: Holdings
    stop: StopRequest
    loop: Callable[[Sequence[str]], None]
    drain: Callable[[], list[Remaining]]
    pulse: Pulse
    oldest: Oldest
    outbound: Outbound
    exits: Exits
    guards: list[Guard]
    pauses: list[Pause]
    audit: Audit | None = None
    progress: Progress | None = None
    #: Brings back what waits for its next attempt.
    delaying: DelayService | None = None
    #: Lets go what it sends through.
    disconnect: Callable[[], None] = lambda: None

    def run(self) -> list[Remaining]:
        """Work until a stop is requested, then drain, whatever ended the work; return what remains undone."""
        for runner in self.holdings.runners:
            runner.start()
        self.pulse.start()
        if self.delaying is not None:
            self.delaying.start()
        if self.audit is not None:
            self.audit.start()
        try:
            self.loop(self.topics)
        finally:
            self.pulse.stop()
            if self.audit is not None:
                self.audit.stop()
            if self.delaying is not None:
                self.delaying.stop()
            remaining = self.drain()
            self.exits.close()
            self.outbound.close()
            if self.delaying is not None:
                self.delaying.join(LINE_S)
            self.disconnect()
            for guard in self.guards:
                guard.close()
        return remaining

    def why_dead(self) -> str:
        """Why it is not live any more, or "" (any thread)."""
        return self.pulse.why_dead()

    def at_work(self) -> list[AtWork]:
        """The calls of handlers that last, the longest first (any thread)."""
        return self.oldest.at_work()

    def partitions(self) -> list[dict[str, Any]]:
        """How far each partition is that this member holds (any thread)."""
        return [
            {
                "topic": epoch.topic,
                "partition": epoch.partition,
                "position": epoch.tracker.position(),
                "committed": epoch.committed.offset if epoch.committed else None,
                "not_done": epoch.tracker.pending,
            }
            for epoch in sorted(self.holdings.snapshot(), key=lambda epoch: epoch.where)
        ]

    def reasons_not_ready(self) -> list[Reason]:
        """Why it is not ready now (any thread)."""
        ends = self.stop.requested or self.holdings.draining
        return reasons_not_ready(self.consumer, self.holdings, self.guards, self.pauses, self.audit, ends=ends)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a worker is made of, whoever it reads from."""

    handlers: Handlers
    crew: Crew
    settings: Settings
    group: str
    outlet: Callable[[], Outlet]
    dead_letter_headers: str
    stop: StopRequest
    chance: Callable[[], float]
    #: Whether a share group lends it records: those cannot wait for the end of a pause.
    lends: bool

    def guards(self) -> dict[Runner, Guard]:
        """A guard for each handler that asks for one; they share the group's store."""
        store = functools.cache(lambda: DoneIds(self.settings.data_dir / "done-ids", self.group))
        return {
            runner: Guard(store=store, window_s=window_s, order=runner.handler.order, clock=time.monotonic)
            for runner in self.crew.runners
            if (window_s := runner.handler.window_s) is not None
        }

    def holdings(
        self,
        guards: Mapping[Runner, Guard],
        homes: Mapping[TopicPartition, TopicPartition],
        topic_id: Callable[[str], str],
    ) -> Holdings:
        """What it holds: nothing yet."""
        find = _finder(self.handlers, self.settings.topic, self.crew.runners)
        return Holdings(
            group=self.group, runners=self.crew.runners, find=find, guards=guards, homes=homes, topic_id=topic_id
        )

    def delaying(self, outlet: Outlet) -> DelayService:
        """Who moves on what waits in delay topics."""
        return DelayService(
            clients=outlet.clients, catalog=outlet.topics, max_record_bytes=self.settings.max_record_bytes
        )

    def exits(self, outbound: Outbound, outlet: Callable[[], Outlet], delaying: Callable[[], DelayService]) -> Exits:
        """The ways out of a partition."""
        topics = ExitTopics(
            outlet=outlet,
            delay_topics=lambda: delaying().topics,
            max_record_bytes=self.settings.max_record_bytes,
        )
        return Exits(outbound=outbound, topics=topics, family=self.dead_letter_headers)

    def settlement(
        self, holdings: Holdings, delays: Delays, outbound: Outbound, exits: Exits, parking: Parking | None
    ) -> Settlement:
        """Who takes back from the threads what they are through with."""
        clock = time.monotonic
        return Settlement(
            holdings=holdings,
            returned=self.crew.returned,
            delays=delays,
            outbound=outbound,
            exits=exits,
            leaving=Leaving(
                holdings=holdings, delays=delays, exits=exits, parking=parking, lends=self.lends, clock=clock
            ),
            pauses={} if self.lends else self.crew.pauses,
            clock=clock,
            chance=self.chance,
        )


def assemble(parts: Parts, member: Consumer, coordinator: Coordinator, reader: Callable[[], Reader]) -> Engine:
    """Wire a worker that is a member of a consumer group."""
    clock, delays, settings, stop = time.monotonic, Delays(), parts.settings, parts.stop
    guards, outlet = parts.guards(), functools.cache(parts.outlet)
    delaying = parts.delaying(outlet())
    consumer = Returns(consumer=member, reader=reader, topics=lambda: outlet().topics, group=parts.group, clock=clock)
    holdings = parts.holdings(guards, consumer.homes, consumer.topic_id)
    transactions = Transactions(
        consumer=consumer, holdings=holdings, transactor=lambda: outlet().transactor(parts.group), clock=clock
    )
    outbound = Outbound(tray=parts.crew.tray, connect=lambda: outlet().producer, transactions=transactions, clock=clock)
    exits = parts.exits(outbound, outlet, lambda: delaying)
    flow = Flow(consumer=consumer, holdings=holdings, clock=clock)
    ahead = Ahead(reader=reader, clock=clock)
    parking = Parking(
        holdings=holdings, exits=exits, flow=flow, ahead=ahead, topics=lambda: outlet().topics, clock=clock
    )
    settlement = parts.settlement(holdings, delays, outbound, exits, parking)
    commits = Commits(consumer=consumer, holdings=holdings, transactions=transactions, clock=clock)
    pulse, oldest = Pulse(), Oldest(holdings)
    rebalance = Rebalance(
        holdings=holdings,
        settlement=settlement,
        commits=commits,
        flow=flow,
        stop=stop,
        pulse=pulse,
        drain_s=min(settings.drain_s, _poll_interval_s(settings) / 2),
    )
    pauses = list(parts.crew.pauses.values())
    audit = Audit(
        coordinator=coordinator,
        consumer=consumer,
        holdings=holdings,
        delays=delays,
        pauses=parts.crew.pauses,
        parking=parking,
    )
    progress = Progress(holdings=holdings, ends=audit.ends, clock=clock)
    sweep = Sweep(group=parts.group, holdings=holdings, clients=lambda: outlet().clients, reader=reader, clock=clock)
    loop = Loop(
        consumer=consumer,
        holdings=holdings,
        settlement=settlement,
        delays=delays,
        commits=commits,
        flow=flow,
        rebalance=rebalance,
        stop=stop,
        pulse=pulse,
        oldest=oldest,
        progress=progress,
        guards=list(guards.values()),
        pauses=pauses,
        sweep=sweep,
        parking=parking,
    )
    drain = Drain(
        consumer=consumer,
        holdings=holdings,
        settlement=settlement,
        commits=commits,
        flow=flow,
        stop=stop,
        drain_s=settings.drain_s,
    )
    topics, kept = parts.handlers.subscription(settings.topic), list(guards.values())
    return Engine(
        topics,
        consumer,
        holdings,
        stop,
        loop.run,
        drain.run,
        pulse,
        oldest,
        outbound,
        exits,
        kept,
        pauses,
        audit,
        progress,
        delaying,
        partial(_disconnect, outlet(), [sweep, ahead]),
    )


def _disconnect(outlet: Outlet, readers: Sequence[Sweep | Ahead]) -> None:
    """What is not confirmed by now is not committed either, so it comes again."""
    for reader in readers:
        reader.close()
    outlet.topics.close()
    outlet.producer.close(0.0)


def assemble_share(parts: Parts, consumer: ShareConsumer) -> Engine:
    """Wire a worker that is a member of a share group."""
    delays, guards, outlet = Delays(), parts.guards(), functools.cache(parts.outlet)
    holdings = parts.holdings(guards, {}, lambda topic: "")
    outbound = Outbound(
        tray=parts.crew.tray, connect=lambda: outlet().producer, transactions=None, clock=time.monotonic
    )
    exits = parts.exits(outbound, outlet, lambda: parts.delaying(outlet()))
    pulse, oldest = Pulse(), Oldest(holdings)
    loop = ShareLoop(
        consumer=consumer,
        holdings=holdings,
        settlement=parts.settlement(holdings, delays, outbound, exits, None),
        delays=delays,
        stop=parts.stop,
        pulse=pulse,
        oldest=oldest,
        guards=list(guards.values()),
        drain_s=parts.settings.drain_s,
    )
    topics, kept = parts.handlers.subscription(parts.settings.topic), list(guards.values())
    return Engine(
        topics, consumer, holdings, parts.stop, loop.run, loop.drain, pulse, oldest, outbound, exits, kept, []
    )


def most_at_once(parts: Parts) -> int:
    """How many records a share group lends at once: some for each thread or task, or a batch."""
    return max(
        handler.batch[0] if handler.batch else MOST_PER_THREAD * handler.concurrency for handler in parts.handlers.all
    )


def _finder(handlers: Handlers, default_topic: str, runners: Sequence[Runner]) -> Callable[[str], Runner | None]:
    """The way from a topic to the runner of its handler."""
    by_handler = {id(runner.handler): runner for runner in runners}

    def find(topic: str) -> Runner | None:
        handler = handlers.find(topic, default_topic)
        return None if handler is None else by_handler[id(handler)]

    return find


def _poll_interval_s(settings: Settings) -> float:
    given = settings.kafka_consumer.get("max.poll.interval.ms") or settings.kafka.get("max.poll.interval.ms")
    return int(given or DEFAULT_POLL_INTERVAL_MS) / 1000
