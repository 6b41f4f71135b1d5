"""Looking at and creating topics and groups on a real cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException
from confluent_kafka import TopicPartition as Position
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from recado.errors import RecadoError
from recado.kafka.config import client_config
from recado.kafka.failures import client_failure
from recado.kafka.quiet import quiet_logger
from recado.record import TopicPartition
from recado.settings import Settings

__all__ = ["Admin", "GroupLag", "TopicSummary"]

#: Longest wait for the cluster's answer to one question, in seconds.
TIMEOUT_S = 10.0


class TopicSummary(NamedTuple):
    """One topic: how it is laid out and how much it holds (by offsets, before compaction)."""

    name: str
    partitions: int
    replicas: int
    records: int
    internal: bool


class GroupLag(NamedTuple):
    """How far one group is in one partition; ``committed`` is None where it never committed."""

    group: str
    topic: str
    partition: int
    committed: int | None
    end: int
    metadata: str

    @property
    def lag(self) -> int | None:
        """Records between the committed offset and the end."""
        return None if self.committed is None else max(0, self.end - self.committed)


class Admin:
    """Asks and tells a real cluster. Every call blocks for ``TIMEOUT_S`` at most, then raises KafkaUnreachable."""

    def __init__(self, settings: Settings) -> None:
        try:
            self._client = AdminClient(client_config(settings), logger=quiet_logger())
        except KafkaException as error:
            raise client_failure(error, "the Kafka settings") from error
        self._servers = settings.bootstrap_servers

    def topic_partitions(self, *, timeout_s: float = TIMEOUT_S) -> dict[str, int]:
        """Every topic with its partition count."""
        try:
            found = self._client.list_topics(timeout=timeout_s).topics
        except KafkaException as error:
            raise client_failure(error, f"asking {self._servers} for its topics") from error
        return {name: len(topic.partitions) for name, topic in found.items()}

    def broker_count(self, *, timeout_s: float = TIMEOUT_S) -> int:
        """How many brokers the cluster has."""
        try:
            return len(self._client.list_topics(timeout=timeout_s).brokers)
        except KafkaException as error:
            raise client_failure(error, f"asking {self._servers} for its brokers") from error

    def create_topic(self, name: str, *, partitions: int, replicas: int = -1) -> bool:
        """Create a topic; False when it was there already. ``replicas`` -1 takes the cluster's default."""
        future = self._client.create_topics(
            [NewTopic(name, num_partitions=partitions, replication_factor=replicas)], operation_timeout=TIMEOUT_S
        )[name]
        try:
            future.result(TIMEOUT_S + 1)
        except KafkaException as error:
            if error.args[0].name() == "TOPIC_ALREADY_EXISTS":
                return False
            raise client_failure(error, f"creating topic {name}") from error
        return True

    def topics(self) -> list[TopicSummary]:
        """Every topic, sorted by name."""
        try:
            found = self._client.list_topics(timeout=TIMEOUT_S).topics
        except KafkaException as error:
            raise client_failure(error, f"asking {self._servers} for its topics") from error
        partitions = [TopicPartition(name, number) for name, topic in found.items() for number in topic.partitions]
        begins, ends = self.offsets(partitions, OffsetSpec.earliest()), self.ends(partitions)
        return [
            TopicSummary(
                name,
                len(topic.partitions),
                len(next(iter(topic.partitions.values())).replicas) if topic.partitions else 0,
                sum(
                    ends.get(TopicPartition(name, number), 0) - begins.get(TopicPartition(name, number), 0)
                    for number in topic.partitions
                ),
                name.startswith("__"),
            )
            for name, topic in sorted(found.items())
        ]

    def ends(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """The end offset of each partition (exclusive)."""
        return self.offsets(partitions, OffsetSpec.latest())

    def offsets(self, partitions: list[TopicPartition], spec: OffsetSpec) -> dict[TopicPartition, int]:
        """The offset that ``spec`` names in each partition; one that has no leader now is left out."""
        if not partitions:
            return {}
        futures = self._client.list_offsets({Position(*p): spec for p in partitions}, request_timeout=TIMEOUT_S)
        found = {}
        for position, future in futures.items():
            try:
                found[TopicPartition(position.topic, position.partition)] = future.result(TIMEOUT_S + 1).offset
            except KafkaException:
                continue
        return found

    def groups(self) -> dict[str, str]:
        """Every consumer group with its state, sorted by name."""
        try:
            listed = self._client.list_consumer_groups(request_timeout=TIMEOUT_S).result(TIMEOUT_S + 1)
        except KafkaException as error:
            raise client_failure(error, f"asking {self._servers} for its groups") from error
        return {group.group_id: group.state.name.lower() for group in sorted(listed.valid, key=lambda g: g.group_id)}

    def lag(self, group: str) -> list[GroupLag]:
        """How far the group is in every partition that it ever committed."""
        request = ConsumerGroupTopicPartitions(group)
        future = self._client.list_consumer_group_offsets([request], request_timeout=TIMEOUT_S)[group]
        try:
            positions = future.result(TIMEOUT_S + 1).topic_partitions
        except KafkaException as error:
            raise client_failure(error, f"reading the offsets of group {group}") from error
        ends = self.ends([TopicPartition(p.topic, p.partition) for p in positions])
        return [
            GroupLag(
                group,
                p.topic,
                p.partition,
                p.offset if p.offset >= 0 else None,
                ends.get(TopicPartition(p.topic, p.partition), 0),
                p.metadata or "",
            )
            for p in sorted(positions, key=lambda p: (p.topic, p.partition))
        ]

    def members(self, group: str) -> Iterator[tuple[str, str, list[TopicPartition]]]:
        """(member id, client id @ host, what it holds) of each member of a group now."""
        future = self._client.describe_consumer_groups([group], request_timeout=TIMEOUT_S)[group]
        try:
            described = future.result(TIMEOUT_S + 1)
        except KafkaException as error:
            raise client_failure(error, f"describing group {group}") from error
        except Exception as error:  # confluent_kafka wraps some refusals in plain errors
            raise RecadoError(f"describing group {group}: {error}") from error
        for member in described.members:
            held = [TopicPartition(p.topic, p.partition) for p in member.assignment.topic_partitions]
            yield member.member_id, f"{member.client_id}@{member.host}", held
