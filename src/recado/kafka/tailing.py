"""Reading a topic without a group: nothing is committed, so looking changes nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from confluent_kafka import OFFSET_END, KafkaError, KafkaException
from confluent_kafka import Consumer as Client
from confluent_kafka import TopicPartition as Position

from recado.errors import UnknownTopic
from recado.kafka.abstract import Message
from recado.kafka.admin import Admin
from recado.kafka.config import consumer_config
from recado.kafka.failures import client_failure
from recado.kafka.quiet import quiet_logger
from recado.record import TopicPartition
from recado.settings import Settings

__all__ = ["Tail"]

#: librdkafka asks for a group's name even of a reader that joins none; this one never exists in Kafka.
NO_GROUP = "recado-tail"

#: Records that one ``read`` returns at most: so many wait in memory for being shown.
AT_ONCE = 1000

#: Rest between two looks for a broker while none answers, and how long one may take, in seconds.
PROBE_EVERY_S = 1.0
PROBE_TIMEOUT_S = 0.3

#: Going on makes no sense. A refused *group* is not among them: none is used.
_HOPELESS = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
}


class Tail:
    """Reads the partitions that a topic has now, committed transactions only. Not thread-safe; a context manager.

    Raises UnknownTopic, KafkaUnreachable or NotAllowed at once; later an unreachable broker is waited for.
    """

    def __init__(self, settings: Settings, topic: str) -> None:
        self._topic = topic
        self._admin = Admin(settings)
        count = self._admin.topic_partitions().get(topic)
        if count is None:
            remedy = f"recado kafka topics --create --topic {topic} --partitions 3"
            raise UnknownTopic(f"topic {topic} does not exist. Create it with: {remedy}")
        self._partitions = [TopicPartition(topic, number) for number in range(count)]
        config = {**consumer_config(settings, NO_GROUP), "error_cb": self._on_error}
        try:
            # Any: its stubs say Optional wherever a message may be an event instead of a record.
            self._client: Any = Client(config, logger=quiet_logger())
        except KafkaException as error:
            raise client_failure(error, "the consumer's settings") from error
        #: Partitions that still hold records which were there when reading began.
        self._behind: set[TopicPartition] = set()
        self._reachable = True
        self._probe_at = 0.0

    def __enter__(self) -> Tail:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    @property
    def caught_up(self) -> bool:
        """Whether everything that was there when reading began has been read."""
        return not self._behind

    @property
    def partitions(self) -> int:
        """How many are read."""
        return len(self._partitions)

    @property
    def reachable(self) -> bool:
        """Whether a broker answered last, as far as is known now."""
        return self._reachable

    def from_end(self, last: int = 0) -> None:
        """Begin with what comes now, after the ``last`` offsets that each partition holds (0: none)."""
        begins, ends = self._admin.begins(self._partitions, led_only=True), self._ends()
        self._begin({where: max(begins.get(where, 0), end - last) for where, end in ends.items()}, ends)

    def from_beginning(self) -> None:
        """Begin with the oldest record that is kept."""
        self._begin(self._admin.begins(self._partitions, led_only=True), self._ends())

    def from_time(self, timestamp_ms: int) -> None:
        """Begin with the first record of each partition that is not older."""
        self._begin(self._admin.since(self._partitions, timestamp_ms, led_only=True), self._ends())

    def read(self, wait_s: float) -> list[Message]:
        """Return what is there, in offset order by partition; wait up to ``wait_s`` only for the first record."""
        batch = self._client.consume(AT_ONCE, 0)
        if not batch:
            first = self._client.poll(wait_s)
            if first is None:
                self._probe()
                return []
            batch = [first, *self._client.consume(AT_ONCE - 1, 0)]
        return [message for message in batch if message.error() is None or self._is_record(message)]

    def _ends(self) -> dict[TopicPartition, int]:
        return self._admin.ends(self._partitions, led_only=True)

    def _begin(self, positions: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]) -> None:
        self._behind = {where for where, offset in positions.items() if offset < ends.get(where, 0)}
        # A partition without a leader told no offset: it is read from where it stands when it has one again.
        self._client.assign([Position(*where, positions.get(where, OFFSET_END)) for where in self._partitions])

    def _is_record(self, event: Any) -> bool:
        error: KafkaError = event.error()
        if error.code() == KafkaError._PARTITION_EOF:
            self._reachable = True
            self._behind.discard(TopicPartition(event.topic(), event.partition()))
        elif error.fatal() or error.code() in _HOPELESS:
            raise client_failure(error, f"reading topic {self._topic}")
        return False

    def _probe(self) -> None:
        """While no broker answers, look whether one is back: nothing else tells it of an idle topic."""
        if self._reachable or time.monotonic() < self._probe_at:
            return
        try:
            self._client.list_topics(self._topic, timeout=PROBE_TIMEOUT_S)
            self._reachable = True
        except KafkaException:
            self._probe_at = time.monotonic() + PROBE_EVERY_S

    def _on_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._reachable = False
