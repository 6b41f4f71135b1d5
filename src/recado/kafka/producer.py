"""The producer on a real cluster: one client, one thread that serves its delivery reports."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NoReturn

import structlog
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import Producer as Client
from confluent_kafka.admin import ClusterMetadata

from recado.errors import Backpressure, KafkaUnreachable, RecadoError
from recado.kafka.abstract import Message
from recado.kafka.blind import Blindness
from recado.kafka.delivery import Delivery, Summary
from recado.kafka.failures import client_failure, delivery_failure, is_unreachable
from recado.kafka.quiet import Seldom, quiet_logger
from recado.kafka.repeats import Repeats, doubtful
from recado.kafka.serve import serve

__all__ = ["KafkaProducer"]

log = structlog.get_logger(__name__)

#: Longest rest of the report thread between two looks at whether it shall stop, in seconds.
POLL_S = 0.1

#: A client that was replaced is looked after for so long, in seconds: somebody may just have been giving it records.
RETIRED_S = 5.0

#: With records waiting and no report for so long, in seconds, the client may know no broker any more.
SILENT_S = 2.0

#: Rest before another try where no client can be made in place of one that must be replaced, in seconds.
ANEW_S = 1.0

QUEUE_FULL = "The producer's queue is full: Kafka takes records slower than they come."


class _Ended:
    """Stands where a closed producer's client was: has no records and takes none."""

    def __len__(self) -> int:
        return 0

    def produce(self, *record: object) -> NoReturn:
        raise KafkaUnreachable("The producer is closed, so nothing was sent.")

    def poll(self, timeout_s: float) -> int:
        return 0

    def purge(self) -> None: ...

    def list_topics(self, topic: str | None = None, timeout: float = -1) -> ClusterMetadata:
        raise KafkaException(KafkaError(KafkaError._DESTROY))


