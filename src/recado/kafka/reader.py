"""A reader of chosen partitions on a real cluster, beside the member of a group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException
from confluent_kafka import Consumer as Client
from confluent_kafka import TopicPartition as Position

from recado.kafka.abstract import Message
from recado.kafka.config import OF_A_MEMBER, consumer_config
from recado.kafka.failures import client_failure
from recado.kafka.quiet import Seldom, quiet_logger
from recado.record import TopicPartition
from recado.settings import Settings

__all__ = ["KafkaReader"]

log = structlog.get_logger(__name__)

_HOPELESS = {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED}


class KafkaReader:
    """Reads by assignment only (the contract is ``abstract.Reader``): it joins no group and commits nothing."""

    def __init__(self, settings: Settings, group: str) -> None:
        given = consumer_config(settings, group)
        config = {name: value for name, value in given.items() if name not in OF_A_MEMBER}
        safe = {"auto.offset.reset": "earliest", "isolation.level": "read_committed", "error_cb": self._on_error}
        self._seldom = Seldom()
        try:
            # Any: its stubs say Optional wherever a message may be an event instead of a record.
            self._client: Any = Client({**config, **safe}, logger=quiet_logger())
        except KafkaException as error:
            raise client_failure(error, "the reader's settings") from error
        self._closed = False

    def add(self, starts: Mapping[TopicPartition, int | None]) -> None:
        """Read these, too."""
        self._client.incremental_assign(
            [Position(*where, OFFSET_BEGINNING if start is None else start) for where, start in starts.items()]
        )

    def drop(self, partitions: Sequence[TopicPartition]) -> None:
        """Read these no more."""
        positions = [Position(*where) for where in partitions]
        self._client.resume(positions)  # librdkafka keeps a paused one paused, even when it comes back
        self._client.incremental_unassign(positions)

    def read(self, max_records: int, timeout_s: float) -> tuple[list[Message], dict[TopicPartition, int]]:
        """Return what is there, and the ends that were reached."""
        ends: dict[TopicPartition, int] = {}
        found: list[Message] = []
        for message in self._client.consume(max_records, timeout_s):
            error = message.error()
            if error is None:
                found.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                ends[TopicPartition(message.topic(), message.partition())] = message.offset()
            elif error.fatal() or error.code() in _HOPELESS:
                raise client_failure(error, f"reading {message.topic() or 'topics'}")
            elif self._seldom.now(error.name()):
                log.warning("reader error", topic=message.topic(), error=error.str())
        return found, ends

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Fetch no more from these until ``resume``."""
        self._client.pause([Position(*where) for where in partitions])

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """Fetch from these again."""
        self._client.resume([Position(*where) for where in partitions])

    def close(self) -> None:
        """Read no more."""
        if not self._closed:
            self._closed = True
            self._client.close()

    def _on_error(self, error: KafkaError) -> None:
        """The consumer beside it says the same, louder."""
        log.debug("reader", error=error.str())
