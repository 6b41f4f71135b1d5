"""Looking at and creating topics on a real cluster."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import Future
from typing import Any, NamedTuple

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection
from confluent_kafka import TopicPartition as Position
from confluent_kafka.admin import AdminClient, ClusterMetadata, ConfigResource, NewTopic, OffsetSpec, ResourceType

from recado.errors import KafkaUnreachable, RecadoError, UnknownTopic
from recado.kafka.answers import AGAIN_S, TIMEOUT_S, answered, listed
from recado.kafka.config import client_config
from recado.kafka.failures import client_failure
from recado.kafka.identity import id_of
from recado.kafka.quiet import quiet_logger
from recado.record import TopicPartition
from recado.settings import Settings

__all__ = ["STABLE_S", "Admin", "Broker", "Cluster", "PartitionLayout", "TopicLayout", "TopicSummary"]

#: Longest wait for the end of a transaction, in seconds: what its producer may take, and the broker's look for that.
STABLE_S = 60.0

#: How long brokers may differ about a topic that has just been made, in seconds.
YOUNG_S = 2.0

#: So long a first connection may take before "no broker answers" is believed, in seconds.
PATIENCE_S = 1.0

#: These come before the mere timeout that they lead to, and tell a person more.
_REASONS = {
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError._SSL,
    KafkaError._RESOLVE,
    KafkaError._TRANSPORT,
}


class TopicSummary(NamedTuple):
    """One topic: how it is laid out and how much it holds (by offsets, before compaction).

    Of ``unseen`` partitions nobody knows how many records they hold, since they have no leader now.
    """

    name: str
    partitions: int
    replicas: int
    records: int
    internal: bool
    unseen: int = 0


class PartitionLayout(NamedTuple):
    """One partition: the broker that leads it (None: nobody now), and how many replicas it has and are in sync."""

    number: int
    leader: int | None
    replicas: int
    in_sync: int


class TopicLayout(NamedTuple):
    """One topic's partitions, in their order, and its configuration."""

    name: str
    partitions: tuple[PartitionLayout, ...]
    config: Mapping[str, str]


class Broker(NamedTuple):
    """One broker, where it tells clients to find it (``advertised.listeners``)."""

    id: int
    host: str
    port: int


class Cluster(NamedTuple):
    """Who answered."""

    id: str
    brokers: tuple[Broker, ...]


