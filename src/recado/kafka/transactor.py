"""Transactions on a real cluster: records and a group's offsets, all of them or none, and never a doubt which.

librdkafka lacks the second part of KIP-890, so a transaction whose end is unknown is not waited for: the producer is
thrown away, a new one under the same transactional id has the coordinator finish or abort what was open
(``init_transactions``), and the group's committed offsets tell which it was.
https://cwiki.apache.org/confluence/display/KAFKA/KIP-447 (offsets under the group's own fencing)
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping, Sequence
from functools import partial

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka import TopicPartition as Position

from recado.errors import RecadoError
from recado.kafka.abstract import Committed, Enlisted, Message, Transacted
from recado.kafka.config import client_config, transactional_config
from recado.kafka.failures import delivery_failure
from recado.kafka.quiet import Seldom, quiet_logger
from recado.kafka.repeats import Repeats, doubtful
from recado.kafka.serve import serve, serve_all
from recado.record import Outgoing, TopicPartition
from recado.settings import Settings

__all__ = ["KafkaTransactor"]

log = structlog.get_logger(__name__)

#: How long one call to the transaction coordinator may take, in seconds, before the producer is thrown away.
CALL_S = 20.0

#: Rest before another producer, or another question, where no broker answers, in seconds.
AGAIN_S = 1.0

#: How long the coordinator may take to tell committed offsets, in seconds.
COMMITTED_S = 10.0

#: Rest while the producer's queue is full, in seconds.
FULL_S = 0.05


class KafkaTransactor:
    """Transacts for one group (the contract is ``abstract.Transactor``)."""

    def __init__(self, settings: Settings, group: str) -> None:
        self._settings = settings
        self._group = group
        member = {**settings.kafka, **settings.kafka_consumer}.get("group.instance.id") or uuid.uuid4().hex
        self._id = f"recado-{group}-{member}"
        self._client: Producer | None = None
        self._closed = threading.Event()
        self._seldom = Seldom()

    def transact(self, records: Sequence[Outgoing], enlisted: Enlisted) -> Transacted:
        """Block until all of it is in Kafka or nothing is."""
        client = self._client or self._connected()
        if client is None:
            return Transacted(False, why="closed")
        refused: dict[int, RecadoError] = {}
        doubts: list[str] = []
        ending = False
        try:
            client.begin_transaction()
            self._produce(client, records, refused, doubts)
            serve_all(client, CALL_S)  # committing does the same, but what is reported must be known before it ends
            if doubts:
                raise KafkaException(KafkaError(KafkaError._FAIL, doubts[0]))
            if not refused:
                client.send_offsets_to_transaction(_positions(enlisted.offsets), enlisted.membership, CALL_S)
                ending = True
                client.commit_transaction(CALL_S)
                return Transacted(True)
            error = KafkaError(KafkaError._PURGE_QUEUE)
        except KafkaException as failed:
            error = failed.args[0]
        if self._aborted(client, ending, error):
            return Transacted(False, refused, error.str())
        return self._resolve(enlisted, refused, error)

    def close(self) -> None:
        """Let the producer go."""
        self._closed.set()

    def _produce(
        self, client: Producer, records: Sequence[Outgoing], refused: dict[int, RecadoError], doubts: list[str]
    ) -> None:
        repeats = Repeats()
        for index, record in enumerate(records):
            reported = partial(_note, refused, doubts, repeats, records, index)
            while not self._closed.is_set():
                try:
                    client.produce(
                        record.topic, record.value, record.key, record.partition, reported, reported,
                        record.timestamp_ms, list(record.headers),
                    )  # fmt: skip
                    break
                except BufferError:
                    if (fatal := serve(client, FULL_S)) is not None:
                        raise KafkaException(fatal) from None
                except KafkaException as failed:
                    failure = delivery_failure(record.topic, failed.args[0])
                    if failure.code == "delivery-unknown":
                        raise
                    refused[index] = failure
                    break

    def _aborted(self, client: Producer, ending: bool, error: KafkaError) -> bool:
        """Whether it is certain that nothing of it is there, since the coordinator said that it is aborted."""
        if error.fatal() or (ending and not error.txn_requires_abort()):
            return False
        try:
            client.abort_transaction(CALL_S)
            return True
        except KafkaException:
            return False

    def _resolve(self, enlisted: Enlisted, refused: Mapping[int, RecadoError], error: KafkaError) -> Transacted:
        """Learn from Kafka what became of it: its coordinator finishes or aborts it for the next producer."""
        log.warning("transaction in doubt, asking Kafka", error=error.str(), code=error.name())
        self._client = None
        if self._connected() is None:
            return Transacted(False, refused, "closed")
        while not self._closed.is_set():
            try:
                found = self._committed(enlisted.offsets)
            except KafkaException as failed:
                self._say("committed offsets cannot be read", failed.args[0])
                self._closed.wait(AGAIN_S)
                continue
            done = all(found.get(where) == committed for where, committed in enlisted.offsets.items())
            log.info("transaction was committed" if done else "transaction was not committed", group=self._group)
            return Transacted(done, refused, "" if done else error.str())
        return Transacted(False, refused, "closed")

    def _connected(self) -> Producer | None:
        """A producer whose earlier transaction is settled; None when closed meanwhile."""
        while not self._closed.is_set():
            try:
                client = Producer(transactional_config(self._settings, self._id), logger=quiet_logger())
                client.init_transactions(CALL_S)
                self._client = client
                return client
            except KafkaException as failed:
                self._say("no transactional producer", failed.args[0])
                self._closed.wait(AGAIN_S)
        return None

    def _committed(self, wanted: Mapping[TopicPartition, Committed]) -> dict[TopicPartition, Committed]:
        # A consumer's own question: those of an admin client were seen to end the process with a dying coordinator.
        consumer = Consumer(
            {**client_config(self._settings), "group.id": self._group, "isolation.level": "read_committed"},
            logger=quiet_logger(),
        )
        try:
            found = consumer.committed([Position(*where) for where in wanted], timeout=COMMITTED_S)
        finally:
            consumer.close()
        return {TopicPartition(p.topic, p.partition): Committed(p.offset, p.metadata or "") for p in found}

    def _say(self, event: str, error: KafkaError) -> None:
        if self._seldom.now(event + error.name()):
            log.warning(event, group=self._group, error=error.str(), code=error.name(), again_s=AGAIN_S)


def _positions(offsets: Mapping[TopicPartition, Committed]) -> list[Position]:
    return [Position(*where, committed.offset, metadata=committed.metadata) for where, committed in offsets.items()]


def _note(
    refused: dict[int, RecadoError],
    doubts: list[str],
    repeats: Repeats,
    records: Sequence[Outgoing],
    index: int,
    error: KafkaError | None,
    message: Message,
) -> None:
    """A delivery report: only what was refused for good, or is in doubt, matters; the transaction says the rest."""
    if error is None and repeats.has(message):
        doubts.append(str(doubtful(records[index].topic)))
    if error is not None:
        failure = delivery_failure(records[index].topic, error)
        if failure.code != "delivery-unknown":
            refused[index] = failure