class KafkaProducer:
    """Writes records to a real cluster (the contract is ``abstract.Producer``).

    ``on_unreachable`` is called, from any thread, when librdkafka says that no broker answers.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        on_unreachable: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_unreachable = on_unreachable
        self._seldom = Seldom()
        # What could not even be queued is reported by the report thread too: one writer per delivery.
        self._refused: deque[tuple[Delivery, int, RecadoError]] = deque()
        self._config = config
        #: Why the client must be replaced, or "", and not before which moment (monotonic seconds).
        self._is_done = ""
        self._anew_at = 0.0
        #: How many clients there were.
        self._generation = 0
        self.client: Client | _Ended = self._connected()
        #: Those that were replaced, and until when they are looked after.
        self._retired: list[tuple[Client | _Ended, float]] = []
        self._blindness = Blindness(lambda: Client(dict(config), logger=quiet_logger()))
        #: Records that waited at the last look, and when they last grew fewer.
        self._left = 0
        self._repeats = Repeats()
        self._moved_at = time.monotonic()
        self._closing = threading.Event()
        # Whoever holds this serves reports, so that each delivery has one writer.
        self._serving = threading.Lock()
        self._handed_back = threading.Event()
        self._handed_back.set()
        self._reports = threading.Thread(target=self._serve_reports, name="recado-reports", daemon=True)
        self._reports.start()

    def _connected(self) -> Client:
        on_error = partial(self._on_error, self._generation + 1)
        try:
            client = Client({**self._config, "error_cb": on_error}, logger=quiet_logger())
        except KafkaException as error:
            raise client_failure(error, "the producer's settings") from error
        self._generation += 1
        return client

    def send(self, delivery: Delivery) -> None:
        """Queue the delivery's records in their order (see ``abstract.Producer``)."""
        produce = self.client.produce
        report: Callable[..., None] = self._count if isinstance(delivery, Summary) else self._note
        for index, record in enumerate(delivery.records):
            reported = partial(report, delivery, index)
            try:
                # By position: naming these arguments was a tenth of the time of a large request.
                produce(
                    record.topic,
                    record.value,
                    record.key,
                    record.partition,
                    reported,
                    reported,
                    record.timestamp_ms,
                    record.headers,  # type: ignore[arg-type]  # its stub forgets that lists are invariant
                )
            except BufferError:
                self._refused.append((delivery, index, Backpressure(QUEUE_FULL)))
            except KafkaException as error:
                self._refused.append((delivery, index, delivery_failure(record.topic, error.args[0])))
            except KafkaUnreachable as error:  # it is closed: no thread reports any more
                delivery.settle(index, error)

    def _note(self, delivery: Delivery, index: int, error: KafkaError | None, message: Message) -> None:
        """One delivery report: where the record lies, or why it does not."""
        if error is not None or self._repeats.has(message):
            _settle_failed(delivery, index, error)
        else:
            delivery.settle(index, (message.partition(), message.offset(), message.timestamp()[1]))

    def _count(self, delivery: Summary, index: int, error: KafkaError | None, message: Message) -> None:
        """One delivery report of a summary, which does not ask where the record lies."""
        if error is not None or self._repeats.has(message):
            _settle_failed(delivery, index, error)
        else:
            delivery.confirmed[index] = 1
            delivery.outstanding -= 1
            if not delivery.outstanding:
                delivery.complete()

    def outstanding(self) -> int:
        """Count the records whose report is still to come."""
        return len(self.client) + sum(len(client) for client, _ in self._retired)

    def suspect(self) -> None:
        """Look soon whether the client still knows a broker, and replace it if only others do."""
        client = self.client
        self._blindness.suspect(client, lambda: self._replace(client, "it knew no broker any more, though others do"))

    def close(self, timeout_s: float) -> int:
        """Flush, stop the report thread, let the client go, and tell how many records were given up."""
        deadline = time.monotonic() + timeout_s
        while (left := self.outstanding()) and time.monotonic() < deadline:
            time.sleep(0.005)  # reports are served by the report thread meanwhile
        self._closing.set()
        self._reports.join(POLL_S * 5)
        # librdkafka's threads and connections end with the last reference.
        self.client, self._retired = _Ended(), []
        return left

    def take_over(self) -> None:
        """Let the caller serve the reports by ``serve`` until ``hand_back``."""
        self._handed_back.clear()

    def hand_back(self) -> None:
        """Let the report thread serve again."""
        self._handed_back.set()

    def serve(self) -> None:
        """Serve the reports that are there, unless the report thread is at it."""
        if self._serving.acquire(blocking=False):
            try:
                self._serve(0)
            finally:
                self._serving.release()

    def _serve_reports(self) -> None:
        while not self._closing.is_set():
            # Where somebody took over and then got stuck, reports still come, ten times a second.
            handed_back = self._handed_back.wait(POLL_S)
            with self._serving:
                self._serve(POLL_S if handed_back and not self._refused else 0)
                if self._is_done and time.monotonic() >= self._anew_at and not self._closing.is_set():
                    self._start_anew()
                if self._retired:
                    self._serve_retired()
            if time.monotonic() - self._moved_at > SILENT_S:
                self.suspect()

    def _serve(self, timeout_s: float) -> None:
        generation = self._generation
        if (fatal := serve(self.client, timeout_s)) is not None:
            self._on_error(generation, fatal)
        left = len(self.client)
        if not left or left < self._left:
            self._moved_at = time.monotonic()
        self._left = left
        while self._refused:
            delivery, index, error = self._refused.popleft()
            delivery.settle(index, error)

    def _replace(self, client: Client | _Ended, why: str) -> None:
        if client is self.client:
            self._is_done = why

    def _start_anew(self) -> None:
        """Replace a client that is of no use any more: an idempotent one takes nothing after a fatal error.

        What it still held is reported as unknown: some of it may be in Kafka. Where no other can be made (a file of
        its settings is gone), it stays for now.
        """
        old, why = self.client, self._is_done
        try:
            self.client, self._is_done = self._connected(), ""
        except RecadoError as error:
            self._anew_at = time.monotonic() + ANEW_S
            if self._seldom.now("not replaced"):
                log.error("producer cannot be replaced, trying again", why=why, error=str(error), again_s=ANEW_S)
            return
        self._retired.append((old, time.monotonic() + RETIRED_S))
        log.warning("producer replaced", why=why, records=len(old))

    def _serve_retired(self) -> None:
        now = time.monotonic()
        for client, _ in self._retired:
            client.purge()
            serve(client, 0)
        self._retired = [(client, until) for client, until in self._retired if len(client) or until > now]

    def _on_error(self, generation: int, error: KafkaError) -> None:
        if generation != self._generation:
            return  # of a client that was replaced
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._on_unreachable()
        if error.fatal():
            self._is_done = "a fatal error"
        if self._seldom.now(error.name()):
            log.log(*_level(error), error=error.str(), code=error.name())


def _settle_failed(delivery: Delivery, index: int, error: KafkaError | None) -> None:
    """A report that confirms nothing; without an error it tells of a repeat."""
    topic = delivery.records[index].topic
    delivery.settle(index, doubtful(topic) if error is None else delivery_failure(topic, error))


def _level(error: KafkaError) -> tuple[int, str]:
    if error.fatal():
        return 50, "producer failed for good"
    return (30, "kafka unreachable") if is_unreachable(error) else (40, "kafka error")
