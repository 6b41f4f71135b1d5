"""Reading a topic without a group: nothing is committed, so looking changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

from confluent_kafka import Consumer as Client
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as Position

from recado.errors import UnknownTopic
from recado.kafka.abstract import Message
from recado.kafka.config import consumer_config
from recado.kafka.failures import client_failure
from recado.kafka.quiet import quiet_logger
from recado.settings import Settings

__all__ = ["Tail"]

#: Longest wait for the cluster's answer to one question, in seconds.
TIMEOUT_S = 10.0


class Tail:
    """Reads every partition of a topic, committed transactions only. Not thread-safe; use it as a context manager."""

    def __init__(self, settings: Settings, topic: str) -> None:
        config = {**consumer_config(settings, "recado-tail"), "enable.partition.eof": False}
        self._client = Client(config, logger=quiet_logger())
        self._topic = topic
        try:
            found = self._client.list_topics(topic, timeout=TIMEOUT_S).topics[topic]
        except KafkaException as error:
            raise client_failure(error, f"asking {settings.bootstrap_servers} for topic {topic}") from error
        if found.error is not None:
            raise UnknownTopic(
                f"topic {topic} does not exist. Create it with: recado kafka topics --create --topic {topic}"
            )
        self._partitions = sorted(found.partitions)

    def __enter__(self) -> Tail:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def from_end(self, last: int = 0) -> None:
        """Begin with what comes now, after about the ``last`` records that are there."""
        share = -(-last // len(self._partitions))
        positions = []
        for partition in self._partitions:
            low, high = self._client.get_watermark_offsets(Position(self._topic, partition), timeout=TIMEOUT_S)
            positions.append(Position(self._topic, partition, max(low, high - share)))
        self._client.assign(positions)

    def from_beginning(self) -> None:
        """Begin with the oldest record that is kept."""
        self.from_end(last=2**62)

    def from_time(self, timestamp_ms: int) -> None:
        """Begin with the first record of each partition that is not older."""
        asked = [Position(self._topic, partition, timestamp_ms) for partition in self._partitions]
        try:
            self._client.assign(self._client.offsets_for_times(asked, timeout=TIMEOUT_S))
        except KafkaException as error:
            raise client_failure(error, f"finding the time in topic {self._topic}") from error

    def read(self, wait_s: float) -> Iterator[Message]:
        """Yield what is there now; wait up to ``wait_s`` for the first."""
        for message in self._client.consume(1000, wait_s):
            error = message.error()
            if error is None:
                yield message
            elif error.fatal() or error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                raise client_failure(error, f"reading topic {self._topic}")
