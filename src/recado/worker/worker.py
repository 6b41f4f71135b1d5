"""The worker: what users declare handlers on and run."""

from __future__ import annotations

import asyncio
import random
import signal
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from types import FrameType
from typing import Any, TypeVar

import structlog

from recado.errors import ConfigurationError, HandlerError, NoProcess, RecadoError
from recado.kafka.abstract import Consumer, Coordinator, Outlet, Reader
from recado.kafka.cluster import connect_outlet
from recado.kafka.config import consumer_config
from recado.kafka.consumer import KafkaConsumer
from recado.kafka.lending import ShareConsumer
from recado.kafka.reader import KafkaReader
from recado.kafka.share_consumer import KafkaShareConsumer
from recado.outcomes.backoff import Backoff
from recado.outcomes.breaker import Breaker
from recado.outcomes.dead_letter import FAMILIES
from recado.outcomes.outcome import Outcome
from recado.record import Record
from recado.settings import GROUP_RULE, Settings, from_process, is_group_name
from recado.telemetry import logs
from recado.worker.assembly import Engine, Parts, assemble, assemble_share, most_at_once
from recado.worker.drain import Remaining
from recado.worker.ending import EXIT_S, end_within
from recado.worker.handling.crew import crew_of
from recado.worker.handling.handlers import ENGINES, Handlers, declare
from recado.worker.handling.trial import try_once
from recado.worker.reporting.apart import CoordinatorApart
from recado.worker.reporting.exposure import expose
from recado.worker.reporting.health import HealthPort
from recado.worker.stop import StopRequest

__all__ = ["Worker"]

log = structlog.get_logger(__name__)

Function = TypeVar("Function", bound=Callable[..., Any])

#: How a worker comes to Kafka: (settings, group) → consumer. Tests pass the in-memory twin.
ConsumerFactory = Callable[[Settings, str], Consumer]

#: Likewise: (settings, group) → reader of what comes back through retry topics.
ReaderFactory = Callable[[Settings, str], Reader]

#: Likewise: (settings, group) → what Kafka says of the group. Called before there are threads.
CoordinatorFactory = Callable[[Settings, str], Coordinator]

#: Likewise, for a share group: (settings, group, records at once) → share consumer.
ShareConsumerFactory = Callable[[Settings, str, int], ShareConsumer]

#: Likewise: settings → what it sends through. Called once.
OutletFactory = Callable[[Settings], Outlet]


def kafka_consumer(settings: Settings, group: str) -> Consumer:
    """A consumer on the cluster that the settings name."""
    return KafkaConsumer(consumer_config(settings, group))