class Admin:
    """Asks and tells a real cluster. Every call blocks for ``TIMEOUT_S`` at most, then raises KafkaUnreachable."""

    def __init__(self, settings: Settings) -> None:
        self._errors: dict[int, KafkaError] = {}
        config = {**client_config(settings), "error_cb": lambda error: self._errors.setdefault(error.code(), error)}
        try:
            self.client = AdminClient(config, logger=quiet_logger())
        except KafkaException as error:
            raise client_failure(error, "the Kafka settings") from error
        self._servers = settings.bootstrap_servers

    def topic_partitions(self, *, timeout_s: float = TIMEOUT_S) -> dict[str, int]:
        """Every topic with its partition count."""
        return {name: len(topic.partitions) for name, topic in self._metadata("topics", timeout_s).topics.items()}

    def broker_count(self, *, timeout_s: float = TIMEOUT_S) -> int:
        """How many brokers the cluster has."""
        return len(self._metadata("brokers", timeout_s).brokers)

    def cluster(self, *, timeout_s: float = TIMEOUT_S) -> Cluster:
        """The cluster's id and its brokers, by id."""
        found = self._metadata("brokers", timeout_s)
        brokers = sorted(Broker(broker.id, str(broker.host), broker.port) for broker in found.brokers.values())
        return Cluster(found.cluster_id or "", tuple(brokers))

    def create_topic(
        self, name: str, *, partitions: int, replicas: int = -1, config: Mapping[str, str] | None = None
    ) -> bool:
        """Create a topic; False when it was there already. ``replicas`` -1 takes the cluster's default."""
        wanted = NewTopic(name, num_partitions=partitions, replication_factor=replicas, config=dict(config or {}))
        future = self.client.create_topics([wanted], operation_timeout=TIMEOUT_S)[name]
        try:
            answered(future, f"creating topic {name}")
        except RecadoError as error:
            cause = error.__cause__
            if isinstance(cause, KafkaException) and cause.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
                return False
            raise
        return True

    def delete_before(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, Future[Any]]:
        """Ask for the deletion of the records below these offsets; does not wait for the answers."""
        positions = [Position(where.topic, where.partition, offset) for where, offset in offsets.items()]
        asked = self.client.delete_records(positions, request_timeout=TIMEOUT_S) if positions else {}
        return {TopicPartition(found.topic, found.partition): future for found, future in asked.items()}

    def topics(self) -> list[TopicSummary]:
        """Every topic, sorted by name."""
        found = self._metadata("topics", TIMEOUT_S).topics
        partitions = [TopicPartition(name, number) for name, topic in found.items() for number in topic.partitions]
        begins, ends = self.begins(partitions, led_only=True), self.ends(partitions, led_only=True)
        records, unseen = dict.fromkeys(found, 0), Counter(where.topic for where in partitions if where not in ends)
        for partition, end in ends.items():
            records[partition.topic] += end - begins.get(partition, end)
        return [
            TopicSummary(
                name=name,
                partitions=len(topic.partitions),
                replicas=_replicas(topic.partitions),
                records=records[name],
                internal=name.startswith("__"),
                unseen=unseen[name],
            )
            for name, topic in sorted(found.items())
        ]

    def topic(self, name: str) -> TopicLayout | None:
        """One topic in detail, or None when there is no such topic (asking never creates it)."""
        found = self._metadata("topics", TIMEOUT_S).topics.get(name)
        if found is None:
            return None
        partitions = [
            PartitionLayout(p.id, None if p.leader < 0 else p.leader, len(p.replicas), len(p.isrs))
            for _, p in sorted(found.partitions.items())
        ]
        return TopicLayout(name, tuple(partitions), self._config(ResourceType.TOPIC, name))

    def takes_bytes(self, topic: str = "") -> int:
        """How large a record a topic takes, or any for which nothing is set. Raises RecadoError."""
        if topic:
            return int(self._config(ResourceType.TOPIC, topic)["max.message.bytes"])
        broker = self.cluster().brokers[0]
        return int(self._config(ResourceType.BROKER, str(broker.id))["message.max.bytes"])

    def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        """The ids of topics, which others of the same name do not have; those that are not there are left out.

        A topic that has just been made is asked for again until it is told. Raises RecadoError.
        """
        found: dict[str, str] = {}
        left, began = sorted(set(topics)), time.monotonic()
        while left:
            asked = self.client.describe_topics(TopicCollection(left), request_timeout=TIMEOUT_S)
            left = []
            for name, future in asked.items():
                try:
                    found[name] = id_of(answered(future, f"asking for the id of topic {name}"))
                except UnknownTopic:
                    if time.monotonic() - began <= YOUNG_S:
                        left.append(name)
                except RecadoError:
                    if time.monotonic() - began > TIMEOUT_S:
                        raise
                    left.append(name)
            if left:
                time.sleep(AGAIN_S)
        return {name: topic_id for name, topic_id in found.items() if topic_id}

    def wait_stable(
        self, partitions: list[TopicPartition], *, patience_s: float = STABLE_S
    ) -> dict[TopicPartition, int]:
        """Wait until all that is in these partitions now can be read with read_committed; returns where each ends.

        The end of a transaction is told before its markers stand in the partitions. Raises KafkaUnreachable when that
        takes longer than ``patience_s``.
        """
        ends, deadline = self.ends(partitions), time.monotonic() + patience_s
        left = ends
        while left:
            stable = self.stable_ends(list(left))
            left = {where: end for where, end in left.items() if where in stable and stable[where] < end}
            if left and time.monotonic() > deadline:
                topics = ", ".join(sorted({where.topic for where in left}))
                raise KafkaUnreachable(
                    f"a transaction has been open in {topics} for {patience_s:.0f} s, so nobody knows yet what is "
                    "there. Ask again when it is over; `recado doctor` looks closer."
                )
            if left:
                time.sleep(AGAIN_S)
        return ends

    # Of each partition that exists. One without a leader raises KafkaUnreachable: nobody may take it for an empty one.
    # With ``led_only`` it is left out instead, for lists that say what they can.

    def begins(self, partitions: list[TopicPartition], *, led_only: bool = False) -> dict[TopicPartition, int]:
        """The first offset that each partition still has."""
        return self._offsets(partitions, OffsetSpec.earliest(), led_only=led_only)

    def ends(self, partitions: list[TopicPartition], *, led_only: bool = False) -> dict[TopicPartition, int]:
        """The end offset of each partition (exclusive)."""
        return self._offsets(partitions, OffsetSpec.latest(), led_only=led_only)

    def stable_ends(self, partitions: list[TopicPartition], *, led_only: bool = False) -> dict[TopicPartition, int]:
        """The last stable offset of each partition: up to where read_committed reads."""
        committed = {"isolation_level": IsolationLevel.READ_COMMITTED}
        return self._offsets(partitions, OffsetSpec.latest(), led_only=led_only, **committed)

    def since(
        self, partitions: list[TopicPartition], timestamp_ms: int, *, led_only: bool = False
    ) -> dict[TopicPartition, int]:
        """The first offset of each partition whose record is not older; its end where all are."""
        found = self._offsets(partitions, OffsetSpec.for_timestamp(timestamp_ms), led_only=led_only)
        later = self.ends([partition for partition, offset in found.items() if offset < 0], led_only=led_only)
        return {partition: later.get(partition, offset) for partition, offset in found.items()}

    def newest_ms(self, partitions: list[TopicPartition]) -> int | None:
        """The largest record timestamp in these partitions that have a leader, or None where they hold no record."""
        found = self._list_offsets(partitions, OffsetSpec.max_timestamp(), led_only=True)
        return max((result.timestamp for result in found.values() if result.offset >= 0), default=None)

    def _config(self, kind: ResourceType, name: str) -> dict[str, str]:
        resource = ConfigResource(kind, name)
        future = self.client.describe_configs([resource], request_timeout=TIMEOUT_S)[resource]
        found = answered(future, f"reading the configuration of {kind.name.lower()} {name}")
        return {key: entry.value for key, entry in found.items() if entry.value is not None}

    def _offsets(
        self, partitions: list[TopicPartition], spec: OffsetSpec, *, led_only: bool, **options: IsolationLevel
    ) -> dict[TopicPartition, int]:
        found = self._list_offsets(partitions, spec, led_only=led_only, **options)
        return {partition: result.offset for partition, result in found.items()}

    def _list_offsets(
        self, partitions: list[TopicPartition], spec: OffsetSpec, *, led_only: bool = False, **options: IsolationLevel
    ) -> dict[TopicPartition, Any]:
        def asked(left: Collection[TopicPartition]) -> dict[Position, Future[Any]]:
            positions = {Position(*where): spec for where in left}
            return self.client.list_offsets(positions, request_timeout=TIMEOUT_S, **options)

        doing = f"asking {self._servers} for the offsets of"
        return listed(asked, partitions, doing, counts=self.topic_partitions, led_only=led_only)

    def _metadata(self, what: str, timeout_s: float) -> ClusterMetadata:
        """Ask who and what there is; give up early when librdkafka knows that nobody answers."""
        self._errors.clear()
        deadline = time.monotonic() + timeout_s
        while True:
            left_s = deadline - time.monotonic()
            try:
                return self.client.list_topics(timeout=min(PATIENCE_S, max(left_s, 0.001)))
            except KafkaException as error:
                self.client.poll(0)  # serves the error callback, which knows why
                if left_s <= PATIENCE_S or KafkaError._ALL_BROKERS_DOWN in self._errors:
                    raise client_failure(self._reason(error), f"asking {self._servers} for its {what}") from error

    def _reason(self, error: KafkaException) -> KafkaException | KafkaError:
        """The most telling of the errors so far: a timeout alone tells a person little."""
        return next((self._errors[code] for code in self._errors if code in _REASONS), error)


def _replicas(partitions: Mapping[int, Any]) -> int:
    return len(next(iter(partitions.values())).replicas) if partitions else 0
