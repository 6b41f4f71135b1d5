"""The in-memory twin of a cluster: topics, producers and consumer groups for tests, without Kafka."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Mapping

from recado.clock import wall_clock_ms
from recado.errors import DeliveryFailed, UnknownTopic
from recado.kafka.abstract import Committed, Message, Outlet
from recado.kafka.delivery import Position
from recado.kafka.memory_group import MemoryConsumer, MemoryGroup
from recado.kafka.memory_producer import MemoryProducer
from recado.kafka.memory_reader import MemoryReader
from recado.kafka.memory_transactor import MemoryCoordinator, MemoryTransactor
from recado.record import Headers, Outgoing, TopicPartition

__all__ = ["MemoryKafka", "MemoryMessage", "MemoryTopics"]


class MemoryMessage:
    """One stored record, in the shape of ``abstract.Message``."""

    __slots__ = ("_headers", "_key", "_leader_epoch", "_offset", "_partition", "_timestamp_ms", "_topic", "_value")

    def __init__(self, record: Outgoing, partition: int, offset: int, now_ms: int = 0, leader_epoch: int = 0) -> None:
        self._topic, self._partition, self._offset = record.topic, partition, offset
        self._key, self._value = record.key, record.value
        self._headers: Headers = tuple(record.headers)
        self._leader_epoch = leader_epoch
        self._timestamp_ms = record.timestamp_ms or now_ms or wall_clock_ms()

    def __len__(self) -> int:
        return len(self._value or b"")

    def topic(self) -> str:
        return self._topic

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes | None:
        return self._key

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        return list(self._headers) or None

    def leader_epoch(self) -> int | None:
        return self._leader_epoch

    def timestamp(self) -> tuple[int, int]:
        return 1, self._timestamp_ms


class MemoryKafka:
    """A cluster of one process. Thread-safe; producers, consumers and topics come from its methods.

    ``reachable = False`` is an outage: nothing is stored, read or committed until it is True again.
    """

    def __init__(self, topics: Mapping[str, int] | None = None, *, clock_ms: Callable[[], int] = wall_clock_ms) -> None:
        self._clock_ms = clock_ms
        #: One condition for everything: a test's cluster is small, and one lock has no order to get wrong.
        self.changed = threading.Condition(threading.RLock())
        #: A partition's records by offset; None stands where a transaction marker or a compacted record lies.
        self.logs: dict[TopicPartition, list[Message | None]] = {}
        #: Which topic of a name it is: one that is deleted and made anew is another.
        self.topic_ids: dict[str, int] = {}
        self._groups: dict[str, MemoryGroup] = {}
        self._counts: dict[str, int] = {}
        #: What each topic was created with.
        self.configs: dict[str, dict[str, str]] = {}
        self._next = 0
        self._reachable = True
        #: Under which leader records are written; a higher one after the log was cut.
        self.leader_epoch = 0
        for name, partitions in (topics or {}).items():
            self.create_topic(name, partitions)

    @property
    def reachable(self) -> bool:
        """Whether the cluster answers; set it to stage an outage."""
        return self._reachable

    @reachable.setter
    def reachable(self, value: bool) -> None:
        with self.changed:
            self._reachable = value
            self.changed.notify_all()

    def create_topic(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> bool:
        """Create an empty topic; False when it is there. Groups that subscribe to it rebalance."""
        with self.changed:
            if name in self._counts:
                return False
            self._counts[name] = partitions
            self.configs[name] = dict(config or {})
            self.topic_ids.setdefault(name, 0)
            for number in range(partitions):
                self.logs.setdefault(TopicPartition(name, number), [])
            for group in self._groups.values():
                group.rebalance()
            self.changed.notify_all()
        return True

    def takes_bytes(self, topic: str = "") -> int:
        """What the topic was created with; 0 where that says nothing."""
        return int(self.configs.get(topic, {}).get("max.message.bytes", 0))

    def drop_topic(self, name: str) -> None:
        """Delete a topic that nobody reads now, with its records."""
        with self.changed:
            for number in range(self._counts.pop(name)):
                del self.logs[TopicPartition(name, number)]

    def delete_before(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Forget the records below these offsets; who reads there finds a gap."""
        with self.changed:
            for partition, end in offsets.items():
                stored = self.logs[partition]
                stored[:end] = [None] * min(end, len(stored))

    def recreate_topic(self, name: str, partitions: int = 1) -> None:
        """Delete a topic, and the groups' offsets with it as a broker does, and create it anew, empty."""
        with self.changed:
            self.topic_ids[name] += 1
            self._counts.pop(name)
            for where in [where for where in self.logs if where.topic == name]:
                del self.logs[where]
                for group in self._groups.values():
                    group.offsets.pop(where, None)
            self.create_topic(name, partitions)

    def partition_counts(self) -> dict[str, int]:
        """Every topic with its partition count."""
        with self.changed:
            return dict(self._counts)

    def append(self, record: Outgoing) -> Position:
        """Store one record now. Raises UnknownTopic, DeliveryFailed."""
        with self.changed:
            partition = self._partition_of(record)
            stored = self.logs[TopicPartition(record.topic, partition)]
            message = MemoryMessage(record, partition, len(stored), self._clock_ms(), self.leader_epoch)
            stored.append(message)
            self.changed.notify_all()
            return partition, message.offset(), message.timestamp()[1]

    def send(self, topic: str, *values: bytes | str | None, key: bytes | None = None, partition: int = -1) -> None:
        """Store several values in order: what most tests need."""
        for value in values:
            raw = value.encode() if isinstance(value, str) else value
            self.append(Outgoing(topic, raw, id="", key=key, partition=partition))

    def append_gap(self, partition: TopicPartition) -> None:
        """Use up one offset without a record, as a transaction marker or compaction does."""
        with self.changed:
            self.logs[partition].append(None)
            self.changed.notify_all()

    def producer(
        self,
        *,
        on_unreachable: Callable[[], None] = lambda: None,
        max_records: int = 100_000,
        max_record_bytes: int = 1_048_576,
    ) -> MemoryProducer:
        """A producer (the contract is ``abstract.Producer``)."""
        return MemoryProducer(
            self,
            on_unreachable=on_unreachable,
            max_records=max_records,
            max_record_bytes=max_record_bytes,
        )

    def consumer(self, group: str) -> MemoryConsumer:
        """A member of a group (the contract is ``abstract.Consumer``)."""
        return MemoryConsumer(self, self.group(group))

    def reader(self) -> MemoryReader:
        """A reader of chosen partitions (the contract is ``abstract.Reader``)."""
        return MemoryReader(self)

    def outlet(self) -> Outlet:
        """What a worker sends through."""
        return Outlet(self.producer(), self.topics(), self, self.transactor)

    def coordinator(self, group: str) -> MemoryCoordinator:
        """What is said of a group (the contract is ``abstract.Coordinator``)."""
        return MemoryCoordinator(self, group)

    def transactor(self, group: str) -> MemoryTransactor:
        """Transactions for a group (the contract is ``abstract.Transactor``)."""
        return MemoryTransactor(self)

    def group(self, name: str) -> MemoryGroup:
        """The group of this name; it is there from the first question on, as in Kafka."""
        with self.changed:
            return self._groups.setdefault(name, MemoryGroup(self))

    def topics(self) -> MemoryTopics:
        """The catalog of topics (the contract is ``abstract.Topics``)."""
        return MemoryTopics(self)

    def committed(self, group: str) -> dict[TopicPartition, Committed]:
        """A group's committed offsets."""
        with self.changed:
            return dict(self.group(group).offsets)

    def _partition_of(self, record: Outgoing) -> int:
        count = self._counts.get(record.topic, 0)
        if not count:
            hint = f"Create it with: recado kafka topics --create --topic {record.topic}"
            raise UnknownTopic(f"topic {record.topic}: unknown. {hint}")
        if not -1 <= record.partition < count:
            raise DeliveryFailed(f"topic {record.topic}: unknown partition {record.partition}. It was refused.")
        if record.partition >= 0:
            return record.partition
        if record.key:  # librdkafka's default partitioner; an empty key goes anywhere there, too
            return zlib.crc32(record.key) % count
        self._next += 1
        return self._next % count


class MemoryTopics:
    """Knows the twin's topics at once (the contract is ``abstract.Topics``)."""

    def __init__(self, kafka: MemoryKafka) -> None:
        self._kafka = kafka

    def partitions(self, topic: str) -> int | None:
        """The topic's partition count, or None."""
        return self._kafka.partition_counts().get(topic)

    @property
    def reachable(self) -> bool:
        """Whether the twin is meant to answer."""
        return self._kafka.reachable

    def refresh(self) -> bool:
        """Nothing to ask: what is known is always fresh."""
        return self._kafka.reachable

    @property
    def is_blank(self) -> bool:
        """Whether there is no topic, and the twin is meant not to answer."""
        return not (self._kafka.partition_counts() or self._kafka.reachable)

    def suspect(self) -> None:
        """Nothing to look at: what is known is always fresh."""

    def names(self) -> list[str]:
        """Every topic, sorted."""
        return sorted(self._kafka.partition_counts())

    def close(self) -> None:
        """Nothing to stop."""