class Worker:
    """Runs handlers for the records of topics, and commits only what is done.

    ``group`` and ``settings`` default to those of the process (environment, ``recado.toml``), read when it runs.
    ``dead_letter_headers`` says whose names a dead letter's headers have: ``kafka``, ``connect`` or ``spring``.
    ``engine`` is for handlers that name none: ``group`` (a consumer group) or ``share`` (a share group, a preview).
    """

    def __init__(
        self,
        group: str | None = None,
        *,
        settings: Settings | None = None,
        dead_letter_headers: str = "kafka",
        engine: str = "group",
    ) -> None:
        if engine not in ENGINES:
            raise ConfigurationError(f"Worker(engine={engine!r}): it must be one of {', '.join(ENGINES)}.")
        self._engine = engine
        if not isinstance(dead_letter_headers, str) or dead_letter_headers not in FAMILIES:
            rule = f"it must be one of {', '.join(FAMILIES)}"
            raise ConfigurationError(f"Worker(dead_letter_headers={dead_letter_headers!r}): {rule}.")
        if group is not None and not (isinstance(group, str) and is_group_name(group)):
            rule = f"it must be {GROUP_RULE}, or None for the group of the settings"
            raise ConfigurationError(f"Worker(group={group!r}): {rule}.")
        if settings is not None and not isinstance(settings, Settings):
            raise ConfigurationError(f"Worker(settings={settings!r}): it must be Settings, or None.")
        self._dead_letter_headers = dead_letter_headers
        self._group = group
        self._settings = settings
        self._stop = StopRequest()
        self.handlers = Handlers()

    @property
    def group(self) -> str | None:
        """The group that it was made with; None where the settings name it."""
        return self._group

    def handler(
        self,
        *topics: str | Iterable[str],
        concurrency: int = 1,
        order: str = "key",
        retry: Backoff | Mapping[type[BaseException], Backoff | None] | None = Backoff(),  # noqa: B008  # a frozen value
        batch: tuple[int, float] | None = None,
        timeout_s: float | None = None,
        exactly_once: bool = False,
        deduplicate: timedelta | None = None,
        engine: str | None = None,
        breaker: Breaker | None = Breaker(),  # noqa: B008  # a frozen value
    ) -> Callable[[Function], Function]:
        r"""Declare a handler for topic names and patterns (``"^orders\..*"``); none means ``RECADO_TOPIC``.

        ``concurrency`` records are handled at once; ``order`` is ``"key"`` (one of a key at a time, in order),
        ``"partition"`` or ``"none"``. The parameter's annotation decides what arrives: Record, bytes, str, dict,
        Any (JSON), a dataclass or a msgspec.Struct, each ``| None`` to take tombstones; with
        ``batch=(size, wait_s)`` a list of one of these. ``retry`` is a Backoff, None, or one per exception class.
        A call that takes longer than ``timeout_s`` seconds has failed (HandlerTimeout): an ``async def`` is cancelled;
        a ``def`` runs in a process of its own, ``concurrency`` of them, and that is killed.
        ``exactly_once`` puts what the handler sends and the offset of its record into one transaction.
        ``deduplicate`` skips a record whose ``recado-id`` was done within that time; a second copy waits for the first.
        ``breaker`` says when the handler pauses because nearly everything fails; None: never.
        ``engine="share"`` (a preview; Kafka 4.2 and later) reads as a share group; all handlers of a worker alike.
        Raises HandlerError at once for a declaration that cannot work.
        """

        def register(function: Function) -> Function:
            self.handlers.add(
                declare(
                    function,
                    topics=topics,
                    concurrency=concurrency,
                    order=order,
                    retry=retry,
                    batch=batch,
                    timeout_s=timeout_s,
                    exactly_once=exactly_once,
                    deduplicate=deduplicate,
                    engine=engine,
                    breaker=breaker,
                )
            )
            return function

        return register

    def run(
        self,
        *,
        settings: Settings | None = None,
        consumer: ConsumerFactory = kafka_consumer,
        outlet: OutletFactory = connect_outlet,
        share_consumer: ShareConsumerFactory = KafkaShareConsumer,
        coordinator: CoordinatorFactory = CoordinatorApart,
        reader: ReaderFactory = KafkaReader,
    ) -> None:
        """Work until SIGTERM, SIGINT or ``stop``; then finish what executes, commit and return.

        As the last line of a program it also ends it: SystemExit with 3 when records were still being handled
        after ``RECADO_DRAIN_S``, a partition stood still at one that failed, or done ones could not be committed
        (they are named, and come again), or no process is there any more for a handler with a ``timeout_s``; with 2
        when settings or handlers are wrong.
        """
        try:
            settings = settings or self._settings or from_process().settings
            logs.set_up(format=settings.log_format, level=settings.log_level)
            remaining = self._work(settings, consumer, outlet, share_consumer, coordinator, reader)
        except RecadoError as error:
            log.error("worker cannot run", error=str(error), code=error.code)
            raise SystemExit(3 if isinstance(error, NoProcess) else 2) from error
        if remaining:
            if self._stop.by_signal:
                end_within(EXIT_S, 3)
            raise SystemExit(3)

    def stop(self) -> None:
        """Ask a running worker to stop, from any thread; asked twice, it waits for no handler any more."""
        self._stop.request()

    def test(self, record: Record | Sequence[Record]) -> Outcome:
        """Run the handler of the record's topic once, without Kafka, and tell what would come of it.

        A sequence of records goes to a ``batch`` handler. A delay is told without its jitter. Errors of the handler
        are not raised: they are in the outcome.
        """
        records = [record] if isinstance(record, Record) else list(record)
        if not records:
            raise HandlerError("test needs a record.")
        default = (self._settings or from_process().settings).topic
        handler = self.handlers.find(records[0].topic, default)
        if handler is None and len(self.handlers.all) == 1 and not records[0].topic:
            handler = self.handlers.all[0]
        if handler is None:
            raise HandlerError(f"no handler for topic {records[0].topic!r}; this worker has {self._shown()}.")
        if len(records) > 1 and handler.batch is None:
            raise HandlerError(f"{handler.name} takes one record at a time.")
        return try_once(handler, records, run_coroutine=asyncio.run)

    def _work(
        self,
        settings: Settings,
        consumer: ConsumerFactory,
        outlet: OutletFactory,
        share_consumer: ShareConsumerFactory,
        coordinator: CoordinatorFactory,
        reader: ReaderFactory,
    ) -> list[Remaining]:
        if not self.handlers.all:
            raise ConfigurationError("This worker has no handler; declare one with @worker.handler('topic').")
        group = self._group or settings.group
        shares = self.handlers.engine(self._engine) == "share"
        crew = crew_of(self.handlers.all)  # before there are threads, like the next
        asking = None if shares else coordinator(settings, group)
        parts = Parts(
            handlers=self.handlers,
            crew=crew,
            settings=settings,
            group=group,
            outlet=partial(outlet, settings),
            dead_letter_headers=self._dead_letter_headers,
            stop=self._stop,
            chance=random.random,
            lends=shares,
        )
        if asking is None:
            log.warning("engine share is a preview", group=group, needs="Kafka 4.2 or later")
            engine = assemble_share(parts, share_consumer(settings, group, most_at_once(parts)))
        else:
            engine = assemble(parts, consumer(settings, group), asking, partial(reader, settings, group))
        port = HealthPort(
            host=settings.worker_host,
            port=settings.worker_port,
            reasons=engine.reasons_not_ready,
            why_dead=engine.why_dead,
            more=partial(_report, engine),
        )
        log.info(
            "worker started",
            group=group,
            topics=" ".join(engine.topics),
            handlers=self._shown(),
            health=f"http://{settings.worker_host}:{port.port}/health/ready",
        )
        end_exposure = expose(engine.reasons_not_ready, engine.progress)
        before = _listen_to_signals(self._stop, partial(_say_report, engine))
        try:
            remaining = engine.run()
        finally:
            _restore_signals(before)
            end_exposure()
            port.close()
        _say_goodbye(group, engine, remaining)
        return remaining

    def _shown(self) -> str:
        return ", ".join(f"{handler.name}(concurrency={handler.concurrency})" for handler in self.handlers.all)


