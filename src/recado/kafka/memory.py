"""The in-memory twin of a cluster: topics, producers and consumer groups for tests, without Kafka."""

from __future__ import annotations

import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from recado.errors import Backpressure, RecadoError, RecordTooLarge, UnknownTopic
from recado.kafka.abstract import Committed, Message
from recado.kafka.delivery import Delivery, Position
from recado.kafka.memory_group import MemoryConsumer, MemoryGroup
from recado.record import Headers, Outgoing, TopicPartition

__all__ = ["MemoryKafka", "MemoryMessage", "MemoryProducer", "MemoryTopics"]


class MemoryMessage:
    """One stored record, in the shape of ``abstract.Message``."""

    __slots__ = ("_headers", "_key", "_offset", "_partition", "_timestamp_ms", "_topic", "_value")

    def __init__(self, record: Outgoing, partition: int, offset: int) -> None:
        self._topic, self._partition, self._offset = record.topic, partition, offset
        self._key, self._value = record.key, record.value
        self._headers: Headers = tuple(record.headers)
        self._timestamp_ms = record.timestamp_ms or time.time_ns() // 1_000_000

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

    def timestamp(self) -> tuple[int, int]:
        return 1, self._timestamp_ms


class MemoryKafka:
    """A cluster of one process. Thread-safe; producers, consumers and topics come from its methods.

    ``reachable = False`` is an outage: nothing is stored, read or committed until it is True again.
    """

    def __init__(self, topics: Mapping[str, int] | None = None) -> None:
        #: One condition for everything: a test's cluster is small, and one lock has no order to get wrong.
        self.changed = threading.Condition(threading.RLock())
        #: A partition's records by offset; None stands where a transaction marker or a compacted record lies.
        self.logs: dict[TopicPartition, list[Message | None]] = {}
        self._groups: dict[str, MemoryGroup] = {}
        self._counts: dict[str, int] = {}
        self._next = 0
        self._reachable = True
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

    def create_topic(self, name: str, partitions: int = 1) -> None:
        """Create an empty topic; groups that subscribe to it rebalance."""
        with self.changed:
            self._counts[name] = partitions
            for number in range(partitions):
                self.logs.setdefault(TopicPartition(name, number), [])
            for group in self._groups.values():
                group.rebalance()
            self.changed.notify_all()

    def partition_counts(self) -> dict[str, int]:
        """Every topic with its partition count."""
        with self.changed:
            return dict(self._counts)

    def append(self, record: Outgoing) -> Position:
        """Store one record now. Raises UnknownTopic."""
        with self.changed:
            partition = self._partition_of(record)
            stored = self.logs[TopicPartition(record.topic, partition)]
            message = MemoryMessage(record, partition, len(stored))
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
        if not 0 <= record.partition < count and (record.partition != -1 or not count):
            name = f"topic {record.topic}" if not count else f"topic {record.topic} partition {record.partition}"
            raise UnknownTopic(f"{name}: unknown. Create it with: recado kafka topics --create --topic {record.topic}")
        if record.partition >= 0:
            return record.partition
        if record.key is not None:
            return zlib.crc32(record.key) % count  # librdkafka's default partitioner
        self._next += 1
        return self._next % count


class MemoryProducer:
    """Writes to the twin; reports come from a thread of its own, as with a real cluster."""

    def __init__(
        self,
        kafka: MemoryKafka,
        *,
        on_unreachable: Callable[[], None],
        max_records: int,
        max_record_bytes: int,
    ) -> None:
        self._kafka = kafka
        self._on_unreachable = on_unreachable
        self._max_records, self._max_record_bytes = max_records, max_record_bytes
        self._queue: deque[tuple[Delivery, int, bool]] = deque()
        self._outstanding = 0
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="recado-memory-reports", daemon=True)
        self._thread.start()

    def send(self, delivery: Delivery) -> None:
        """Queue the delivery's records in their order (see ``abstract.Producer``)."""
        with self._kafka.changed:
            for index in range(len(delivery.records)):
                full = self._outstanding >= self._max_records
                self._outstanding += 1
                self._queue.append((delivery, index, full))
            self._kafka.changed.notify_all()

    def outstanding(self) -> int:
        """Count the records whose report is still to come."""
        return self._outstanding

    def close(self, timeout_s: float) -> int:
        """Wait for reports, then stop."""
        with self._kafka.changed:
            self._kafka.changed.wait_for(lambda: self._outstanding == 0, timeout_s)
            left = self._outstanding
            self._closed = True
            self._kafka.changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)
        return left

    def _serve(self) -> None:
        while not self._closed:
            if taken := self._take():
                for delivery, index, full in taken:
                    delivery.settle(index, self._fate(delivery.records[index], full))
                with self._kafka.changed:
                    self._outstanding -= len(taken)
                    self._kafka.changed.notify_all()
            elif not self._closed:
                self._on_unreachable()
                self._wait_for_cluster()

    def _take(self) -> list[tuple[Delivery, int, bool]]:
        """What is queued, once something is; nothing while the cluster is away or when closed."""
        with self._kafka.changed:
            self._kafka.changed.wait_for(lambda: self._queue or self._closed)
            taken = list(self._queue) if self._kafka.reachable else []
            if taken:
                self._queue.clear()
            return taken

    def _wait_for_cluster(self) -> None:
        with self._kafka.changed:
            self._kafka.changed.wait_for(lambda: self._kafka.reachable or self._closed)

    def _fate(self, record: Outgoing, full: bool) -> Position | RecadoError:
        if full:
            return Backpressure("The producer's queue is full: Kafka takes records slower than they come.")
        if len(record.value or b"") + len(record.key or b"") > self._max_record_bytes:
            return RecordTooLarge(f"topic {record.topic}: the record is too large.")
        try:
            return self._kafka.append(record)
        except UnknownTopic as error:
            return error


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

    def names(self) -> list[str]:
        """Every topic, sorted."""
        return sorted(self._kafka.partition_counts())

    def mark_unreachable(self, *_: Any) -> None:
        """Nothing to note: the twin knows by itself."""

    def close(self) -> None:
        """Nothing to stop."""
