"""Makes clients of a real cluster, for a part of recado that needs its own."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import Future
from functools import partial

import structlog
from confluent_kafka import KafkaException

from recado.errors import KafkaUnreachable, RecadoError
from recado.kafka.admin import Admin
from recado.kafka.config import OF_A_MEMBER, consumer_config, copying_config
from recado.kafka.consumer import KafkaConsumer
from recado.kafka.producer import KafkaProducer
from recado.kafka.quiet import Seldom
from recado.record import TopicPartition
from recado.settings import Settings

__all__ = ["ClusterClients"]

log = structlog.get_logger(__name__)

#: Copies of a topic that recado creates for itself, where the cluster has so many brokers: one may be lost while
#: another is down for maintenance.
REPLICAS = 3

#: How long the producer gathers records, in milliseconds: they come in bursts, and 5 ms late is on time.
LINGER_MS = 5

#: How long a topic that the cluster does not know may yet appear, in milliseconds; whoever sends has looked before.
PROPAGATION_MS = 5000

#: A dead member's partitions go to others after so long, the least that brokers allow by default.
SESSION_TIMEOUT_MS = 6000

#: How long a fetch may wait for records, in milliseconds: a partition that is read on joins the next fetch.
FETCH_WAIT_MS = 100


class ClusterClients:
    """Makes clients of the cluster that the settings name (the contract is ``abstract.Clients``)."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._admin: Admin | None = None
        self._seldom = Seldom()

    def producer(self) -> KafkaProducer:
        """A new producer."""
        config = copying_config(self._settings)
        return KafkaProducer({**config, "linger.ms": LINGER_MS, "topic.metadata.propagation.max.ms": PROPAGATION_MS})

    def consumer(self, group: str) -> KafkaConsumer:
        """A new member of a group."""
        wished = {
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": SESSION_TIMEOUT_MS,
            "heartbeat.interval.ms": SESSION_TIMEOUT_MS // 4,
            "fetch.wait.max.ms": FETCH_WAIT_MS,
        }
        given = self._settings.kafka.keys() | self._settings.kafka_consumer.keys()
        tuned = {name: value for name, value in wished.items() if name not in given}
        # Whatever the user set for workers: nothing may be skipped.
        safe = {"auto.offset.reset": "earliest", "isolation.level": "read_committed"}
        config = {**consumer_config(self._settings, group), **tuned, **safe}
        # These are of the user's own groups; ours is a classic one, whoever is a member of it.
        return KafkaConsumer({name: value for name, value in config.items() if name not in OF_A_MEMBER})

    def create_topic(self, name: str, *, partitions: int, config: Mapping[str, str]) -> bool:
        """Create a topic, on three brokers where there are so many, of which two must have each record."""
        replicas = min(REPLICAS, self._asking().broker_count())
        safe = {"min.insync.replicas": "2"} if replicas == REPLICAS else {}
        return self._asking().create_topic(name, partitions=partitions, replicas=replicas, config={**safe, **config})

    def takes_bytes(self, topic: str = "") -> int:
        """How large a record a topic takes, or any for which nothing is set; 0 where Kafka does not tell."""
        try:
            return self._asking().takes_bytes(topic)
        except KafkaUnreachable:
            raise
        except RecadoError as error:
            log.debug("how large a record may be is not told", topic=topic, error=str(error))
            return 0

    def delete_before(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Ask Kafka to delete; a refusal is logged, and the records stay."""
        for partition, future in self._asking().delete_before(offsets).items():
            future.add_done_callback(partial(self._deleted, partition))

    def _deleted(self, partition: TopicPartition, future: Future[object]) -> None:
        error = future.exception()
        if error is not None and self._seldom.now(str(error)):
            cause = error.args[0].str() if isinstance(error, KafkaException) else str(error)
            log.warning("old records cannot be deleted", topic=partition.topic, error=cause, remedy="allow Delete")

    def _asking(self) -> Admin:
        with self._lock:
            if self._admin is None:
                self._admin = Admin(self._settings)
            return self._admin