def _say_goodbye(group: str, engine: Engine, remaining: list[Remaining]) -> None:
    if not remaining:
        log.info("worker stopped", group=group)
        return
    for topic, partition, offset, reason in remaining:
        log.error("left behind", topic=topic, partition=partition, offset=offset, reason=reason)
    log.error(
        "worker stopped with work left behind",
        group=group,
        where=" ".join(f"{topic}/{partition}/{offset}" for topic, partition, offset, _ in remaining[:10]),
        remedy="handled again at the next start; where a handler or a commit was late, RECADO_DRAIN_S gives more time",
    )


def _report(engine: Engine) -> dict[str, Any]:
    return {"partitions": engine.partitions(), "at_work": [call.told() for call in engine.at_work()]}


def _say_report(engine: Engine) -> None:
    """What SIGUSR1 asks: how far each partition is, and what the handlers are at."""
    for partition in engine.partitions():
        log.info("partition", **partition)
    calls = engine.at_work()
    for call in calls:
        log.info("at work", **call.told())
    if not calls:
        log.info("no handler has been at a record for a second or more")


def _listen_to_signals(stop: StopRequest, report: Callable[[], None]) -> dict[int, Any]:
    if threading.current_thread() is not threading.main_thread():
        return {}  # only the main thread may; whoever runs a worker elsewhere calls stop()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.by_signal = True
        stop.request()

    def on_question(number: int, frame: FrameType | None) -> None:
        # On a thread: a log line in the middle of another one would wait for itself.
        threading.Thread(target=report, name="recado-report", daemon=True).start()

    wished = {signal.SIGTERM: on_signal, signal.SIGINT: on_signal, signal.SIGUSR1: on_question}
    return {number: signal.signal(number, handler) for number, handler in wished.items()}


def _restore_signals(before: dict[int, Any]) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)
