"""Reading ranges of partitions as fast as they come, without a group: looking changes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from confluent_kafka import Consumer as Client
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as Position

from recado.errors import KafkaUnreachable
from recado.kafka.abstract import Message
from recado.kafka.config import OF_A_MEMBER, consumer_config
from recado.kafka.failures import client_failure
from recado.kafka.quiet import quiet_logger
from recado.record import TopicPartition
from recado.settings import Settings

__all__ = ["FAST", "SPARING", "Pace", "Range", "Scan"]

#: librdkafka asks for a group's name even of a reader that joins none; this one never exists in Kafka.
NO_GROUP = "recado-scan"


class Pace(NamedTuple):
    """How far ahead is read: what waits in memory, and how soon the first records are there."""

    #: Records that come at once, and the longest wait for them in seconds: librdkafka waits so long for a full batch.
    at_once: int
    wait_s: float
    #: Properties of the client that go with them.
    properties: Mapping[str, Any] = {}


#: As many records a second as can be.
FAST = Pace(5_000, 0.05)

#: A few megabytes at a time, however large records are, and the first at once. Dead letters with a stack of 2 KB each
#: were read as fast as by the other, the first 10,000 three times as fast.
SPARING = Pace(
    200,
    0.005,
    {"queued.min.messages": 200, "queued.max.messages.kbytes": 1024, "fetch.message.max.bytes": 65_536},
)

#: How long Kafka may be silent while records are wanted that are there, in seconds.
SILENT_S = 15.0


class Range(NamedTuple):
    """Offsets of a partition, from ``first`` to before ``end``."""

    first: int
    end: int


class Scan:
    """Reads what committed transactions and plain records there are in ranges. Not thread-safe; a context manager."""

    def __init__(self, settings: Settings, pace: Pace = FAST) -> None:
        self._pace = pace
        given = consumer_config(settings, NO_GROUP)
        config = {name: value for name, value in given.items() if name not in OF_A_MEMBER}
        wished = {"fetch.wait.max.ms": 20, "isolation.level": "read_committed", **pace.properties}
        try:
            # Any: its stubs say Optional wherever a message may be an event instead of a record.
            self._client: Any = Client({**config, **wished}, logger=quiet_logger())
        except KafkaException as error:
            raise client_failure(error, "the consumer's settings") from error

    def __enter__(self) -> Scan:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def read(self, ranges: Mapping[TopicPartition, Range]) -> Iterator[list[Message]]:
        """Yield the records, those of a partition in offset order. What is no record (any more) is left out.

        A range that reaches beyond the last stable offset ends there. Raises RecadoError, KafkaUnreachable where Kafka
        says nothing for ``SILENT_S``.
        """
        left = {where: span for where, span in ranges.items() if span.first < span.end}
        if not left:
            return
        self._client.assign([Position(*where, span.first) for where, span in left.items()])
        heard_at = time.monotonic()
        while left:
            batch = self._client.consume(self._pace.at_once, self._pace.wait_s)
            if batch:
                heard_at = time.monotonic()
            elif time.monotonic() - heard_at > SILENT_S:
                topics = ", ".join(sorted({where.topic for where in left}))
                raise KafkaUnreachable(f"reading {topics}: Kafka has said nothing for {SILENT_S:.0f} s.")
            found, ended = _sorted_out(batch, left)
            for where in ended:
                del left[where]
            if ended and left:
                self._client.incremental_unassign([Position(*where) for where in ended])
            if found:
                yield found
        self._client.unassign()


def _sorted_out(batch: list[Any], left: Mapping[TopicPartition, Range]) -> tuple[list[Message], set[TopicPartition]]:
    """The records of a batch that are wanted, and the ranges that are read."""
    found: list[Message] = []
    ended: set[TopicPartition] = set()
    for message in batch:
        where = TopicPartition(message.topic(), message.partition())
        error: KafkaError | None = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                if where in left:
                    ended.add(where)
                continue
            if error.code() in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT):
                continue
            raise client_failure(error, f"reading {where.topic}/{where.partition}")
        span = left.get(where)
        if span is None:
            continue
        offset = message.offset()
        if offset < span.end:
            found.append(message)
        if offset >= span.end - 1:
            ended.add(where)
    return found, ended
