"""Looking at single records of a partition, without a group."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from confluent_kafka import Consumer as Client
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as Position

from recado.errors import KafkaUnreachable
from recado.kafka.abstract import Message
from recado.kafka.config import consumer_config
from recado.kafka.failures import client_failure
from recado.kafka.quiet import quiet_logger
from recado.record import TopicPartition
from recado.settings import Settings

__all__ = ["Peek"]

#: librdkafka asks for a group's name even of a reader that joins none; this one never exists in Kafka.
NO_GROUP = "recado-peek"

#: How long Kafka may take to send records that are there, in seconds.
ANSWER_S = 10.0

#: Records read at a time, and how far apart wanted offsets may be to be read in one go.
AT_ONCE = 200


class Peek:
    """Reads records by their offsets. Not thread-safe; a context manager."""

    def __init__(self, settings: Settings) -> None:
        wished = {"queued.min.messages": AT_ONCE, "fetch.wait.max.ms": 50}
        try:
            # Any: its stubs say Optional wherever a message may be an event instead of a record.
            self._client: Any = Client({**consumer_config(settings, NO_GROUP), **wished}, logger=quiet_logger())
        except KafkaException as error:
            raise client_failure(error, "the consumer's settings") from error

    def __enter__(self) -> Peek:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def at(self, where: TopicPartition, offsets: Sequence[int]) -> dict[int, Message]:
        """The records at these ascending offsets; what is no record (any more) is left out.

        Raises RecadoError, KafkaUnreachable where Kafka does not answer within ``ANSWER_S``.
        """
        found: dict[int, Message] = {}
        wanted = list(offsets) if self._is_there(where) else []
        while wanted:
            near = [offset for offset in wanted if offset < wanted[0] + AT_ONCE]
            self._read(where, near, found)
            wanted = wanted[len(near) :]
        return found

    def _is_there(self, where: TopicPartition) -> bool:
        """Whether the partition exists: Kafka says nothing of one that does not."""
        try:
            topics = self._client.list_topics(where.topic, timeout=ANSWER_S).topics
        except KafkaException as error:
            raise client_failure(error, f"reading {where.topic}/{where.partition}") from error
        return where.topic in topics and where.partition in topics[where.topic].partitions

    def _read(self, where: TopicPartition, offsets: list[int], found: dict[int, Message]) -> None:
        self._client.assign([Position(*where, offsets[0])])
        heard_at = time.monotonic()
        while True:
            batch = self._client.consume(AT_ONCE, 0.2)
            if batch:
                heard_at = time.monotonic()
            elif time.monotonic() - heard_at > ANSWER_S:
                raise KafkaUnreachable(
                    f"reading {where.topic}/{where.partition}: Kafka has said nothing for {ANSWER_S:.0f} s. "
                    "`recado doctor` looks closer."
                )
            for message in batch:
                error: KafkaError | None = message.error()
                if error is not None and error.code() == KafkaError._PARTITION_EOF:
                    return
                if error is not None:
                    raise client_failure(error, f"reading {where.topic}/{where.partition}")
                if message.offset() in offsets:
                    found[message.offset()] = message
                if not offsets[0] <= message.offset() < offsets[-1]:  # lower: they are beyond the end, so it began anew
                    return
