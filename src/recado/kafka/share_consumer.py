"""The share consumer on a real cluster: a member of a share group (Kafka 4.2 and later; a preview in librdkafka)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog
from confluent_kafka import AcknowledgeType, KafkaError, KafkaException
from confluent_kafka import ShareConsumer as Client
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from recado.errors import KafkaUnreachable, RecadoError
from recado.kafka.answers import answered
from recado.kafka.config import client_config
from recado.kafka.failures import client_failure, is_unreachable
from recado.kafka.lending import ShareMessage, Verdict
from recado.kafka.quiet import Seldom, quiet_logger
from recado.settings import Settings

__all__ = ["KafkaShareConsumer"]

log = structlog.get_logger(__name__)

#: How long brokers may take to answer what is given back, in seconds.
GIVE_BACK_S = 10.0

#: How long the group's settings may take to be made, in seconds.
SETTINGS_S = 10.0

#: What the group shall be like: share groups begin at the end and read uncommitted records unless they are told.
_GROUP = {"share.auto.offset.reset": "earliest", "share.isolation.level": "read_committed"}

_ACKNOWLEDGE = {
    Verdict.ACCEPT: AcknowledgeType.ACCEPT,
    Verdict.RELEASE: AcknowledgeType.RELEASE,
    Verdict.REJECT: AcknowledgeType.REJECT,
}

#: Properties of consumers that a share consumer does not take: the group decides, or nobody.
_NOT_FOR_SHARES = (
    "auto.offset.reset",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "group.instance.id",
    "group.protocol",
    "heartbeat.interval.ms",
    "isolation.level",
    "partition.assignment.strategy",
    "session.timeout.ms",
)

_HOPELESS = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.UNSUPPORTED_VERSION,
    KafkaError._AUTHENTICATION,
    KafkaError._UNSUPPORTED_FEATURE,
    KafkaError._FATAL,
}


class KafkaShareConsumer:
    """Borrows from a real cluster (the contract is ``abstract.ShareConsumer``). ``most`` records at once."""

    def __init__(self, settings: Settings, group: str, most: int) -> None:
        self._settings, self._group = settings, group
        self._reachable = True
        self._seldom = Seldom()
        self._closed = False
        given = {**client_config(settings), **settings.kafka_consumer}
        config = {name: value for name, value in given.items() if name not in _NOT_FOR_SHARES}
        fixed = {"group.id": group, "share.acknowledgement.mode": "explicit", "max.poll.records": most}
        try:
            self._client: Any = Client({**config, **fixed, "error_cb": self._on_error}, logger=quiet_logger())
        except KafkaException as error:
            raise client_failure(error, "the share consumer's settings") from error

    @property
    def reachable(self) -> bool:
        """Whether a broker answered last."""
        return self._reachable

    def subscribe(self, topics: Sequence[str]) -> None:
        """Join the group for these topics."""
        self._set_up_group()
        self._client.subscribe(list(topics))

    def poll(self, timeout_s: float) -> list[ShareMessage]:
        """Borrow some records."""
        try:
            found = list(self._client.poll(timeout_s))
        except KafkaException as error:
            self._judge(error.args[0])
            return []
        borrowed = [message for message in found if message.error() is None]
        for message in found:
            if message.error() is not None:
                self._judge(message.error())
        if borrowed:
            self._reachable = True
        return borrowed

    def give_back(self, verdicts: Sequence[tuple[ShareMessage, Verdict]]) -> set[tuple[str, int, int]]:
        """Give every borrowed record back."""
        for message, verdict in verdicts:
            self._client.acknowledge(message, _ACKNOWLEDGE[verdict])
        try:
            answers = self._client.commit_sync(GIVE_BACK_S)
        except KafkaException as error:
            self._judge(error.args[0])
            return {(message.topic(), message.partition(), message.offset()) for message, _ in verdicts}
        refused = {(where.topic, where.partition) for where, failure in answers.items() if failure is not None}
        for where, failure in answers.items():
            if failure is not None and self._seldom.now(str(failure)):
                log.warning("a share was taken back", topic=where.topic, partition=where.partition, error=str(failure))
        places = ((message.topic(), message.partition(), message.offset()) for message, _ in verdicts)
        return {place for place in places if place[:2] in refused}

    def close(self) -> None:
        """Leave the group."""
        if not self._closed:
            self._closed = True
            self._client.close()

    def _set_up_group(self) -> None:
        """A group's settings outlive it, so this changes nothing the second time."""
        admin = AdminClient(client_config(self._settings), logger=quiet_logger())
        entries = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in _GROUP.items()
        ]
        resource = ConfigResource(ConfigResource.Type.GROUP, self._group, incremental_configs=entries)
        future = admin.incremental_alter_configs([resource], request_timeout=SETTINGS_S)[resource]
        try:
            answered(future, f"setting up share group {self._group} (needs Kafka 4.2 or later)")
        except KafkaUnreachable as error:
            log.warning("share group not set up, it begins as the cluster says", error=str(error))

    def _judge(self, error: KafkaError) -> None:
        if error.fatal() or error.code() in _HOPELESS:
            failure: RecadoError = client_failure(error, f"reading as share group {self._group}")
            raise failure
        self._on_error(error)

    def _on_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._reachable = False
        event = "kafka unreachable, waiting for it" if is_unreachable(error) else "kafka error"
        if self._seldom.now(event + error.name()):
            log.warning(event, error=error.str(), code=error.name())
